"""A widget that shows lines of text, and sends the terminal those cells alone that have changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

# To place the cursor takes about as many bytes as so many cells.
_NEAR = 8
_Cell = tuple[str, Style | None]


class Canvas(Widget):
    """The whole screen."""

    DEFAULT_CSS = "Canvas { width: 1fr; height: 1fr; background: ansi_default; }"

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._strips: list[Strip] = []
        self._cells: list[list[_Cell]] = []

    def show(self, lines: Sequence[Text]) -> None:
        """Show these lines; where they are as before, nothing is sent."""
        before = self._cells
        self._strips = [self._strip(line) for line in lines]
        self._cells = [[*_cells(strip)] for strip in self._strips]
        regions = []
        for y in range(max(len(before), len(self._cells))):
            old = before[y] if y < len(before) else []
            new = self._cells[y] if y < len(self._cells) else []
            regions += [Region(x, y, end - x, 1) for x, end in changed(old, new)]
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """Return one line of the screen."""
        strip = self._strips[y] if y < len(self._strips) else Strip.blank(0)
        return strip.adjust_cell_length(self.size.width)

    def _strip(self, line: Text) -> Strip:
        return Strip(Segment.simplify(line.render(self.app.console, end="")))


def changed(old: Sequence[_Cell], new: Sequence[_Cell]) -> Iterator[tuple[int, int]]:
    """Yield where two lines differ: the first cell and the one after the last, near ones as one."""
    blank: _Cell = (" ", None)
    length = max(len(old), len(new))
    differ = [
        x
        for x in range(length)
        if (old[x] if x < len(old) else blank) != (new[x] if x < len(new) else blank)
    ]
    if not differ:
        return
    start = last = differ[0]
    for x in differ[1:]:
        if x - last > _NEAR:
            yield start, last + 1
            start = x
        last = x
    yield start, last + 1


def _cells(strip: Strip) -> Iterator[_Cell]:
    for text, style, _ in strip:
        for character in text:
            yield character, style
            # A wide character takes two cells, and a combining one none.
            for _ in range(cell_len(character) - 1):
                yield "", style
