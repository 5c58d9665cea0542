"""What the program needs to know about a kind of trainer, one module each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tmuxevolve.config import FitnessSource, Session
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.study.mutation import Bounds
from tmuxevolve.study.rows import YOLOV5, Layout
from tmuxevolve.study.table import Tally

NAMES = ("yolov5", "ultralytics", "command")
"""The kinds, in the order in which they are asked whether a command is theirs."""

GENERATIONS = 300
"""The budget where nobody says one: what YOLOv5's ``--evolve`` means without a number."""


class Native(msgspec.Struct, frozen=True):
    """A trainer's own evolution: the argv to run in each window, and what to tell the user.

    ``columns`` are those of the evolve.csv that it writes, none when they are not known.
    """

    argv: tuple[str, ...]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a trainer trains single generations: made by ``start``, used by every worker.

    ``argv`` is the command without what a generation adds to it; ``base`` are the hyps to begin
    with; ``space`` holds the bounds of those hyps that may move; ``generations`` is the budget.
    """

    trainer: str
    argv: tuple[str, ...]
    base: dict[str, float]
    space: dict[str, Bounds]
    generations: int = GENERATIONS
    layout: Layout = YOLOV5
    fitness: FitnessSource | None = None
    notes: tuple[str, ...] = ()


class Training(msgspec.Struct, frozen=True):
    """One attempt at a generation: ``folder`` is its own, and holds ``hyp_file``; paths absolute.

    ``seed`` is different for every generation of a study, and the same when one is repeated.
    """

    number: int
    hyp: Mapping[str, float]
    hyp_file: Path
    folder: Path
    seed: int


class NoResultError(TmuxEvolveError):
    """A training ended without leaving a fitness; the text says what is missing, and where."""


class Trainer(Protocol):
    """A kind of trainer."""

    name: str
    stagger: float
    """Seconds between windows in native mode when the session does not say."""

    def detects(self, command: Sequence[str]) -> bool:
        """Say whether the command runs this trainer."""

    def native(self, session: Session, *, on_gpu: bool) -> Native:
        """Return the command of the trainer's own evolution, with the results shared.

        Raises UsageError when the command says something that contradicts the session.
        """

    def recipe(self, session: Session, *, on_gpu: bool) -> Recipe:
        """Return how single generations are trained.

        Raises UsageError when the command contradicts the session, or its hyps cannot be read.
        """

    def argv(self, recipe: Recipe, training: Training) -> tuple[str, ...]:
        """Return the command that trains one generation, in the session's workdir."""

    def by_hand(self, session: Session, training: Training) -> tuple[str, ...]:
        """Return the session's own command with this training's hyps, for a person to run.

        Nothing of what an evolution adds is in it, and values of ``env`` are not shown. Raises
        UsageError when the command contradicts the session.
        """

    def loaded(self, recipe: Recipe, descriptor: int) -> tuple[str, ...] | None:
        """Return a command that loads the trainer, and then waits.

        What ``argv`` returns comes to it on the descriptor, the words with NUL between them; it
        goes on as that. When nothing comes it ends. None when this trainer cannot do so.
        """

    def metrics(self, recipe: Recipe, training: Training, log: str) -> tuple[float, ...]:
        """Read what the training wrote, in the layout's order; ``log`` is what it printed.

        Raises NoResultError when there is none: it failed then, whatever its exit status.
        """

    def completed(self, recipe: Recipe, training: Training) -> tuple[float, ...] | None:
        """Return the metrics of a training whose files alone prove that it came to its end.

        None when they do not: a worker may have been killed in the middle of it.
        """

    def tidy(self, training: Training) -> None:
        """Remove what a finished training leaves in its folder that nobody needs, such as weights.

        Raises OSError.
        """

    def tally(self, results: Path) -> Tally | None:
        """Count the generations in a results directory; None when this trainer keeps none."""


def find(name: str | None, command: Sequence[str]) -> Trainer:
    """Return the trainer of this name, or the one that recognises the command."""
    if name:
        return _load(name)
    return next(trainer for trainer in map(_load, NAMES) if trainer.detects(command))


def layout_of(columns: Sequence[str]) -> Layout | None:
    """Return the layout of an evolve.csv with these columns; None when it is no trainer's own."""
    from tmuxevolve.trainers import ultralytics_results

    if tuple(columns[: len(YOLOV5.metrics)]) == YOLOV5.metrics:
        return YOLOV5
    return ultralytics_results.layout_of(columns)


def _load(name: str) -> Trainer:
    if name == "yolov5":
        from tmuxevolve.trainers.yolov5 import YoloV5

        return YoloV5()
    if name == "ultralytics":
        from tmuxevolve.trainers.ultralytics import Ultralytics

        return Ultralytics()
    from tmuxevolve.trainers.command import Command

    return Command()
