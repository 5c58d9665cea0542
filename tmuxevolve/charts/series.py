"""What is drawn, whatever draws it: the axis of time, the running best, a sample of many."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from tmuxevolve.session.results import Point, Run

DECADES = 30
"""Hyps that reach over more than this factor are drawn on a logarithmic axis."""

_UNITS = {"days": 86_400, "hours": 3600, "minutes": 60}
_UNKNOWN = "unknown"


class Axis(msgspec.Struct, frozen=True):
    """What the horizontal axis says, and where on it each point is."""

    label: str
    values: tuple[float, ...]
    timed: bool = False


class Line(msgspec.Struct, frozen=True):
    """The best fitness so far, at every place where it becomes better, and at the end."""

    places: tuple[float, ...]
    fitness: tuple[float, ...]


class Sample(msgspec.Struct, frozen=True):
    """The points that are drawn where there are too many; ``note`` says which, for people."""

    points: tuple[Point, ...]
    note: str | None = None


def axis(run: Run) -> Axis:
    """Return the time since the first training began, or the order where times are missing."""
    starts = [point.started for point in run.points if point.started is not None]
    ends = [point.ended for point in run.points if point.ended is not None]
    if len(ends) < len(run.points):
        return order(run)
    first, span = min(starts), max(ends) - min(starts)
    unit = next((unit for unit, seconds in _UNITS.items() if span >= 2 * seconds), "seconds")
    seconds = _UNITS.get(unit, 1)
    values = tuple((end - first) / seconds for end in ends)
    return Axis(f"{unit} since the start", values, timed=True)


def order(run: Run) -> Axis:
    """Return the order in which the generations were finished."""
    return Axis(
        "generations, in the order of evolve.csv", tuple(map(float, range(len(run.points))))
    )


def running_best(run: Run, where: Axis) -> Line:
    """Return the steps of the best fitness so far."""
    pairs = zip(where.values, run.points, strict=True)
    counting = sorted((pair for pair in pairs if pair[1].counts), key=lambda pair: pair[0])
    steps: list[tuple[float, float]] = []
    for place, point in counting:
        if not steps or run.rank(point) > run.layout.rank(steps[-1][1]):
            steps.append((place, point.fitness))
    steps.append((max(where.values), steps[-1][1]))
    places, fitness = zip(*steps, strict=True)
    return Line(places, fitness)


def window(point: Point) -> str:
    """Return the window that a point was trained in, also where no worker of ours has done it."""
    return point.window or _UNKNOWN


def windows(run: Run) -> tuple[str, ...]:
    """Return the windows that have trained, gpu2 before gpu10."""
    return tuple(sorted({window(point) for point in run.points}, key=_natural))


def sample(run: Run, limit: int) -> Sample:
    """Return the points that can be ranked, and of very many the best and evenly some others."""
    if len(run.ranked) <= limit:
        return Sample(run.ranked)
    best, others = run.ranked[: limit // 2], run.ranked[limit // 2 :]
    step = -(-len(others) // (limit - len(best)))
    kept = (*best, *others[::step])
    note = f"{len(kept)} of {len(run.ranked)} generations: the best {len(best)}, and by fitness"
    return Sample(kept, f"{note} one in {step} of the others")


def limits(drawn: Sample) -> tuple[float, float]:
    """Return the fitnesses between which colours differ.

    The worst tenth has one: a training that failed to learn would take all the others.
    """
    last, first = drawn.points[-1 - len(drawn.points) // 10].fitness, drawn.points[0].fitness
    return (last, first) if last <= first else (first, last)


def is_wide(values: Sequence[float]) -> bool:
    """Say whether values need a logarithmic axis to be told apart."""
    low, high = min(values), max(values)
    return low > 0 and high / low > DECADES


def _natural(name: str) -> list[str]:
    return [part.zfill(6) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
