"""The rows of an evolve.csv: seven metrics (or what a trainer has instead), then the hyps.

The format is that of print_mutation in YOLOv5 v7.0's utils/general.py: names and values aligned to
the right in 20 columns, values with five significant digits. What is trained is what can be written
here, so a row says exactly what a generation was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Literal

import msgspec

METRICS = (
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "val/box_loss",
    "val/obj_loss",
    "val/cls_loss",
)
"""The first columns of YOLOv5's evolve.csv; those after them are hyps."""

WIDTH = 20
_CELL = WIDTH + 1
_DIGITS = 5


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A study's metric columns, and the weights with which they make up the fitness.

    ``direction`` says whether more fitness is better, in Optuna's words.
    """

    metrics: tuple[str, ...] = METRICS
    weights: tuple[float, ...] = (0.0, 0.0, 0.1, 0.9, 0.0, 0.0, 0.0)
    direction: Literal["maximize", "minimize"] = "maximize"

    def fitness(self, metrics: Sequence[float]) -> float:
        """Return the weighted sum; metrics without weight do not count, not even NaN ones."""
        pairs = zip(self.weights, metrics, strict=True)
        return sum((weight * metric for weight, metric in pairs if weight), 0.0)

    def rank(self, fitness: float) -> float:
        """Return the fitness so that more is better."""
        return fitness if self.direction == "maximize" else -fitness


YOLOV5 = Layout()
"""YOLOv5's: fitness is 0.1 x mAP_0.5 + 0.9 x mAP_0.5:0.95 (utils/metrics.py, function fitness)."""


def canonical(value: float) -> float:
    """Return the value as a row can hold it: five significant digits, no negative zero."""
    return float(f"{value:.{_DIGITS}g}") + 0.0


def header(names: Iterable[str]) -> bytes:
    """Return the first line of a file with these columns."""
    return _line(f"{name:>{WIDTH}}" for name in names)


def row(values: Iterable[float]) -> bytes:
    """Return one line."""
    cells = [value + 0.0 for value in values]
    # One format for the whole row takes a third of the time of one for each cell.
    return (_template(len(cells)) % tuple(cells)).encode()


def key(hyp: Mapping[str, float], names: Sequence[str]) -> bytes:
    """Return what tells one hyp from another: its cells in these columns, as a row has them."""
    return row(hyp[name] for name in names)[:-1]


class Shape(msgspec.Struct, frozen=True):
    """What every line of a file with these columns looks like: its length, its commas."""

    length: int
    commas: bytes
    key: slice

    @classmethod
    def of(cls, columns: int, metrics: int) -> Shape:
        """Return the shape of rows with so many columns, the metrics among them."""
        return cls(columns * _CELL - 1, b"," * (columns - 1), slice(metrics * _CELL, None))

    def fits(self, line: bytes) -> bool:
        """Say whether a line is formatted as ours are."""
        return (
            len(line) == self.length
            and line[WIDTH::_CELL] == self.commas
            and line.count(b",") == len(self.commas)
        )


def weighed_cells(layout: Layout) -> tuple[tuple[slice, float], ...]:
    """Return where in a line the metrics are that make up the fitness, with their weights."""
    return tuple(
        (slice(number * _CELL, number * _CELL + WIDTH), weight)
        for number, weight in enumerate(layout.weights)
        if weight
    )


def is_finite(metrics: Sequence[float], layout: Layout) -> bool:
    """Say whether these metrics can be ranked: those of a diverged training cannot."""
    return math.isfinite(layout.fitness(metrics))


@cache
def _template(cells: int) -> str:
    return ",".join([f"%{WIDTH}.{_DIGITS}g"] * cells) + "\n"


def _line(cells: Iterable[str]) -> bytes:
    return (",".join(cells) + "\n").encode()
