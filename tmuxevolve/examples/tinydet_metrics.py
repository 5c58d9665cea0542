"""Precision, recall and mean average precision of a detector of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

IOU_THRESHOLDS = tuple((50 + 5 * step) / 100 for step in range(10))


@dataclass(frozen=True, slots=True)
class Detection:
    """One predicted box: how sure, and its overlap with the object of its image (0: no object)."""

    confidence: float
    iou: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Precision and recall where their F1 is best, and mAP at IoU 0.5 and over ten thresholds."""

    precision: float
    recall: float
    map50: float
    map50_95: float


@dataclass(frozen=True, slots=True)
class _Point:
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def score(detections: Sequence[Detection], objects: int) -> Scores:
    """Score at most one detection per image against ``objects`` images that hold an object."""
    ranked = sorted(detections, key=lambda found: found.confidence, reverse=True)
    curves = [_curve(ranked, objects, threshold) for threshold in IOU_THRESHOLDS]
    precisions = [_average_precision(curve) for curve in curves]
    best = max(curves[0], key=lambda point: point.f1, default=_Point(0.0, 0.0))
    return Scores(best.precision, best.recall, precisions[0], sum(precisions) / len(precisions))


def _curve(ranked: Sequence[Detection], objects: int, threshold: float) -> list[_Point]:
    """Return precision and recall when the first, the first two, ... detections are believed."""
    hits = accumulate(detection.iou >= threshold for detection in ranked)
    return [
        _Point(found / believed, found / max(objects, 1))
        for believed, found in enumerate(hits, start=1)
    ]


def _average_precision(curve: Sequence[_Point]) -> float:
    """Return the area under the curve, each recall at the best precision that reaches it."""
    area = best = 0.0
    for before, point in reversed(list(pairwise([_Point(1.0, 0.0), *curve]))):
        best = max(best, point.precision)
        area += (point.recall - before.recall) * best
    return area
