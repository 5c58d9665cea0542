"""The fitness over the generations, in braille: what each one reached, and the best so far. Pure.

Drawn here because the libraries that do it do not fit: textual-plotext has stayed at plotext 5,
plotext 6 has another interface, and both want a dependency for a step line and some points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.text import Text

from tmuxevolve.session.curve import Point
from tmuxevolve.top import bars

# The bit of each of a braille character's dots, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_POINT = "•"
_LINE_STYLE, _POINT_STYLE, _AXIS_STYLE = "green", "", "dim"
_LEAST_COLUMNS = 8


def plot(points: Sequence[Point], width: int, height: int) -> list[Text]:
    """Return a picture of this size; it needs at least three rows."""
    if not points:
        return _empty(width, height)
    low = min(min(p.worst, p.top, p.best) for p in points)
    high = max(max(p.worst, p.top, p.best) for p in points)
    labels = _labels(low, high, height - 1)
    gutter = max(map(len, labels))
    columns = max(_LEAST_COLUMNS, width - gutter - 1)
    canvas = _Canvas(columns, height - 1, points[-1].number, low, high)
    canvas.line(points)
    canvas.scatter(points)
    rows = [
        Text(f"{label:>{gutter}}┤", style=_AXIS_STYLE).append_text(row)
        for label, row in zip(labels, canvas.rows(), strict=True)
    ]
    return [*rows, _axis(gutter, columns, points[-1].number)]


def _empty(width: int, height: int) -> list[Text]:
    text = Text("no generation has finished yet".center(width).rstrip(), style="dim")
    return [text if row == height // 2 else Text() for row in range(height)]


def _labels(low: float, high: float, height: int) -> list[str]:
    """Return a label for the first, the middle and the last row; the others have none."""
    shown = {0: high, height - 1: low}
    if height >= 5 and high > low:
        middle = height // 2
        shown[middle] = high - (high - low) * middle / (height - 1)
    return [bars.fitness(shown.get(row)) for row in range(height)]


def _axis(gutter: int, columns: int, last: int) -> Text:
    end = f"generation {last}" if columns > 2 * len(f"generation {last}") else str(last)
    return Text(" " * gutter + "└0" + end.rjust(columns - 1, "─"), style=_AXIS_STYLE)


class _Canvas:
    """Cells with two by four dots each; the line is below the points."""

    def __init__(self, columns: int, rows: int, last: int, low: float, high: float) -> None:
        self._columns, self._rows = columns, rows
        self._last, self._low = last, low
        # Not even the span of the largest numbers is finite.
        self._span = high - low if math.isfinite(high - low) else 0.0
        self._dots: dict[tuple[int, int], int] = {}
        self._points: dict[tuple[int, int], str] = {}

    def line(self, points: Sequence[Point]) -> None:
        """Draw the best so far, as steps."""
        spots = [self._spot(p.number, p.best) for p in points]
        for (x, y), (next_x, next_y) in zip(spots, [*spots[1:], spots[-1]], strict=True):
            for column in range(x, next_x + 1):
                self._dot(self._dots, column, y)
            for row in _between(y, next_y):
                self._dot(self._dots, next_x, row)

    def scatter(self, points: Sequence[Point]) -> None:
        """Draw what the generations reached: as dots where they are too many for points."""
        cloud: dict[tuple[int, int], int] = {}
        many = points[-1].number >= self._columns
        for point in points:
            for value in {point.top, point.worst}:
                x, y = self._spot(point.number, value)
                if many:
                    self._dot(cloud, x, y)
                else:
                    self._points[x // 2, y // 4] = _POINT
        for cell, dots in cloud.items():
            if cell in self._dots:
                self._dots[cell] |= dots
            else:
                self._points[cell] = chr(_BRAILLE + dots)

    def rows(self) -> Iterator[Text]:
        for row in range(self._rows):
            text = Text()
            for column in range(self._columns):
                text.append(*self._cell((column, row)))
            yield text

    def _cell(self, cell: tuple[int, int]) -> tuple[str, str]:
        if cell in self._points:
            return self._points[cell], _POINT_STYLE
        if cell in self._dots:
            return chr(_BRAILLE + self._dots[cell]), _LINE_STYLE
        return " ", ""

    def _spot(self, number: int, value: float) -> tuple[int, int]:
        """Return the dot of a generation, from the top left."""
        right, bottom = self._columns * 2 - 1, self._rows * 4 - 1
        x = number / self._last if self._last else 0.0
        y = (value - self._low) / self._span if self._span else 0.5
        return round(x * right), round((1 - y) * bottom)

    @staticmethod
    def _dot(dots: dict[tuple[int, int], int], x: int, y: int) -> None:
        cell = (x // 2, y // 4)
        dots[cell] = dots.get(cell, 0) | _DOTS[y % 4][x % 2]


def _between(y: int, other: int) -> range:
    return range(min(y, other), max(y, other) + 1)
