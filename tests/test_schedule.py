"""When workers may run."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmuxevolve import schedule
from tmuxevolve.schedule import Span

# A Wednesday.
NOON = datetime(2026, 11, 25, 12)


def at(hour: int, minute: int = 0, days: int = 0) -> datetime:
    return NOON.replace(hour=hour, minute=minute) + timedelta(days=days)


def test_a_night() -> None:
    night = schedule.parse("22:00-07:00")
    assert [night.is_open(at(*t)) for t in ((21, 59), (22, 0), (0, 0), (6, 59), (7, 0))] == [
        *(False, True, True, True, False)
    ]
    assert night.next_change(at(12)) == at(22)
    assert night.next_change(at(22)) == at(7, days=1)
    assert night.next_change(at(3)) == at(7)


def test_days_are_those_on_which_a_span_starts() -> None:
    week = schedule.parse("Mon-Fri 22:00-07:00, sat-sun 0:00-24:00")
    friday, saturday, monday = 2, 3, 5
    assert week.is_open(at(23, days=friday))
    assert week.is_open(at(12, days=saturday))
    assert not week.is_open(at(3, days=monday))
    assert week.next_change(at(22, days=friday)) == at(0, days=monday)
    assert schedule.parse("Sat-Mon 1:00-2:00").spans[0].days == {5, 6, 0}
    assert schedule.parse("Sun 22:00-07:00").is_open(at(3, days=monday))


def test_always_open_never_changes() -> None:
    assert schedule.parse("00:00-24:00").next_change(NOON) is None
    assert schedule.parse("00:00-12:00, 12:00-24:00").next_change(NOON) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "22", "22:00", "22:00-", "24:01-3:00", "12:60-13:00", "1:00-1:00", "24:00-7:00"),
        *("Mon", "Mon 22:00", "Mo 22:00-7:00", "22:00-07:00,", "22:00 - 07:00", "22:00-07:00 Mon"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a time|there is no|no time at all"):
        schedule.parse(text)


TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59))
SPANS = st.builds(
    lambda start, end, days: Span(frozenset(days), start, end),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sets(st.integers(0, 6), min_size=1),
).filter(lambda span: span.start != span.end)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        schedule.parse(text)
    except ValueError as error:
        assert str(error)


@given(st.lists(SPANS, min_size=1, max_size=4), st.integers(0, 7 * 1440 - 1))
def test_a_change_is_one_and_the_next(spans: list[Span], minutes: int) -> None:
    found, now = schedule.Schedule(tuple(spans)), NOON + timedelta(minutes=minutes)
    change = found.next_change(now)
    until = change or now + timedelta(days=8)
    step = timedelta(minutes=61)
    moment = now
    while moment < until:
        assert found.is_open(moment) == found.is_open(now)
        moment += step
    if change:
        assert found.is_open(change) != found.is_open(now)
        assert found.is_open(change - timedelta(minutes=1)) == found.is_open(now)
