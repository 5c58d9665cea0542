"""The page of a run: one file that needs no network, drawn in the browser by plotly.js.

plotly.js lies in the plotly package as one file, draws 100,000 points on the GPU, and has parallel
coordinates whose axes can be brushed. Vega-Lite draws on the CPU, and takes parallel coordinates as
a row for each hyp of each generation.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from tmuxevolve.charts import require, series
from tmuxevolve.charts.importance import importance
from tmuxevolve.charts.series import Axis, Sample
from tmuxevolve.session.results import Run

_POINTS, _LINES, _TOP = 2000, 1000, 10


def check() -> None:
    """Raise MissingError without plotly."""
    require("report", "plotly")


def save(run: Run, title: str, path: Path) -> None:
    """Write a run's page. Raises NothingFoundError, OSError."""
    run.check()
    path.write_text(page(run, title), encoding="utf-8")


def page(run: Run, title: str) -> str:
    """Return a run's page."""
    from plotly.offline import get_plotlyjs

    plotly, script = get_plotlyjs(), _part("charts.js") + _part("page.js")
    return Template(_part("page.html")).substitute(
        # Whatever a study's names hold: no other script runs, and nothing is fetched.
        allowed=" ".join(map(_digest, (plotly, script))),
        title=html.escape(title),
        style=_part("page.css"),
        data=_json(_data(run, title)),
        plotly=plotly,
        script=script,
    )


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(value: object) -> str:
    """Return a value as JSON that no text in it can end before its time."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def _data(run: Run, title: str) -> Mapping[str, Any]:
    names, where = tuple(run.points[0].hyp), series.axis(run)
    index = {id(point): number for number, point in enumerate(run.points)}
    lines = series.sample(run, _LINES)
    return {
        "title": title,
        "results": os.fsencode(run.results).decode(errors="replace"),
        "seen": time.time(),
        "budget": run.budget,
        "problem": run.problem,
        "maximize": run.layout.direction == "maximize",
        "decades": series.DECADES,
        "metrics": run.layout.metrics if len(run.layout.metrics) > 1 else (),
        "names": names,
        "base": [run.base[name] for name in names],
        "varied": [names.index(name) for name in run.varied],
        "windows": series.windows(run),
        "time": _where(run, where) if where.timed else None,
        "order": _where(run, series.order(run)),
        "points": _columns(run, names),
        "best": index[id(run.ranked[0])],
        "top": [index[id(point)] for point in run.ranked[:_TOP]],
        "drawn": _sample(series.sample(run, _POINTS), index),
        "lines": _sample(lines, index),
        "limits": series.limits(lines),
        "importance": importance(run),
    }


def _where(run: Run, axis: Axis) -> Mapping[str, Any]:
    line = series.running_best(run, axis)
    return {"label": axis.label, "values": axis.values, "line": line}


def _columns(run: Run, names: Sequence[str]) -> Mapping[str, Any]:
    windows = {name: number for number, name in enumerate(series.windows(run))}
    points = run.points
    return {
        "number": [point.number for point in points],
        "fitness": [point.fitness if point.counts else None for point in points],
        "metrics": [*zip(*(point.metrics for point in points), strict=True)],
        "hyps": [[point.hyp[name] for point in points] for name in names],
        "window": [windows[series.window(point)] for point in points],
        "ended": [point.ended for point in points],
        "duration": [point.duration for point in points],
    }


def _sample(sample: Sample, index: Mapping[int, int]) -> Mapping[str, Any]:
    # In the order in which they are drawn: the best ones last, on top.
    return {"points": [index[id(point)] for point in sample.points[::-1]], "note": sample.note}
