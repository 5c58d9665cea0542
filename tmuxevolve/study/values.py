"""What goes into a study and comes out of it, wherever its truth is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from tmuxevolve.study.history import Generation
from tmuxevolve.study.mutation import Bounds
from tmuxevolve.study.rows import Layout


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched, and how: the base hyps, the bounds of those that move, the sampler.

    ``storage`` is the URL of a database that has the study, with its password.
    """

    base: dict[str, float]
    space: dict[str, Bounds]
    layout: Layout
    sampler: str
    seed: int
    storage: str | None = None


class Reservation(msgspec.Struct, frozen=True):
    """A generation that this worker is to train; ``failures`` of it came before."""

    number: int
    hyp: Mapping[str, float]
    failures: int = 0


class Result(msgspec.Struct, frozen=True):
    """What a training gave: its metrics in the layout's order, and its times since the epoch."""

    metrics: Sequence[float]
    started: float
    ended: float


def training_seed(seed: int, number: int) -> int:
    """Return the seed of a generation's training: the same when it is repeated."""
    return Random(f"{seed}/{number}/training").getrandbits(31)


class Progress(msgspec.Struct, frozen=True):
    """How far a study is after a tell, whether that ``improved`` it, and what was odd there."""

    finished: int
    budget: int
    fitness: float
    best: Generation | None
    message: str | None = None
    improved: bool = False
