"""The rows of an evolve.csv: seven metrics (or what a trainer has instead), then the hyps.

The format is that of print_mutation in YOLOv5 v7.0's utils/general.py: names and values aligned to
the right in 20 columns, values with five significant digits. What is trained is what can be written
here, so a row says exactly what a generation was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
    return _line(f"{value + 0.0:{WIDTH}.{_DIGITS}g}" for value in values)


def key(hyp: Mapping[str, float], names: Sequence[str]) -> bytes:
    """Return what tells one hyp from another: its cells in these columns, as a row has them."""
    return row(hyp[name] for name in names)[:-1]


def key_of_line(line: bytes, metrics: int) -> bytes | None:
    """Return the key in a line that is formatted as ours are; None for one that is not."""
    cells, rest = divmod(len(line) + 1, _CELL)
    padded = not rest and cells > metrics and line.count(b",") == cells - 1
    if padded and line[WIDTH::_CELL] == b"," * (cells - 1):
        return line[metrics * _CELL :]
    return None


def is_finite(metrics: Sequence[float], layout: Layout) -> bool:
    """Say whether these metrics can be ranked: those of a diverged training cannot."""
    return math.isfinite(layout.fitness(metrics))


def _line(cells: Iterable[str]) -> bytes:
    return (",".join(cells) + "\n").encode()
