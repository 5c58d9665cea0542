"""A study as somebody watches it grow: what each worker has told, and every fitness, in order.

Both files are read once; after that each look reads what is new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from tmuxevolve.study import definition, survey
from tmuxevolve.study.definition import Definition
from tmuxevolve.study.files import Files
from tmuxevolve.study.journal import Asked, Event, Failed, Told
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.state import State
from tmuxevolve.study.survey import Survey

# The times of so many generations tell how long the next ones will take.
_RECENT = 32


class Part(msgspec.Struct, frozen=True):
    """A worker's part: its last and its best fitness, its failures, those since it last told."""

    last: float | None = None
    best: float | None = None
    failures: int = 0
    in_a_row: int = 0


class Record(State):
    """A state that also remembers who told what, and how long it took."""

    def __init__(self, where: Files, layout: Layout, names: Sequence[str]) -> None:
        """Take what a state takes; nothing is read yet."""
        self._layout = layout
        super().__init__(where, layout, names, curve=True)

    def _clear(self) -> None:
        super()._clear()
        self.parts: dict[str, Part] = {}
        self.seconds: deque[float] = deque(maxlen=_RECENT)
        self.begun: dict[int, float] = {}

    def _apply(self, event: Event) -> None:
        super()._apply(event)
        if isinstance(event, Asked):
            self.begun[event.number] = event.at
        elif isinstance(event, Told):
            self.begun.pop(event.number, None)
            self.seconds.append(event.ended - event.started)
            self._tell(event)
        elif isinstance(event, Failed):
            # The next attempt begins now.
            self.begun[event.number] = event.at
            part = self.parts.get(event.worker, Part())
            self.parts[event.worker] = msgspec.structs.replace(
                part, failures=part.failures + 1, in_a_row=part.in_a_row + 1
            )

    def _tell(self, event: Told) -> None:
        part, fitness = self.parts.get(event.worker, Part()), event.fitness
        known = [value for value in (part.best, fitness) if value is not None]
        best = max(known, key=self._layout.rank, default=None)
        self.parts[event.worker] = msgspec.structs.replace(
            part, last=fitness, best=best, in_a_row=0
        )


class Watch:
    """The study in a results directory, whichever it is at the moment."""

    def __init__(self, where: Files) -> None:
        """Name the files; nothing is read yet."""
        self._where = where
        self._definition = definition.Watch(where)
        self._made_for: tuple[str, Layout] | None = None
        self.record: Record | None = None

    def look(self) -> Survey | None:
        """Return what ``survey`` would, and bring the record up to date.

        Raises UsageError when the study's definition is damaged, and OSError.
        """
        found = self._definition.now()
        if found is None:
            self.record = self._made_for = None
            return None
        record = self._record_for(found)
        record.refresh()
        return survey.of_state(self._where, found.generations, record)

    def _record_for(self, found: Definition) -> Record:
        wanted = (found.id, found.layout)
        if self.record is None or wanted != self._made_for:
            self.record = Record(self._where, found.layout, list(found.base))
            self._made_for = wanted
        return self.record
