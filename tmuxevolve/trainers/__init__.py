"""What the program needs to know about a kind of trainer, one module each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tmuxevolve.config import Session
from tmuxevolve.study.history import History


@dataclass(frozen=True, slots=True)
class Native:
    """A trainer's own evolution: the argv to run in each window, and what to tell the user."""

    argv: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Trainer(Protocol):
    """A kind of trainer."""

    name: str
    stagger: float
    """Seconds between windows when the session does not say."""

    def detects(self, command: Sequence[str]) -> bool:
        """Say whether the command runs this trainer."""

    def native(self, session: Session, *, on_gpu: bool) -> Native:
        """Return the command of the trainer's own evolution, with the results shared.

        Raises UsageError when the command says something that contradicts the session.
        """

    def history(self, results: Path) -> History | None:
        """Return the generations in a results directory; None when this trainer keeps none."""


def find(name: str | None, command: Sequence[str]) -> Trainer:
    """Return the trainer of this name, or the one that recognises the command."""
    from tmuxevolve.trainers.command import Command
    from tmuxevolve.trainers.yolov5 import YoloV5

    trainers: tuple[Trainer, ...] = (YoloV5(), Command())
    if name:
        return next(trainer for trainer in trainers if trainer.name == name)
    return next(trainer for trainer in trainers if trainer.detects(command))
