"""Runs for the tests that look at results: made by real workers of a study, without trainings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import study_worker as instant

from tmuxevolve.study import definition, rows
from tmuxevolve.study.definition import Definition
from tmuxevolve.study.files import Files, yaml_lines
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.mutation import Bounds
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.study import Reservation, Result, Search, Study

BEGAN = 1_795_452_026.0
FITNESS = Layout(metrics=("fitness",), weights=(1.0,))


def make(results: Path, count: int, *, diverged: int = 0) -> None:
    """Let two windows finish so many generations of YOLOv5's hyps; the last ones diverge."""
    results.mkdir(parents=True)
    instant.define(results, count)
    names = ("gpu0-0123456789abcdef", "gpu10-w1-0123456789abcdef")
    workers = [Study(results, instant.search(), myself(name, name)) for name in names]
    for number in range(count):
        worker = workers[number % 2]
        reservation = worker.ask()
        assert reservation
        bad = number >= count - diverged
        worker.tell(reservation, _result(reservation, number, nan=bad))
        folder = worker.files.generation(reservation.number)
        folder.mkdir(parents=True)
        (folder / "hyp.yaml").write_text(yaml_lines(reservation.hyp))
    for worker in workers:
        worker.leave()


def _result(reservation: Reservation, number: int, *, nan: bool) -> Result:
    metrics = (math.nan,) * 7 if nan else instant.result(reservation.hyp).metrics
    began = BEGAN + 600 * (number // 2)
    return Result(metrics, began, began + 500 + number)


def define(results: Path, base: Mapping[str, float], layout: Layout = FITNESS) -> Study:
    """Make a study of any hyps, and return a worker of it."""
    results.mkdir(parents=True)
    wanted = Definition(generations=1000, base=dict(base), layout=layout)
    definition.agree(Files(results), wanted, budget=None)
    space = {name: Bounds(1.0, 0.0, 10.0) for name in base}
    search = Search(base=dict(base), space=space, layout=layout, sampler="random", seed=0)
    return Study(results, search, myself("cpu0-0123456789abcdef", "cpu0"))


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
