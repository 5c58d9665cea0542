"""Any other program: run in each window exactly as written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmuxevolve.config import Session
from tmuxevolve.study.history import History
from tmuxevolve.trainers import Native


class Command:
    """A program of which nothing is known."""

    name = "command"
    stagger = 0.0

    def detects(self, command: Sequence[str]) -> bool:
        """Take every command: this is the last resort."""
        return bool(command)

    def native(self, session: Session, *, on_gpu: bool) -> Native:
        """Return the command as it is."""
        del on_gpu
        return Native(session.command)

    def history(self, results: Path) -> History | None:
        """Return None: what such a program writes is its own affair."""
        del results
        return None
