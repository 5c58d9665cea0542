"""The whole screen as lines of text: the session, its windows, the fitness, the budget. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.text import Text

from tmuxevolve.session.overview import Overview, Row
from tmuxevolve.top import bars, table
from tmuxevolve.top.plot import plot
from tmuxevolve.units import format_duration, squeeze

_KEYS = (
    "↑↓ move  ⏎ attach  s stop  r restart  l log  ? help  q quit",
    "⏎ attach  s stop  r restart  ? help",
    "? help  q quit",
)
# The lines that are always there: the session, the columns' names, one window, the budget, keys.
_FIXED = 5
_LEAST_PLOT = 6
_BUDGET_BAR = 24


class Place(msgspec.Struct, frozen=True):
    """Where somebody is: the selected row, and the first one that is shown."""

    cursor: int = 0
    first: int = 0


class Heights(msgspec.Struct, frozen=True):
    """How many rows there is room for, and how many lines the plot gets (0: none)."""

    rows: int
    plot: int


def heights(seen: Overview, height: int) -> Heights:
    """Share a screen of this height between the windows and the plot."""
    left = max(1, height - _FIXED)
    if left < _LEAST_PLOT + 2 or seen.session.generations is None:
        return Heights(min(len(seen.rows), left), 0)
    rows = min(len(seen.rows), left - _LEAST_PLOT)
    return Heights(rows, left - rows)


def at(cursor: int, place: Place, seen: Overview, height: int) -> Place:
    """Return the place with another row selected: no further than there are rows, and in sight."""
    room, count = heights(seen, height).rows, len(seen.rows)
    cursor = max(0, min(cursor, count - 1))
    first = min(max(place.first, cursor - room + 1), cursor)
    return Place(cursor, max(0, min(first, count - room)))


def waiting(say: str) -> list[Text]:
    """Return what is shown before anything was seen."""
    return [Text(say or "no worker is to be seen yet  (q quit)", style="bold" if say else "dim")]


def frame(
    seen: Overview, place: Place, size: tuple[int, int], say: str = "", late: float | None = None
) -> list[Text]:
    """Return the lines of a screen of this size (columns, lines).

    ``say`` stands where the keys would; ``late`` is for how many seconds nothing new was seen.
    """
    width, height = size
    room = heights(seen, height)
    chosen = table.layout(seen.rows, width)
    lines = [_title(seen, place, room, width, late), table.head(chosen)]
    lines = lines if height >= _FIXED else []
    for number in range(place.first, min(place.first + room.rows, len(seen.rows))):
        line = table.line(seen.rows[number], chosen)
        if number == place.cursor:
            line.truncate(width, pad=True)
            line.stylize("reverse")
        lines.append(line)
    lines.append(_detail(seen.rows[place.cursor], with_line=not chosen.last_line))
    if room.plot:
        lines += plot(seen.points, width, room.plot)
    lines += [_budget(seen, width), _last(say, width)]
    return _cut([*lines[:-1][: height - 1], lines[-1]], width)


def _last(say: str, width: int) -> Text:
    """Return what is to be said, or as many of the keys as there is room for."""
    keys = next((keys for keys in _KEYS if len(keys) <= width), _KEYS[-1])
    return Text(say, style="bold") if say else Text(keys, style="dim")


def _cut(lines: Sequence[Text], width: int) -> list[Text]:
    for line in lines:
        line.truncate(width)
    return [*lines]


def _title(seen: Overview, place: Place, room: Heights, width: int, late: float | None) -> Text:
    session, rows = seen.session, seen.rows
    text = Text(session.session, style="bold")
    counts = {state: sum(row.state == state for row in rows) for state in bars.STATES}
    for state, count in counts.items():
        if count:
            text.append(f"  {count} {state}", style=bars.STATES[state])
    if room.rows < len(rows):
        text.append(f"  rows {place.first + 1}-{place.first + room.rows} of {len(rows)}")
    if seen.is_over:
        text.append("  the session has ended", style="bold yellow")
    if late is not None:
        text.append(f"  no answer for {format_duration(late)}", style="bold red")
    if session.problem:
        text.append(f"  {session.problem}", style="yellow")
    where = session.results
    if len(text) + len(where) + 2 <= width:
        text.append(where.rjust(width - len(text)), style="dim")
    return text


def _detail(row: Row, *, with_line: bool) -> Text:
    """Return what is to be said of the selected window that is in no column."""
    status = row.status
    text = Text(status.window, style="bold")
    failing = f"failed: {status.failure}" if status.failure and row.part.in_a_row else ""
    if status.reason or failing:
        bad = row.state in {"failed", "gone"} or failing
        return text.append(f"  {status.reason or failing}", style="red" if bad else "dim")
    if with_line and status.progress:
        return text.append(f"  {squeeze(status.progress)}", style="dim")
    pid = f"  pid {status.pid}" if status.pid else ""
    return text.append(f"  {status.device}{pid}", style="dim")


def _budget(seen: Overview, width: int) -> Text:
    session = seen.session
    done, budget = session.generations, session.budget
    if done is None:
        return Text(f"results in {session.results}", style="dim")
    text = Text()
    if budget:
        text.append_text(bars.bar(done / budget, min(_BUDGET_BAR, width // 6), "magenta"))
        text.append(f" {done}/{budget} generations", style="bold")
    else:
        text.append(f"{done} generations", style="bold")
    if seen.eta:
        text.append(f"  {format_duration(seen.eta)} left", style="bold")
    if session.best_fitness is not None:
        text.append(f"  best {session.best_fitness:.5g}", style="bold green")
    if seen.each is not None:
        text.append(f"  {format_duration(seen.each)} each", style="dim")
    if seen.at_work:
        workers = "1 worker" if seen.at_work == 1 else f"{seen.at_work} workers"
        text.append(f", {workers}" if seen.each is not None else f"  {workers}", style="dim")
    for what, count in {"failed": session.failed, "skipped": session.skipped}.items():
        if count:
            text.append(f"  {count} {what}", style="red")
    return text
