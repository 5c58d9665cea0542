"""The record of what was asked, told and given up: a line of JSON each, only ever appended.

evolve.csv says what is finished. The journal adds what it cannot hold: who works on what, failures,
and when and where each generation ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tmuxevolve.study import files
from tmuxevolve.study.tail import Tail


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag="ask", omit_defaults=True):
    """A worker has reserved a generation; asked again, it is another worker's from then on.

    ``hyp`` is what ``text_of`` returns.
    """

    number: int
    hyp: msgspec.Raw
    worker: str
    at: float
    notes: dict[str, Any] = {}


class Told(msgspec.Struct, frozen=True, kw_only=True, tag="tell"):
    """A generation is finished; times in seconds since the epoch."""

    number: int
    fitness: float | None
    worker: str
    started: float
    ended: float


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="fail", omit_defaults=True):
    """A training failed; ``skipped`` when its hyps are given up."""

    number: int
    reason: str
    worker: str
    at: float
    skipped: bool = False


class GivenBack(msgspec.Struct, frozen=True, kw_only=True, tag="back"):
    """A worker will not finish this generation: the next one to ask gets it."""

    number: int
    worker: str


Event = Asked | Told | Failed | GivenBack


def text_of(hyp: Mapping[str, float]) -> bytes:
    """Return hyps as JSON, by name: the same hyps are the same text, whoever writes it."""
    return msgspec.json.encode({name: hyp[name] for name in sorted(hyp)})


class Journal:
    """A journal file, read as far as it was seen."""

    def __init__(self, path: Path) -> None:
        """Take the file as it is; nothing is read yet."""
        self._path = path
        self.tail = Tail(path)
        self._decoder = msgspec.json.Decoder(Event)

    def new(self) -> tuple[bool, Iterator[Sequence[Event]]]:
        """Return the events since the last look, many at a time, in order.

        True says that the file was begun anew. Raises OSError, also while they are read.
        """
        again, blocks = self.tail.new()
        return again, map(self._events, blocks)

    def append(self, event: Event) -> None:
        """Add an event; the caller holds the study's lock. Raises OSError."""
        files.append(self._path, msgspec.json.encode(event) + b"\n")

    def _events(self, block: bytes) -> Sequence[Event]:
        try:
            return self._decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [*self._sound(block)]

    def _sound(self, block: bytes) -> Iterator[Event]:
        for line in block.split(b"\n"):
            # The line of a killed writer: what it was about is still pending, or in evolve.csv.
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield self._decoder.decode(line)
