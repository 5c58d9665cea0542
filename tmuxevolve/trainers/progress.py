"""How far a training is, from what its window shows: the trainers' own bars and epochs.

Pure: lines of text in, a value out. Two bars are known: tqdm's, and the one that newer versions of
Ultralytics draw themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

_CLOCK = r"(?:[0-9]{1,6}:)?[0-9]{1,6}:[0-9]{2}"
_COUNT = r"(?P<done>[0-9]{1,15})/(?P<total>[0-9]{1,15})"
_TQDM = re.compile(
    rf"(?P<percent>[0-9]{{1,3}})%\|[^|]*(?:\| *{_COUNT} \["
    # A narrow terminal cuts a number anywhere: only what is followed by something is whole.
    rf"(?:(?P<elapsed>{_CLOCK})(?=[<,\]])(?:<(?P<left>{_CLOCK})(?=[,\]]))?)?)?"
)
_SPAN = rf"{_CLOCK}|[0-9]{{1,9}}(?:\.[0-9])?s"
_ULTRALYTICS = re.compile(
    rf"(?P<percent>[0-9]{{1,3}})% [━╸─]+ {_COUNT}(?= )"
    rf"(?: +\S+/s)?(?: +(?P<elapsed>{_SPAN})(?:<(?P<left>{_SPAN}))?)?"
)
_FIRST_CELL = re.compile(r" *([0-9]{1,7})/([0-9]{1,7})(?: |$)")
_WORD = re.compile(r"(?i)\bepoch\W{0,3}([0-9]{1,7}) ?(?:/|of) ?([0-9]{1,7})\b")


class Bar(msgspec.Struct, frozen=True):
    """A progress bar: the text before it, its share of 1, its times in seconds if it has them."""

    text: str
    share: float
    elapsed: float | None = None
    left: float | None = None


class Progress(msgspec.Struct, frozen=True):
    """A training at ``epoch`` (the first is 1) of ``epochs``, of which ``bar`` shows how much."""

    epoch: int
    epochs: int
    bar: Bar | None = None

    @property
    def share(self) -> float:
        """Return how much of the whole training is done: 0 to 1."""
        return (self.epoch - 1 + (self.bar.share if self.bar else 0.0)) / self.epochs


def bar(line: str) -> Bar | None:
    """Return the progress bar in a line."""
    match = _TQDM.search(line) or _ULTRALYTICS.search(line)
    if not match:
        return None
    total = int(match["total"] or 0)
    share = int(match["done"]) / total if total else int(match["percent"]) / 100
    text = line[: match.start()]
    return Bar(text, min(share, 1.0), _seconds(match["elapsed"]), _seconds(match["left"]))


def of_columns(lines: Sequence[str], first: int) -> Progress | None:
    """Return how far a training is that begins its bars with "3/19"; its first epoch is ``first``.

    What stands below, such as a validation's bar, belongs to the same epoch.
    """
    for line in reversed(lines):
        found = bar(line)
        match = _FIRST_CELL.match(found.text) if found else None
        progress = match and _progress(int(match[1]) + 1 - first, int(match[2]) + 1 - first, found)
        if progress:
            return progress
    return None


def of_anything(lines: Sequence[str]) -> Progress | None:
    """Return how far a program is that says "Epoch 3/20" somewhere, or has just one bar."""
    last = None
    for line in reversed(lines):
        last = last or bar(line)
        match = _WORD.search(line)
        progress = match and _progress(int(match[1]) or 1, int(match[2]), last)
        if progress:
            return progress
    return Progress(1, 1, last) if last else None


def _progress(epoch: int, epochs: int, found: Bar | None) -> Progress | None:
    return Progress(epoch, epochs, found) if 1 <= epoch <= epochs else None


def _seconds(text: str | None) -> float | None:
    """Return "10.2s", "01:05" or "1:02:05" in seconds."""
    if text is None:
        return None
    if text.endswith("s"):
        return float(text[:-1])
    return float(sum(part * 60**power for power, part in enumerate(_parts(text))))


def _parts(text: str) -> Iterator[int]:
    return map(int, reversed(text.split(":")))
