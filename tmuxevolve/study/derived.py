"""The files of a study whose truth is in a database, for all that reads them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from tmuxevolve.study import files, history, journal, summary
from tmuxevolve.study.database import Note, Told, Trial, finished
from tmuxevolve.study.files import Files
from tmuxevolve.study.journal import Asked, Event, Failed, GivenBack, text_of
from tmuxevolve.study.lock import locked
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.state import State

_BEST_YAML = 1.0


class Derived:
    """evolve.csv, the journal, hyp_evolve.yaml and the summary, as one worker writes them.

    The lock is held for a write, and nothing is decided by what they say. All of it raises OSError.
    """

    def __init__(self, where: Files, layout: Layout, names: Sequence[str]) -> None:
        """Take the files as they are; nothing is read yet."""
        self._files = where
        self._layout = layout
        self._state = State(where, layout, names)
        self._next_best = 0.0

    def complete(self, trials: Sequence[Trial]) -> None:
        """Add the finished generations that the files lack, in the order of their tells."""
        with locked(self._files.lock):
            self._state.refresh()
            for _, _, note in finished(trials):
                self._add(note)
            self._state.refresh()
            for found in [*self._state.open.values()]:
                self._state.is_over(found)
            summary.write(self._files, self._state)

    def asked(self, note: Note) -> None:
        """Write that a worker trains these hyps."""
        with locked(self._files.lock):
            self._state.append(_asked(note))

    def told(self, note: Note) -> None:
        """Write a finished generation; it is on the disk when this returns."""
        with locked(self._files.lock):
            self._state.refresh()
            self._add(note)
        files.sync(self._files.table)

    def failed(self, number: int, reason: str, worker: str, *, skip: bool) -> None:
        """Write a failed training."""
        self._append(
            Failed(number=number, reason=reason, worker=worker, at=time.time(), skipped=skip)
        )

    def given_back(self, number: int, worker: str) -> None:
        """Write that nobody trains this generation for the moment."""
        self._append(GivenBack(number=number, worker=worker))

    def best(self, *, final: bool) -> None:
        """Bring hyp_evolve.yaml up to date: at once if it is ``final``, or else once a second."""
        if not (final or time.monotonic() >= self._next_best):
            return
        self._next_best = time.monotonic() + _BEST_YAML
        with locked(self._files.lock):
            self._state.refresh()
            best, count = self._state.table.best, self._state.table.count
            if best:
                # The number is the row's, as in every study.
                files.replace(self._files.best, history.best_yaml(best, count))

    def _append(self, event: Event) -> None:
        with locked(self._files.lock):
            self._state.append(event)

    def _add(self, note: Note) -> None:
        """Add a row and its tell, unless they are there; the caller holds the lock."""
        assert note.hyp is not None  # noqa: S101  (what is told was drawn)
        assert note.told is not None  # noqa: S101
        key = self._state.key(note.hyp)
        if not self._state.table.holds(key):
            self._state.table.append(note.told.values, note.hyp)
            self._state.append(self._told(note, note.told))
            self._state.table.refresh()

    def _told(self, note: Note, told: Told) -> journal.Told:
        return journal.Told(
            number=note.generation,
            fitness=self._layout.fitness(told.values),
            worker=note.owner,
            started=told.started,
            ended=told.ended,
        )


def _asked(note: Note) -> Asked:
    return Asked(
        number=note.generation,
        hyp=msgspec.Raw(text_of(note.hyp or {})),
        worker=note.owner,
        at=time.time(),
        notes=note.notes,
    )
