"""A run as people look at it: its generations with who trained them and when, in one value.

It is read from the results directory alone, in either mode, while workers run or long after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path

import msgspec

from tmuxevolve import trainers
from tmuxevolve.errors import NothingFoundError
from tmuxevolve.slots import window_of
from tmuxevolve.study import definition, history
from tmuxevolve.study.files import Files
from tmuxevolve.study.history import Generation
from tmuxevolve.study.journal import Asked, Journal, Told
from tmuxevolve.study.rows import Layout

_LEFT_OUT = "evolve.csv: {} left out: other hyps, or no finite numbers for them"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One finished generation. Times are in seconds since the epoch.

    ``number`` is that of its folder. Of a row that no worker of ours has written, ``worker`` and
    the times are None, and the number is the row's, counted from 0.
    """

    number: int
    fitness: float
    metrics: tuple[float, ...]
    hyp: Mapping[str, float]
    worker: str | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def window(self) -> str | None:
        """Return the name of the window that it was trained in."""
        return window_of(self.worker) if self.worker else None

    @property
    def duration(self) -> float | None:
        """Return how long the training took, in seconds."""
        if self.started is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.started)

    @property
    def counts(self) -> bool:
        """Say whether it can be ranked: a training that diverged has no finite fitness."""
        return math.isfinite(self.fitness)


class Run(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A study, or the evolve.csv of native mode; ``points`` are in the order of their rows.

    All have the hyps of ``base``, with which it began: without a study, those of the first row,
    since YOLOv5's own evolution trains them first. ``budget`` is None in native mode; ``problem``
    names what of evolve.csv was left out, in one line.
    """

    results: Path
    layout: Layout
    base: Mapping[str, float]
    budget: int | None
    points: tuple[Point, ...]
    problem: str | None = None

    @cached_property
    def ranked(self) -> tuple[Point, ...]:
        """Return the points that can be ranked, the fittest first, of equals the earlier one."""
        counting = (point for point in self.points if point.counts)
        return tuple(sorted(counting, key=self.rank, reverse=True))

    @property
    def best(self) -> Point | None:
        """Return the fittest point; None when none can be ranked."""
        return self.ranked[0] if self.ranked else None

    def check(self) -> None:
        """Raise NothingFoundError when there is no best point."""
        if not self.ranked:
            raise NothingFoundError(f"{self.results}: all generations diverged: none has a fitness")

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Return the hyps that are not the same everywhere, in the order of their columns."""
        first = self.points[0].hyp if self.points else {}
        return tuple(
            name
            for name, value in first.items()
            if any(point.hyp[name] != value for point in self.points)
        )

    def rank(self, point: Point) -> float:
        """Return the fitness so that more is better, also where less fitness is."""
        return self.layout.rank(point.fitness)


def read(results: Path) -> Run:
    """Return the run in a results directory.

    Raises NothingFoundError when there is none, or it has no generation yet; UsageError when its
    study.json is damaged; OSError.
    """
    where = Files(results)
    found = definition.load(where)
    layout = found.layout if found else trainers.layout_of(history.columns(where.table))
    if layout is None:
        raise NothingFoundError(f"{results}: no study there, and no evolve.csv of a known trainer")
    rows = history.read(where.table, layout)
    base = found.base if found else _first_hyp(rows.generations)
    sound = [row for row in rows.generations if _is_sound(row.hyp, base)]
    left_out = len(rows.generations) - len(sound)
    problem = rows.problem or (_LEFT_OUT.format(left_out) if left_out else None)
    if not sound:
        why = f" ({problem})" if problem else ""
        raise NothingFoundError(f"{results}: no generation is finished yet{why}")
    return Run(
        results=results,
        layout=layout,
        base={name: base[name] for name in sound[0].hyp},
        budget=found.generations if found else None,
        points=_points(where, sound),
        problem=problem,
    )


def _first_hyp(rows: Sequence[Generation]) -> Mapping[str, float]:
    return rows[0].hyp if rows else {}


def _is_sound(hyp: Mapping[str, float], base: Mapping[str, float]) -> bool:
    """Say whether a row has all hyps, and numbers for them: another program may have written it."""
    return hyp.keys() == base.keys() and all(map(math.isfinite, hyp.values()))


class _Ask(msgspec.Struct, frozen=True, gc=False):
    number: int
    worker: str


class _Record(msgspec.Struct, frozen=True):
    """What the journal says: the ask of each hyps, by their hash, and the tell of each number."""

    asked: Mapping[int, _Ask]
    told: Mapping[int, Told]


def _points(where: Files, rows: Sequence[Generation]) -> tuple[Point, ...]:
    names = tuple(rows[0].hyp)
    record = _record(where, names)
    return tuple(_point(row, names, record) for row in rows)


def _point(row: Generation, names: Sequence[str], record: _Record) -> Point:
    ask = record.asked.get(_key(row.hyp, names))
    tell = record.told.get(ask.number) if ask else None
    return Point(
        number=ask.number if ask else row.number,
        fitness=row.fitness,
        metrics=row.metrics,
        hyp=row.hyp,
        worker=tell.worker if tell else ask.worker if ask else None,
        started=tell.started if tell else None,
        ended=tell.ended if tell else None,
    )


def _record(where: Files, names: Sequence[str]) -> _Record:
    """Read the journal."""
    asked: dict[int, _Ask] = {}
    told: dict[int, Told] = {}
    decoder = msgspec.json.Decoder(dict[str, float])
    _, blocks = Journal(where.journal).new()
    for event in chain.from_iterable(blocks):
        if isinstance(event, Asked):
            # Somebody may have spoiled them.
            with suppress(msgspec.DecodeError):
                asked[_key(decoder.decode(event.hyp), names)] = _Ask(event.number, event.worker)
        elif isinstance(event, Told):
            told[event.number] = event
    return _Record(asked, told)


def _key(hyp: Mapping[str, float], names: Sequence[str]) -> int:
    """Return what tells hyps apart: those of a row are those of its ask, to the last digit."""
    return hash(tuple(map(hyp.get, names)))
