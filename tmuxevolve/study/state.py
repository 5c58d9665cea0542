"""What a study's two files, evolve.csv and the journal, say together.

A generation is finished when its row is in evolve.csv, whatever the journal says: a worker may be
killed between the two. Hyps tell rows and reservations apart, since no two are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tmuxevolve.study import rows
from tmuxevolve.study.files import Files
from tmuxevolve.study.journal import Asked, Event, Failed, GivenBack, Journal, Told
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.table import Table


class Open(msgspec.Struct, frozen=True):
    """A reserved generation; ``worker`` is None when it was given back."""

    number: int
    hyp: Mapping[str, float]
    key: bytes
    worker: str | None
    since: float


class State:
    """A study as far as its files were read."""

    def __init__(
        self, where: Files, layout: Layout, names: Sequence[str], *, whole: bool = False
    ) -> None:
        """Take the hyps' names; ``whole`` keeps every generation in memory."""
        self.names = tuple(names)
        self.table = Table(where.table, layout, names, whole=whole)
        self._journal = Journal(where.journal)
        self._clear()

    def _clear(self) -> None:
        self.open: dict[int, Open] = {}
        self.failures: Counter[int] = Counter()
        self.last_failure: dict[str, Failed] = {}
        self.skipped: set[bytes] = set()
        self.notes: dict[bytes, Mapping[str, Any]] = {}
        self.last_number = -1
        self._numbers: dict[bytes, int] = {}

    def refresh(self) -> None:
        """Read what is new in both files. Raises OSError."""
        _, finished = self.table.refresh()
        again, events = self._journal.new()
        if again:
            self._clear()
        self._finish(finished)
        for event in events:
            self._apply(event)

    def append(self, event: Event) -> None:
        """Add to the journal; it counts at the next refresh. Raises OSError."""
        self._journal.append(event)

    def key(self, hyp: Mapping[str, float]) -> bytes:
        """Return what tells these hyps from others."""
        return rows.key(hyp, self.names)

    def is_taken(self, key: bytes) -> bool:
        """Say whether these hyps were trained, are pending, or were given up."""
        return self.table.holds(key) or key in self._numbers or key in self.skipped

    @property
    def next_number(self) -> int:
        """Return the number of the next new generation."""
        return max(self.last_number + 1, self.table.count)

    def _finish(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            number = self._numbers.get(key)
            if number is not None:
                self._close(number)

    def _close(self, number: int) -> None:
        found = self.open.pop(number, None)
        if found:
            self._numbers.pop(found.key, None)

    def _apply(self, event: Event) -> None:
        if isinstance(event, Asked):
            self._ask(event)
        elif isinstance(event, Told):
            self._close(event.number)
        elif isinstance(event, Failed):
            self._fail(event)
        else:
            self._give_back(event)

    def _ask(self, event: Asked) -> None:
        key = self.key(event.hyp)
        self.last_number = max(self.last_number, event.number)
        if event.notes:
            self.notes[key] = event.notes
        if self.table.holds(key):
            return
        self.open[event.number] = Open(event.number, event.hyp, key, event.worker, event.at)
        self._numbers[key] = event.number

    def _fail(self, event: Failed) -> None:
        self.failures[event.number] += 1
        self.last_failure[event.worker] = event
        found = self.open.get(event.number)
        if found and event.skipped:
            self.skipped.add(found.key)
            self._close(event.number)

    def _give_back(self, event: GivenBack) -> None:
        found = self.open.get(event.number)
        if found and found.worker == event.worker:
            self.open[event.number] = Open(found.number, found.hyp, found.key, None, found.since)
