"""When workers may run: spans of the clock such as "22:00-07:00", in local time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import msgspec

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES = 24 * 60
_NAMES = "|".join(_DAYS)
_SPAN = rf"(?i)(?:({_NAMES})(?:-({_NAMES}))? +)?(\d\d?):(\d\d)-(\d\d?):(\d\d)"
# The last span of a week may end on the day after it.
_FAR_DAYS = 9


class Span(msgspec.Struct, frozen=True):
    """From ``start`` to ``end``, in minutes of the day; over midnight when the end is not later.

    ``days`` are those on which it starts, 0 for Monday.
    """

    days: frozenset[int]
    start: int
    end: int

    def holds(self, at: datetime) -> bool:
        """Say whether this moment is in it."""
        minute, day = at.hour * 60 + at.minute, at.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        yesterday = (day - 1) % len(_DAYS)
        return (day in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


class Schedule(msgspec.Struct, frozen=True):
    """The spans in which workers may run."""

    spans: tuple[Span, ...]

    def is_open(self, at: datetime) -> bool:
        """Say whether workers may run at this local time."""
        return any(span.holds(at) for span in self.spans)

    def next_change(self, at: datetime) -> datetime | None:
        """Return when that is not so any more; None when it stays so."""
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        moments = {
            midnight + timedelta(days=day, minutes=minute)
            for day in range(_FAR_DAYS)
            for span in self.spans
            for minute in (span.start, span.end)
        }
        now = self.is_open(at)
        later = (m for m in sorted(moments) if m > at and self.is_open(m) != now)
        return next(later, None)


def parse(text: str) -> Schedule:
    """Read "22:00-07:00" or "Mon-Fri 22:00-07:00, Sat-Sun 00:00-24:00". Raises ValueError."""
    return Schedule(tuple(_span(part.strip()) for part in text.split(",")))


def _span(text: str) -> Span:
    found = re.fullmatch(_SPAN, text)
    if not found:
        raise ValueError(f"{text!r}: expected a time such as 22:00-07:00 or Sat-Sun 00:00-24:00")
    first, last, *clock = found.groups()
    start, end = _minute(*clock[:2]), _minute(*clock[2:])
    if start in {end, _DAY_MINUTES}:
        raise ValueError(f"{text!r}: no time at all; the whole day is 00:00-24:00")
    return Span(_days(first, last), start, end)


def _minute(hour: str, minute: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) >= 60 or found > _DAY_MINUTES:
        raise ValueError(f"there is no {hour}:{minute}")
    return found


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(len(_DAYS)))
    start = _DAYS.index(first.title())
    length = (_DAYS.index((last or first).title()) - start) % len(_DAYS) + 1
    return frozenset((start + n) % len(_DAYS) for n in range(length))
