"""A widget that shows lines of text, and sends the terminal next to nothing but changed cells.

Of a widget's line Textual sends all that is left of a change, too. So the screen is made of narrow
widgets side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

_TILE = 8
# As many as a very wide terminal has; the last one takes what is left.
_TILES = 64
Cell = tuple[str, Style | None]
_BLANK: Cell = (" ", None)


class Tile(Widget):
    """Some columns of the screen, from ``left`` on."""

    DEFAULT_CSS = f"Tile {{ width: {_TILE}; height: 1fr; background: ansi_default; }}"

    def __init__(self, left: int) -> None:
        """Begin empty."""
        super().__init__()
        self.left = left
        self.strips: Sequence[Strip] = ()

    def show(self, regions: Sequence[Region], right: int) -> None:
        """Draw those of the screen's regions again that are in these columns, up to ``right``."""
        mine = Region.from_corners(self.left, 0, right, 1 << 16)
        lines: dict[int, Region] = {}
        for region in regions:
            part = region.intersection(mine)
            if part:
                lines[part.y] = lines.get(part.y, part).union(part)
        if lines:
            self.refresh(*(region.translate((-self.left, 0)) for region in lines.values()))

    def render_line(self, y: int) -> Strip:
        """Return this part of a line of the screen."""
        strip = self.strips[y] if y < len(self.strips) else Strip.blank(0)
        return strip.crop_extend(self.left, self.left + self.size.width, None)


class Canvas(Horizontal):
    """The whole screen."""

    DEFAULT_CSS = """
    Canvas { width: 1fr; height: 1fr; overflow: hidden hidden; background: ansi_default; }
    Canvas Tile:last-of-type { width: 1fr; }
    """

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._tiles = [Tile(number * _TILE) for number in range(_TILES)]
        self._cells: list[list[Cell]] = []

    def compose(self) -> ComposeResult:
        """Set the tiles side by side."""
        yield from self._tiles

    def show(self, lines: Sequence[Text]) -> None:
        """Show these lines; where they are as before, nothing is sent."""
        strips = [Strip(Segment.simplify(line.render(self.app.console, end=""))) for line in lines]
        before, self._cells = self._cells, [[*_cells(strip)] for strip in strips]
        regions = [*_regions(before, self._cells)]
        for tile in self._tiles:
            tile.strips = strips
            last = tile is self._tiles[-1]
            tile.show(regions, self.size.width if last else tile.left + _TILE)


def changed(old: Sequence[Cell], new: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """Yield where two lines differ: the first cell and the one after the last of each stretch."""
    start = None
    end = max(len(old), len(new))
    for x in range(end):
        was, now = (line[x] if x < len(line) else _BLANK for line in (old, new))
        if was != now and start is None:
            start = x
        elif was == now and start is not None:
            yield start, x
            start = None
    if start is not None:
        yield start, end


def _regions(old: Sequence[Sequence[Cell]], new: Sequence[Sequence[Cell]]) -> Iterator[Region]:
    for y, (before, now) in enumerate(zip_longest(old, new, fillvalue=())):
        for x, end in changed(before, now):
            yield Region(x, y, end - x, 1)


def _cells(strip: Strip) -> Iterator[Cell]:
    for text, style, _ in strip:
        for character in text:
            width = cell_len(character)
            if width:
                yield character, style
            # A wide character takes two cells.
            for _ in range(width - 1):
                yield "", style
