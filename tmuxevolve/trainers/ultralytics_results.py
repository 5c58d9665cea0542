"""What an Ultralytics training writes: its results.csv, and how a fitness is made of it.

The names are those that 8.4.190 writes; the fitness is that of utils/metrics.py, class by class.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tmuxevolve.study.rows import Layout
from tmuxevolve.trainers import NoResultError

RESULTS = "results.csv"
# From here on only mAP50-95 counts (utils/metrics.py, Metric.fitness; it was different in 8.3.197).
_NEW_FITNESS = (8, 3, 198)
_NEW, _OLD = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.1, 0.9)
# Of what a task finds: boxes, masks, poses.
_FOUND = {"detect": "B", "obb": "B", "segment": "BM", "pose": "BP"}
# Only those that every model has: another one is dfl_loss in YOLO11 and l1_loss in YOLO26.
_LOSSES = {
    "detect": ("box", "cls"),
    "obb": ("box", "cls"),
    "segment": ("box", "seg", "cls"),
    "pose": ("box", "pose", "cls"),
}
_EPOCHS = r"(?m)^epochs: (\d+)$"
_TIMED = r"(?m)^time: (?!null$)"


def layout(task: str, release: tuple[int, ...] | None = None) -> Layout:
    """Return a task's columns and fitness.

    For boxes, masks and poses it is mAP50-95, before 8.3.198 0.1 x mAP50 + 0.9 x mAP50-95, and
    the sum of both where a task finds two kinds (SegmentMetrics, PoseMetrics); for classes the mean
    of both accuracies (ClassifyMetrics). An unknown release counts as a new one.
    """
    if task == "classify":
        accuracies = ("metrics/accuracy_top1", "metrics/accuracy_top5")
        return Layout(metrics=(*accuracies, "val/loss"), weights=(0.5, 0.5, 0.0))
    kinds, losses = _FOUND[task], tuple(f"val/{name}_loss" for name in _LOSSES[task])
    each = _NEW if release is None or release >= _NEW_FITNESS else _OLD
    names = ("precision", "recall", "mAP50", "mAP50-95")
    return Layout(
        metrics=(*(f"metrics/{name}({kind})" for kind in kinds for name in names), *losses),
        weights=(*each * len(kinds), *(0.0 for _ in losses)),
    )


def depends_on_release(task: str) -> bool:
    """Say whether the fitness of this task is another one in older releases."""
    return layout(task) != layout(task, (8, 0, 0))


def layout_of(columns: Sequence[str]) -> Layout | None:
    """Return the layout of an evolve.csv with these columns; None when it is none of these."""
    known = (layout(task) for task in (*_FOUND, "classify"))
    return next((it for it in known if tuple(columns[: len(it.metrics)]) == it.metrics), None)


def best(folder: Path, layout: Layout) -> tuple[float, ...]:
    """Return the metrics of the fittest epoch, the last one of equals, as best.pt is chosen.

    With val=False all epochs but the last hold zeros. Raises NoResultError.
    """
    rows = _rows(folder)
    needed = [name for name, weight in zip(layout.metrics, layout.weights, strict=True) if weight]
    lacking = next((name for name in needed if name not in rows[-1]), None)
    if lacking:
        raise _nothing(folder, f"it has no column {lacking}: say the task (yolo segment train)")
    metrics = [tuple(row.get(name, math.nan) for name in layout.metrics) for row in rows]
    return max(reversed(metrics), key=lambda found: _rank(layout.fitness(found)))


def at_the_end(folder: Path, layout: Layout) -> tuple[float, ...] | None:
    """Return the metrics of a training that has written a row for each of its epochs, else None.

    args.yaml is written before the first epoch. One with time= has no fixed number of them.
    """
    try:
        arguments = (folder / "args.yaml").read_text(encoding="utf-8", errors="replace")
        whole = (folder / RESULTS).read_bytes().endswith(b"\n")
        epochs = re.search(_EPOCHS, arguments)
        if not (whole and epochs) or re.search(_TIMED, arguments):
            return None
        return best(folder, layout) if len(_rows(folder)) == int(epochs[1]) else None
    except (OSError, NoResultError):
        return None


def _rank(fitness: float) -> float:
    return fitness if math.isfinite(fitness) else -math.inf


def _rows(folder: Path) -> Sequence[Mapping[str, float]]:
    """Return the rows by name; up to 8.3.0 at least, names and values are padded with blanks."""
    try:
        with (folder / RESULTS).open(encoding="utf-8", errors="replace", newline="") as file:
            header, *lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    except OSError as error:
        raise _nothing(folder, error.strerror or "cannot be read") from None
    except (ValueError, csv.Error):
        raise _nothing(folder, "it is empty") from None
    if not lines:
        raise _nothing(folder, "it has no row")
    try:
        return [dict(zip(header, map(float, line), strict=True)) for line in lines]
    except ValueError:
        raise _nothing(folder, "a row has not all its numbers") from None


def _nothing(folder: Path, why: str) -> NoResultError:
    return NoResultError(f"no result: {folder.name}/{RESULTS}: {why}")
