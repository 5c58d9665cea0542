"""The fitness over the generations, thinned to what a picture can show. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

POINTS = 400
"""More than a terminal has columns for."""


class Point(msgspec.Struct, frozen=True):
    """Neighbouring generations: the last one's number, the worst and the best fitness among them.

    ``best`` is the best of all generations up to here.
    """

    number: int
    worst: float
    top: float
    best: float


def thin(
    fitnesses: Sequence[float], rank: Callable[[float], float], points: int = POINTS
) -> tuple[Point, ...]:
    """Return at most so many points; generations without a finite fitness are left out."""
    size = -(-len(fitnesses) // points) or 1
    found: list[Point] = []
    for first in range(0, len(fitnesses), size):
        part = [value for value in fitnesses[first : first + size] if math.isfinite(value)]
        if not part:
            continue
        top, number = max(part, key=rank), min(first + size, len(fitnesses)) - 1
        best = max(top, found[-1].best, key=rank) if found else top
        found.append(Point(number, min(part, key=rank), top, best))
    return tuple(found)
