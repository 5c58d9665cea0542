"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmuxevolve.units import Duration, Size, format_duration, format_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MiB", 500 << 20),
        ("500M", 500 << 20),
        ("20g", 20 << 30),
        ("20G", 20 << 30),
        ("1.5GiB", 3 << 29),
        ("500MB", 500_000_000),
        ("1T", 1 << 40),
        ("12", 12),
        ("12B", 12),
        ("1.5 TB", 1_500_000_000_000),
        # More digits than a float holds.
        ("9007199254740993", 9007199254740993),
        (7, 7),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1", "1X", "MiB", "1 2", True, None, -1, 1.5, []])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        Size.parse(text)


@pytest.mark.parametrize("text", ["5i", "5ib", "9" * 400 + "G", 10**400, "9999999999T"])
def test_sizes_that_are_no_sizes_or_beyond_all_memory(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        Size.parse(text)


@pytest.mark.parametrize("text", ["9" * 400, 10**400, 1e308, "4000d", float("nan")])
def test_durations_beyond_what_can_be_waited_for(text: object) -> None:
    with pytest.raises(ValueError, match="1h30m, ten years at most"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("2m", 120),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1d", 86400),
        ("7", 7),
        (1.5, 1.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-1s", "1x", "s", "nan", True, None, -1, float("inf")]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        ((1 << 40) - 1, "1.0 TiB"),
        (642 << 20, "642 MiB"),
        (int(23.7 * 2**30), "23.7 GiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45.9, "45s"), (192, "3m12s"), (7500, "2h05m"), (273_700, "3d04h")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 1 << 45))
def test_a_printed_size_reads_back_close(size: int) -> None:
    assert Size.parse(format_size(size)) == pytest.approx(size, rel=0.06, abs=1)


@given(st.integers(0, 10**8))
def test_a_printed_duration_reads_back_to_its_last_unit(seconds: int) -> None:
    lost = seconds - Duration.parse(format_duration(seconds))
    assert 0 <= lost < (3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1)


@given(st.text())
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    for kind in (Size, Duration):
        try:
            assert kind.parse(text) >= 0
        except ValueError as error:
            assert "expected" in str(error)
