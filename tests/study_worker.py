"""A worker of a study whose trainings take no time: for stress tests and benchmarks.

    python study_worker.py RESULTS NAME [SAMPLER]

Each generation it has told is a line of NAME.told in RESULTS' parent, written after the tell.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.mutation import META
from tmuxevolve.study.rows import YOLOV5
from tmuxevolve.study.study import Study
from tmuxevolve.study.values import Result, Search

BASE = {name: round((b.lower + b.upper) / 2, 5) for name, b in META.items()}


def search(sampler: str = "yolov5", seed: int = 0) -> Search:
    """Return a search over YOLOv5's hyps."""
    return Search(base=BASE, space=dict(META), layout=YOLOV5, sampler=sampler, seed=seed)


def define(results: Path, budget: int) -> None:
    """Make the study."""
    agree(Files(results), Definition(generations=budget, base=BASE, layout=YOLOV5), budget=budget)


def result(hyp: Mapping[str, float]) -> Result:
    """Return a result that follows from the hyps alone."""
    distance = sum((hyp[n] - b.lower) / (b.upper - b.lower) for n, b in META.items()) / len(META)
    now = time.time()
    return Result((0.5, 0.5, distance, distance, 0.1, 0.1, 0.1), now, now)


def work(results: Path, name: str, sampler: str = "yolov5") -> None:
    """Ask and tell until the budget is spent."""
    study = Study(results, search(sampler), myself(name, name))
    with (results.parent / f"{name}.told").open("a", encoding="ascii") as told:
        while reservation := study.ask():
            study.tell(reservation, result(reservation.hyp))
            told.write(f"{reservation.number}\n")
            told.flush()
    study.leave()


if __name__ == "__main__":
    work(Path(sys.argv[1]), *sys.argv[2:])
