"""What a terminal shows, as lines: of a progress bar the last state, escape sequences carried out.

The screen is as wide as a line may be: nothing wraps. A line that the cursor has left by a line
feed is final once it has stayed away for a moment: nested bars and rich's come back at once. What
is drawn again and again is written once a minute. The recorder loads it: no imports of weight.
"""

from __future__ import annotations

from tmuxevolve.recording.escapes import Tokens
from tmuxevolve.recording.row import COLUMNS, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable

SETTLE = 1.0
"""Seconds after which a line that the cursor has left is final."""

LIFE = 60.0
"""Seconds between two looks at a line that is still being drawn."""

HEIGHT = 50
"""Rows that the cursor can come back to, as on a tall terminal."""

_TAB = 8


class Collapser:
    """One window's screen, and the lines that are final on it."""

    def __init__(self) -> None:
        """Begin with an empty screen."""
        self._tokens = Tokens()
        self._rows = [Row()]
        self._row = self._column = 0
        self._saved = (0, 0)
        self._lines: list[tuple[float, str]] = []
        self._now = 0.0

    def feed(self, data: bytes, now: float) -> None:
        """Carry out what was printed at ``now``, in seconds by any clock that does not go back."""
        self._now = now
        for found in self._tokens.of(data):
            self._carry_out(found)

    def lines(self, now: float) -> list[tuple[float, str]]:
        """Return the lines that have become final, and those that are due, with their times."""
        for row in self._rows:
            due = self._due(row)
            if due is not None and due <= now:
                self._write(row)
        lines, self._lines = self._lines, []
        return lines

    def due(self) -> float | None:
        """Return when there will be a line to write if nothing more is printed; None for never."""
        times = [due for row in self._rows if (due := self._due(row)) is not None]
        return min(times, default=None)

    def end(self, now: float) -> list[tuple[float, str]]:
        """Return whatever has not been written, as the output has ended."""
        self._now = now
        for found in self._tokens.of(b"", final=True):
            self._carry_out(found)
        for row in self._rows:
            self._write(row)
        lines, self._lines = self._lines, []
        return lines

    def _due(self, row: Row) -> float | None:
        if row.began is None:
            return None
        life = row.began + LIFE
        return life if row.written or row.left is None else min(life, row.left + SETTLE)

    def _write(self, row: Row) -> None:
        """Write a row unless that was done; what was drawn and erased again is nothing."""
        if row.changed is None:
            return
        text = row.text()
        if text or not row.drawn:
            self._lines.append((row.changed, text))
            row.written = True
        row.changed = row.began = None

    def _carry_out(self, found: re.Match[str]) -> None:
        kind = found.lastgroup
        if kind == "text":
            self._put(found[0])
        elif kind == "control":
            self._control(found[0])
        elif kind == "csi":
            self._csi(found["numbers"], found["final"])
        elif kind == "escape" and not found["intermediate"]:
            self._escape(found["letter"])

    def _put(self, text: str) -> None:
        self._column += self._rows[self._row].put(self._column, text, self._now)

    def _control(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character in "\n\v\f":
            self._line_feed()
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._column = min(COLUMNS, (self._column // _TAB + 1) * _TAB)

    def _line_feed(self) -> None:
        """Go on to the next row; also to its begin, as a terminal does for programs."""
        row = self._rows[self._row]
        if not (row.drawn or row.written):
            row.touch(self._now)
        self._down(1)
        self._column = 0

    def _down(self, count: int) -> None:
        for _ in range(min(count, HEIGHT)):
            self._rows[self._row].left = self._now
            self._row += 1
            if self._row == len(self._rows):
                self._rows.append(Row())
            if self._row == HEIGHT:
                self._write(self._rows.pop(0))
                self._row -= 1

    def _go(self, row: int) -> None:
        """Go to a row of the screen."""
        self._down(row - self._row)
        self._row = max(0, min(self._row, row))
        for below in self._rows[self._row :]:
            below.left = None

    def _csi(self, text: str, final: str) -> None:
        numbers = [int(n) if n.isascii() and n.isdigit() else 0 for n in text[:32].split(";")]
        move = _MOVES.get(final)
        if move:
            move(self, numbers)
        elif final in "su":
            self._escape("7" if final == "s" else "8")
        elif final in "hl" and text in _OTHER_SCREEN:
            self._clear()

    def _escape(self, letter: str) -> None:
        if letter == "c":
            self._clear()
            self._row = self._column = 0
        elif letter == "7":
            self._saved = (self._row, self._column)
        elif letter == "8":
            self._go(self._saved[0])
            self._column = self._saved[1]
        elif letter in "DE":
            self._line_feed()
        elif letter == "M":
            self._go(self._row - 1)

    def _home(self, numbers: list[int]) -> None:
        row, column = (*numbers, 0)[:2]
        self._go(min(HEIGHT, max(1, row)) - 1)
        self._column = min(COLUMNS, max(1, column)) - 1

    def _right(self, columns: int) -> None:
        self._column = min(COLUMNS, max(0, self._column + columns))

    def _erase_line(self, mode: int) -> None:
        row, column = self._rows[self._row], self._column
        if mode == _FROM_HERE:
            row.erase(column, None, self._now)
        elif mode == _UP_TO_HERE:
            row.erase(0, column + 1, self._now)
        else:
            row.erase(0, None, self._now)

    def _erase_screen(self, mode: int) -> None:
        if mode == _UP_TO_HERE:
            return
        if mode != _FROM_HERE or not (self._row or self._column):
            self._clear()
            return
        self._erase_line(mode)
        del self._rows[self._row + 1 :]

    def _clear(self) -> None:
        """Empty the screen; what was on it has been shown."""
        for row in self._rows:
            self._write(row)
        self._rows = [Row() for _ in range(self._row + 1)]


_FROM_HERE, _UP_TO_HERE = 0, 1
_OTHER_SCREEN = {"?47", "?1047", "?1049"}


def _count(numbers: list[int]) -> int:
    return min(COLUMNS, max(1, numbers[0]))


_MOVES: dict[str, Callable[[Collapser, list[int]], None]] = {
    "A": lambda screen, numbers: screen._go(screen._row - _count(numbers)),
    "B": lambda screen, numbers: screen._go(min(HEIGHT - 1, screen._row + _count(numbers))),
    "C": lambda screen, numbers: screen._right(_count(numbers)),
    "D": lambda screen, numbers: screen._right(-_count(numbers)),
    "E": lambda screen, numbers: screen._home([screen._row + _count(numbers) + 1]),
    "F": lambda screen, numbers: screen._home([screen._row - _count(numbers) + 1]),
    "G": lambda screen, numbers: screen._home([screen._row + 1, numbers[0]]),
    "H": lambda screen, numbers: screen._home(numbers),
    "f": lambda screen, numbers: screen._home(numbers),
    "J": lambda screen, numbers: screen._erase_screen(numbers[0]),
    "K": lambda screen, numbers: screen._erase_line(numbers[0]),
}
