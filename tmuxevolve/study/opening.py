"""Which study: the results directory's own, or one whose truth is in a database."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Identity
from tmuxevolve.study.study import Study
from tmuxevolve.study.values import Progress, Reservation, Result, Search


class AskTell(Protocol):
    """What a worker needs of a study; study.py says what each does."""

    files: Files

    def ask(self) -> Reservation | None:
        """Reserve a generation; None when nothing is left to reserve."""

    def tell(self, reservation: Reservation, result: Result) -> Progress:
        """Add a finished generation."""

    def fail(self, reservation: Reservation, reason: str, *, skip: bool) -> None:
        """Record a failed training."""

    def give_back(self, reservation: Reservation) -> None:
        """Leave the generation to whoever asks next."""

    def left(self) -> int:
        """Return how many generations nobody has begun yet."""

    def beat(self) -> None:
        """Say that this worker is alive."""

    def leave(self) -> None:
        """End this worker's part."""


def join(results: Path, search: Search, identity: Identity) -> AskTell:
    """Join the study in a results directory, wherever its truth is.

    Raises OSError, and MissingError when a library is not installed.
    """
    if search.storage is None:
        return Study(results, search, identity)
    from tmuxevolve.study.rdb import RdbStudy

    return RdbStudy(search.storage, results, search, identity)


def prepare(results: Path, search: Search) -> None:
    """Make a database ready for the study, and the files complete, if it has one.

    Raises OSError, and MissingError when a library is not installed.
    """
    if search.storage is None:
        return
    from tmuxevolve.study import takeup

    takeup.prepare(search.storage, Files(results), search)
