"""What is left of a terminal's output: the lines as they look in the end, whatever the bytes."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tqdm import tqdm

from tmuxevolve.recording.collapse import HEIGHT, LIFE, SETTLE, Collapser
from tmuxevolve.recording.row import COLUMNS

PIECES = st.sampled_from(
    [*(b"\r", b"\n", b"\r\n", b"\b", b"\t", b"\x1b", b"\x1b[", b"\x1b[K", b"\x1b[2K", b"\x1b[1K"),
     *(b"\x1b[A", b"\x1b[3A", b"\x1b[B", b"\x1b[9C", b"\x1b[D", b"\x1b[J", b"\x1b[2J", b"\x1b[H"),
     *(b"\x1b[999999999;1H", b"\x1b[5G", b"\x1b[31m", b"\x1b]0;title\x07", b"\x1b]8;;x\x1b\\"),
     *(b"\x1b7", b"\x1b8", b"\x1bM", b"\x1bc", b"\x1b[?1049h", b"\x1b(B", b"\x1bP", b"\x9b", b"\0"),
     *(b"50%|##  |", "█▏漢字e\u0301🚀\u200d".encode(), b"\xff\xfe\xe6\xbc", b"x" * 300, b"a", b";"),
     b"\x1b[" + b"1" * 80]
)  # fmt: skip
STREAMS = st.lists(PIECES | st.binary(max_size=6), max_size=40).map(b"".join)
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Mn", "Me"]), max_size=60)


def collapse(*chunks: bytes) -> list[str]:
    screen = Collapser()
    for chunk in chunks:
        screen.feed(chunk, 1.0)
    return [text for _, text in screen.end(1.0)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[a:b] for a, b in pairwise([0, *sorted(p % (len(data) + 1) for p in places), None])]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12))
@example(b"\x1b]0;" + b"x" * 90 + b"\nnext", [2, 3, 50])
def test_it_does_not_matter_how_the_stream_is_cut(data: bytes, places: list[int]) -> None:
    assert collapse(*cut(data, places)) == collapse(data)


@given(STREAMS)
def test_one_byte_at_a_time_is_the_same(data: bytes) -> None:
    assert collapse(*(data[i : i + 1] for i in range(len(data)))) == collapse(data)


@given(STREAMS)
def test_no_bytes_raise_and_no_control_character_comes_through(data: bytes) -> None:
    screen = Collapser()
    lines = []
    for number in range(0, len(data), 7):
        screen.feed(data[number : number + 7], number / 3)
        lines += screen.lines(number / 3)
        due = screen.due()
        assert due is None or due > number / 3
    lines += screen.end(len(data))
    for _, text in lines:
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
        assert len(text) <= 16 * COLUMNS + 1


@given(st.lists(TEXT, max_size=3 * HEIGHT))
def test_plain_text_comes_out_as_it_went_in(lines: list[str]) -> None:
    data = "".join(f"{line}\r\n" for line in lines).encode()
    assert collapse(data) == [line.rstrip(" ") for line in lines]


def test_every_line_of_much_text_is_there_once() -> None:
    lines = [f"line {number}" for number in range(10 * HEIGHT)]
    screen = Collapser()
    seen = []
    for number, line in enumerate(lines):
        screen.feed(f"{line}\r\n".encode(), number / 7)
        seen += screen.lines(number / 7)
    seen += screen.end(1e9)
    assert [text for _, text in seen] == lines
    assert [when for when, _ in seen] == [number / 7 for number in range(len(lines))]


def of_tqdm(*, leave: bool) -> bytes:
    out = io.StringIO()
    how = {"file": out, "ncols": 60, "mininterval": 0, "bar_format": "{desc} {n}/{total}"}
    for epoch in tqdm(range(3), desc="all", **how):
        for _ in tqdm(range(20), desc=f"epoch {epoch}", leave=leave, **how):
            pass
        tqdm.write(f"epoch {epoch} is over", file=out)
    return out.getvalue().replace("\n", "\r\n").encode()


def test_nested_bars_of_tqdm() -> None:
    over = [f"epoch {epoch} is over" for epoch in range(3)]
    assert collapse(of_tqdm(leave=False)) == [*over, "all 3/3"]
    kept = collapse(of_tqdm(leave=True))
    assert [line for line in kept if "/" in line].count("all 3/3") == 1
    assert {"epoch 0 20/20", "epoch 1 20/20", "epoch 2 20/20", *over} <= {*kept}
    assert len(kept) < 10


def test_bars_that_are_erased_and_drawn_anew_as_rich_does() -> None:
    screen = Collapser()
    lines = []
    for step in range(100):
        up = b"\r\x1b[2K\x1b[1A\x1b[2K" if step else b""
        bars = f"\x1b[32mouter\x1b[0m {step}\r\ninner {step * 7}".encode()
        screen.feed(up + bars, step / 10)
        lines += screen.lines(step / 10)
    assert lines == []
    assert screen.end(10.0) == [(9.9, "outer 99"), (9.9, "inner 693")]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"abc\b\b\bxy", ["xyc"]),
        (b"50%\r100%\r\n", ["100%"]),
        (b"long line\rshort\x1b[K", ["short"]),
        (b"abc\x1b[2Dx\x1b[10Gy", ["axc      y"]),
        (b"a\tb", ["a       b"]),
        (b"\x1b[1mbold\x1b[0m \x1b]0;title\x07text", ["bold text"]),
        (b"\x1b]0;no end\r\nnext", ["", "next"]),
        ("漢字\rab".encode(), ["ab字"]),
        ("漢字\ra".encode(), ["a 字"]),
        ("e\u0301".encode(), ["e\u0301"]),
        (b"before\r\n\x1b[H\x1b[2Jafter", ["before", "after"]),
        (b"before\r\n\x1b[H\x1b[Jafter", ["before", "after"]),
        (b"a\r\n\r\n\r\nb\r\n", ["a", "", "", "b"]),
        (b"bar\r\x1b[K", []),
        (b"x" * (COLUMNS + 5) + b"\r\n", ["x" * COLUMNS + "…"]),
        (b"\xff", ["�"]),
    ],
)
def test_what_a_terminal_shows(data: bytes, lines: list[str]) -> None:
    assert collapse(data) == lines


def test_a_line_is_final_when_the_cursor_has_been_gone_for_a_moment() -> None:
    screen = Collapser()
    screen.feed(b"one\r\ntw", 10.0)
    assert screen.lines(10.0) == []
    assert screen.due() == 10.0 + SETTLE
    assert screen.lines(10.0 + SETTLE) == [(10.0, "one")]
    assert screen.lines(20.0) == []
    screen.feed(b"o\r\n", 20.0)
    assert screen.lines(22.0) == [(20.0, "two")]
    assert screen.due() is None


def test_a_line_that_the_cursor_came_back_to_is_not_final() -> None:
    screen = Collapser()
    screen.feed(b"outer 1\r\ninner 1\x1b[A\r", 10.0)
    assert screen.lines(15.0) == []
    screen.feed(b"outer 2\r\n\x1b[K", 16.0)
    assert screen.lines(18.0) == [(16.0, "outer 2")]


def test_a_bar_that_never_ends_is_seen_once_a_minute() -> None:
    screen = Collapser()
    lines = []
    for second in range(3600):
        screen.feed(f"\r{second}/3600".encode(), float(second))
        lines += screen.lines(float(second))
    assert 55 <= len(lines) <= 60
    assert lines[0] == (LIFE, "60/3600")


def test_a_bar_drawn_again_after_it_was_written_is_written_again_in_the_end() -> None:
    screen = Collapser()
    screen.feed(b"1%\r\n", 0.0)
    assert screen.lines(5.0) == [(0.0, "1%")]
    screen.feed(b"\x1b[A\r2%\r\n", 6.0)
    assert screen.lines(9.0) == []
    assert screen.end(10.0) == [(6.0, "2%")]
