"""A line of a terminal's screen, and when it was drawn. The recorder loads it."""

from __future__ import annotations

import unicodedata

COLUMNS = 2000
"""Columns that are kept of a line; what is cut off is marked."""

# Of marks that are drawn over one character; a line must not grow without an end.
_CLUSTER = 16


class _Widths(dict[str, int]):
    """The columns that a character takes: 0 is drawn over the one before it."""

    def __missing__(self, character: str) -> int:
        if len(self) > COLUMNS:
            self.clear()
        category = unicodedata.category(character)
        wide = unicodedata.east_asian_width(character) in "WF"
        width = 0 if category in {"Mn", "Me", "Cf"} else 2 if wide else 1
        self[character] = width
        return width


_WIDTHS = _Widths()


class Row:
    """A line of the screen: a cell per column; the second one of a wide character is empty.

    ``changed`` and ``began`` are the last and the first change since it was written, ``left`` is
    when the cursor went on to the next row.
    """

    __slots__ = ("_cells", "_cut", "began", "changed", "drawn", "left", "written")

    def __init__(self) -> None:
        """Begin empty."""
        self._cells: list[str] = []
        self._cut = False
        self.changed: float | None = None
        self.began: float | None = None
        self.left: float | None = None
        self.written = False
        self.drawn = False

    def text(self) -> str:
        """Return it as it looks."""
        return "".join(self._cells).rstrip(" ") + ("…" if self._cut else "")

    def put(self, column: int, text: str, now: float) -> int:
        """Draw a text over what is there; return its columns."""
        cells = list(text) if text.isascii() else self._of(text, column)
        if column + len(cells) > COLUMNS:
            self._cut = True
            del cells[COLUMNS - column :]
        end = column + len(cells)
        mine = self._cells
        mine.extend(" " * (column - len(mine)))
        # Half of a wide character is none.
        if column < len(mine) and not mine[column]:
            mine[column - 1] = " "
        if end < len(mine) and not mine[end]:
            mine[end] = " "
        mine[column:end] = cells
        self.touch(now)
        self.drawn = self.drawn or not text.isspace()
        return len(cells)

    def _of(self, text: str, column: int) -> list[str]:
        """Return a cell for each column; what has no width is added to the cell before it."""
        cells: list[str] = []
        before = self._cells[:column]
        for character in text:
            width = _WIDTHS[character]
            if width:
                cells.append(character)
                cells.extend([""] * (width - 1))
            else:
                _add(cells if cells else before, character)
        self._cells[: len(before)] = before
        return cells

    def touch(self, now: float) -> None:
        """Note a change."""
        self.changed = now
        if self.began is None:
            self.began = now

    def erase(self, start: int, end: int | None, now: float) -> None:
        """Empty the columns from start up to end, or all that follow."""
        if start >= len(self._cells):
            return
        if end is None or end >= len(self._cells):
            del self._cells[start:]
            self._cut = False
        else:
            self._cells[start:end] = " " * (end - start)
        self.touch(now)


def _add(cells: list[str], character: str) -> None:
    for place in range(len(cells) - 1, -1, -1):
        if cells[place]:
            cells[place] = (cells[place] + character)[:_CLUSTER]
            return
