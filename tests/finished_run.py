"""Runs for the tests that look at results: made by real workers of a study, without trainings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from study_worker import BASE

from tmuxevolve.study import definition, rows
from tmuxevolve.study.definition import Definition
from tmuxevolve.study.files import Files, yaml_lines
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.mutation import META, Bounds
from tmuxevolve.study.rows import YOLOV5, Layout
from tmuxevolve.study.study import Study
from tmuxevolve.study.values import Reservation, Result, Search

BUDGET = 1000
BEGAN = 1_795_452_026.0
FITNESS = Layout(metrics=("fitness",), weights=(1.0,))


def make(results: Path, count: int, *, diverged: int = 0, hyps: int = 29) -> None:
    """Let two windows finish so many generations of YOLOv5's hyps; the last ones diverge."""
    names = ("gpu0-0123456789abcdef", "gpu10-w1-0123456789abcdef")
    base = dict([*BASE.items()][:hyps])
    workers = [define(results, base, YOLOV5, worker, META) for worker in names]
    for number in range(count):
        worker = workers[number % 2]
        reservation = worker.ask()
        assert reservation
        worker.tell(reservation, _result(reservation, number, nan=number >= count - diverged))
        folder = worker.files.generation(reservation.number)
        folder.mkdir(parents=True)
        (folder / "hyp.yaml").write_text(yaml_lines(reservation.hyp))
    for worker in workers:
        worker.leave()


def _result(reservation: Reservation, number: int, *, nan: bool) -> Result:
    found = sum(value / (1 + value) for value in reservation.hyp.values()) / len(reservation.hyp)
    began = BEGAN + 600 * (number // 2)
    return Result((math.nan if nan else found,) * 7, began, began + 500 + number)


def define(
    results: Path,
    base: Mapping[str, float],
    layout: Layout = FITNESS,
    worker: str = "cpu0-0123456789abcdef",
    space: Mapping[str, Bounds] | None = None,
) -> Study:
    """Make a study of any hyps, and return a worker of it."""
    results.mkdir(parents=True, exist_ok=True)
    wanted = Definition(generations=BUDGET, base=dict(base), layout=layout)
    definition.agree(Files(results), wanted, budget=None)
    known = space or {}
    search = Search(
        base=dict(base),
        space={name: known.get(name, Bounds(1.0, 0.0, 10.0)) for name in base},
        layout=layout,
        sampler="yolov5" if space else "random",
        seed=0,
    )
    return Study(results, search, myself(worker, worker))


def tell(study: Study, *fitness: float) -> None:
    """Finish generations with these fitnesses."""
    for value in fitness:
        reservation = study.ask()
        assert reservation
        study.tell(reservation, Result((value,), BEGAN, BEGAN + 60))


def write_rows(path: Path, layout: Layout, *values: Mapping[str, float]) -> None:
    """Write an evolve.csv as another program would: metrics of 0.1, 0.2, ..., and these hyps."""
    lines = [rows.header([*layout.metrics, *values[0]])]
    for number, hyp in enumerate(values, start=1):
        lines.append(rows.row([*[number / 10] * len(layout.metrics), *hyp.values()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))


def sessions_file(path: Path, results: Path, command: str, **keys: object) -> None:
    """Write a sessions.yaml with one session."""
    entry = {"command": command, "results": str(results), "cpu_slots": 1, **keys}
    path.write_text(json.dumps({"sessions": {"demo": entry}}))
