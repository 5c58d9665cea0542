"""What a study's two files, evolve.csv and the journal, say together.

A generation is finished when its row is in evolve.csv, whatever the journal says: a worker may be
killed between the two. Hyps tell rows and reservations apart, since no two are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tmuxevolve.study import journal, rows
from tmuxevolve.study.files import Files
from tmuxevolve.study.journal import Asked, Event, Failed, GivenBack, Journal, Told
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.table import Table
from tmuxevolve.study.tail import Mark


class Open(msgspec.Struct, frozen=True):
    """A reserved generation; ``worker`` is None when it was given back.

    Its hyps stay ``text``, as the journal has them: every worker sees every reservation of the
    others, and next to none of their hyps.
    """

    number: int
    text: bytes
    worker: str | None

    @property
    def hyp(self) -> dict[str, float]:
        """Return the hyps. Raises msgspec.DecodeError when somebody has spoiled the journal."""
        return msgspec.json.decode(self.text, type=dict[str, float])


class State:
    """A study as far as its files were read."""

    def __init__(
        self,
        where: Files,
        layout: Layout,
        names: Sequence[str],
        *,
        whole: bool = False,
        curve: bool = False,
    ) -> None:
        """Take the hyps' names; ``whole`` and ``curve`` say what the table keeps in memory."""
        self.names = tuple(names)
        self.table = Table(where.table, layout, names, whole=whole, curve=curve)
        self.journal = Journal(where.journal)
        self._clear()

    def _clear(self) -> None:
        self.open: dict[int, Open] = {}
        self.failures: Counter[int] = Counter()
        self._failed_before = self._given_up_before = 0
        self.last_failure: dict[str, Failed] = {}
        self.skipped: set[bytes] = set()
        self.notes: dict[bytes, Mapping[str, Any]] = {}
        self.last_number = -1
        self._texts: set[bytes] = set()
        # Most of what was asked for is told in the same breath when a history is read.
        self._asked: dict[int, Asked] = {}

    def refresh(self) -> None:
        """Read what is new in both files. Raises OSError."""
        self.table.refresh()
        again, blocks = self.journal.new()
        if again:
            self._clear()
        for events in blocks:
            for event in events:
                self._apply(event)
            self._settle()

    def resume(
        self,
        mark: Mark,
        reservations: Sequence[Open],
        failed: int,
        given_up: int,
        last_failure: Mapping[str, Failed],
    ) -> None:
        """Go on from a mark in the journal that fits."""
        self.journal.tail.resume(mark)
        self.open = {found.number: found for found in reservations}
        self._failed_before, self._given_up_before = failed, given_up
        self.last_failure = dict(last_failure)

    @property
    def failed(self) -> int:
        """Return how many trainings failed."""
        return self._failed_before + self.failures.total()

    @property
    def given_up(self) -> int:
        """Return how many generations were skipped."""
        return self._given_up_before + len(self.skipped)

    def append(self, event: Event) -> None:
        """Add to the journal; it counts at the next refresh. Raises OSError."""
        self.journal.append(event)

    def key(self, hyp: Mapping[str, float]) -> bytes:
        """Return what tells these hyps from others."""
        return rows.key(hyp, self.names)

    def is_taken(self, hyp: Mapping[str, float]) -> bool:
        """Say whether these hyps were trained, are pending, or were given up."""
        key = self.key(hyp)
        return self.table.holds(key) or key in self.skipped or journal.text_of(hyp) in self._texts

    def is_over(self, found: Open) -> bool:
        """Say whether a reservation has its row, and only its tell is missing; close it then.

        Its worker was killed between the two, or another program has trained the same hyps. One
        that somebody has spoiled is over too.
        """
        key = self._key_of(found.text)
        over = key is None or self.table.holds(key)
        if over:
            self._close(found.number)
        return over

    def _key_of(self, text: msgspec.Raw | bytes) -> bytes | None:
        """Return the key of hyps as the journal has them; None when somebody has spoiled them."""
        try:
            return self.key(msgspec.json.decode(text, type=dict[str, float]))
        except (msgspec.DecodeError, KeyError):
            return None

    @property
    def next_number(self) -> int:
        """Return the number of the next new generation."""
        return max(self.last_number + 1, self.table.count)

    def _close(self, number: int) -> None:
        self._asked.pop(number, None)
        found = self.open.pop(number, None)
        if found:
            self._texts.discard(found.text)

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
        self.last_number = max(self.last_number, event.number)
        self._asked[event.number] = event
        key = self._key_of(event.hyp) if event.notes else None
        if key is not None:
            self.notes[key] = event.notes

    def _settle(self) -> None:
        """Open what was asked for and not told by now."""
        for number, event in self._asked.items():
            text = bytes(event.hyp)
            self.open[number] = Open(number, text, event.worker)
            self._texts.add(text)
        self._asked.clear()

    def _fail(self, event: Failed) -> None:
        self._settle()
        self.failures[event.number] += 1
        self.last_failure[event.worker] = event
        found = self.open.get(event.number)
        if found and event.skipped:
            key = self._key_of(found.text)
            if key is not None:
                self.skipped.add(key)
            self._close(event.number)

    def _give_back(self, event: GivenBack) -> None:
        self._settle()
        found = self.open.get(event.number)
        if found and found.worker == event.worker:
            self.open[event.number] = msgspec.structs.replace(found, worker=None)
