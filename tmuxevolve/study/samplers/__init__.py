"""Drawing the next hyps, behind one small interface; a module for each way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol

import msgspec

from tmuxevolve.study.history import Generation
from tmuxevolve.study.mutation import Bounds
from tmuxevolve.study.rows import Layout


class Drawn(msgspec.Struct, frozen=True):
    """New hyps; ``notes`` are what the sampler wants back with them later, as plain JSON values."""

    hyp: Mapping[str, float]
    notes: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Pending(msgspec.Struct, frozen=True):
    """A generation that is being trained, or waits to be."""

    number: int
    hyp: Mapping[str, float]


class View(msgspec.Struct, frozen=True):
    """What a sampler sees of its study.

    ``parents`` are the best generations, best first. ``finished`` are all of them in the order in
    which they were told; it and ``pending`` are empty for a sampler whose ``whole_history`` is
    false. ``notes`` are those of earlier draws, by the key of their hyps (see rows.key; columns are
    those of ``base``).
    """

    base: Mapping[str, float]
    space: Mapping[str, Bounds]
    layout: Layout
    parents: Sequence[Generation]
    finished: Sequence[Generation] = ()
    pending: Sequence[Pending] = ()
    notes: Mapping[bytes, Mapping[str, Any]] = msgspec.field(default_factory=dict)


class Sampler(Protocol):
    """A way to draw hyps. One object serves one worker for as long as it runs."""

    whole_history: bool
    """Whether it needs every generation, finished and pending, and not the best ones alone."""

    def draw(self, view: View, rng: Random) -> Drawn:
        """Return new hyps for every name in ``view.base``, within ``view.space``.

        The same view and the same state of ``rng`` give the same hyps. The study rounds them, and
        asks again when they were trained before.
        """


def make(name: str) -> Sampler:
    """Return the sampler of this name. Raises MissingError when what it needs is not installed."""
    if name == "yolov5":
        from tmuxevolve.study.samplers.yolov5 import Mutation

        return Mutation()
    if name == "random":
        from tmuxevolve.study.samplers.uniform import Uniform

        return Uniform()
    from tmuxevolve.study.samplers.optuna import OptunaSampler

    return OptunaSampler(name.removeprefix("optuna-"))
