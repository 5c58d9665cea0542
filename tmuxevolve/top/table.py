"""A row for each window: which columns there is room for, and what stands in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from rich.text import Text

from tmuxevolve.session.overview import Row
from tmuxevolve.top import bars
from tmuxevolve.units import squeeze

_GIB = 1 << 30
_WARM, _HOT = 80, 90
_NARROWEST_BAR, _WIDEST_BAR = 3, 12
_LAST_LINE = "LAST LINE"
_LEAST_LAST_LINE = 24
# What goes first where there is not room for all.
_DROPPED = (
    *("POWER", "TEMP", "FITNESS", "FAILED", "GEN", "MEMORY", "BEST", "UTIL", "EPOCH", "ETA"),
)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a column: a text, and before it a bar when there is a ``share`` of 1.

    It is at least as wide as ``least``, so that it does not move when a number grows.
    """

    name: str
    text: Callable[[Row], str]
    style: Callable[[Row], str] = lambda _: ""
    share: Callable[[Row], float | None] | None = None
    bar_style: str = ""
    least: int = 0
    on_gpu: bool = False
    in_study: bool = False

    def width(self, rows: Sequence[Row], bar: int) -> int:
        """Return what the widest cell takes with a bar of this width."""
        extra = bar + 1 if self.share else 0
        texts = max((len(self.text(row)) for row in rows), default=0)
        return max(len(self.name), max(self.least, texts) + extra)

    def cell(self, row: Row, width: int, bar: int) -> Text:
        """Return a cell, exactly as wide as its column."""
        text = Text()
        share = self.share(row) if self.share else None
        if self.share and share is not None:
            text.append_text(bars.bar(share, bar, self.bar_style)).append(" ")
        text.append(self.text(row), style=self.style(row))
        text.truncate(width, pad=True)
        return text


class Layout(msgspec.Struct, frozen=True):
    """The columns that are shown, with their widths, those of bars and of the last line."""

    columns: tuple[tuple[Column, int], ...]
    bar: int
    last_line: int


def layout(rows: Sequence[Row], width: int) -> Layout:
    """Choose columns for a screen of this width: as many as fit, then bars as wide as can be."""
    shown = [column for column in COLUMNS if _is_wanted(column, rows)]
    for name in _DROPPED:
        if _total(shown, rows, _NARROWEST_BAR) <= width:
            break
        shown = [column for column in shown if column.name != name]
    bar = next(
        (b for b in range(_WIDEST_BAR, _NARROWEST_BAR, -1) if _total(shown, rows, b) <= width),
        _NARROWEST_BAR,
    )
    left = width - _total(shown, rows, bar) - 1
    columns = tuple((column, column.width(rows, bar)) for column in shown)
    return Layout(columns, bar, left if left >= _LEAST_LAST_LINE else 0)


def head(chosen: Layout) -> Text:
    """Return the line with the columns' names."""
    names = [column.name.ljust(width) for column, width in chosen.columns]
    return Text(" ".join([*names, *([_LAST_LINE] if chosen.last_line else [])]), style="bold")


def line(row: Row, chosen: Layout) -> Text:
    """Return one window's line."""
    cells = [column.cell(row, width, chosen.bar) for column, width in chosen.columns]
    if chosen.last_line:
        cells.append(Text(squeeze(row.status.progress)[: chosen.last_line], style="dim"))
    return Text(" ").join(cells)


def _is_wanted(column: Column, rows: Sequence[Row]) -> bool:
    on_gpu = any(row.window.facts.uuid for row in rows)
    in_study = any(row.window.facts.mode == "cooperative" for row in rows)
    return (on_gpu or not column.on_gpu) and (in_study or not column.in_study)


def _total(shown: Sequence[Column], rows: Sequence[Row], bar: int) -> int:
    return sum(column.width(rows, bar) + 1 for column in shown) - 1


def _memory(row: Row) -> str:
    used = row.status.gpu_memory_used
    return "" if used is None else f"{used / _GIB:.0f}G"


def _memory_share(row: Row) -> float | None:
    used, total = row.status.gpu_memory_used, row.status.gpu_memory_total
    return None if used is None or not total else used / total


def _utilization(row: Row) -> str:
    value = row.status.gpu_utilization
    return "" if value is None else f"{value}%"


def _utilization_share(row: Row) -> float | None:
    value = row.status.gpu_utilization
    return None if value is None else value / 100


def _temperature(row: Row) -> str:
    value = row.status.gpu_temperature
    return "" if value is None else f"{value}°C"


def _heat(row: Row) -> str:
    value = row.status.gpu_temperature or 0
    return "bold red" if value >= _HOT else "yellow" if value >= _WARM else ""


def _power(row: Row) -> str:
    power, limit = row.status.gpu_power, row.status.gpu_power_limit
    if power is None:
        return ""
    return f"{power:.0f}W" if limit is None else f"{power:.0f}/{limit:.0f}W"


def _generation(row: Row) -> str:
    number = row.status.generation
    return "" if number is None else str(number)


def _epoch(row: Row) -> str:
    found = row.progress
    if found is None:
        return ""
    if found.epochs == 1:
        return f"{found.share:.0%}"
    # Padded: the columns behind it stay where they are when 9 becomes 10.
    return f"{found.epoch:>{len(str(found.epochs))}}/{found.epochs}"


def _epoch_share(row: Row) -> float | None:
    return row.progress.share if row.progress else None


def _failed(row: Row) -> str:
    part = row.part
    return f"{part.in_a_row}/{part.failures}" if part.failures else ""


COLUMNS = (
    Column(name="WINDOW", text=lambda row: row.status.window, style=lambda _: "bold"),
    Column(
        name="MEMORY",
        text=_memory,
        share=_memory_share,
        bar_style="cyan",
        least=3,
        on_gpu=True,
    ),
    Column(
        name="UTIL",
        text=_utilization,
        share=_utilization_share,
        bar_style="green",
        least=4,
        on_gpu=True,
    ),
    Column(name="TEMP", text=_temperature, style=_heat, on_gpu=True),
    Column(name="POWER", text=_power, on_gpu=True),
    Column(
        name="STATE",
        text=lambda row: row.state,
        style=lambda row: bars.STATES.get(row.state, ""),
        least=8,
    ),
    Column(name="GEN", text=_generation, in_study=True),
    Column(name="EPOCH", text=_epoch, share=_epoch_share, bar_style="blue", least=5),
    Column(name="ETA", text=lambda row: bars.duration(row.eta), least=6),
    Column(name="FITNESS", text=lambda row: bars.fitness(row.part.last), least=6, in_study=True),
    Column(name="BEST", text=lambda row: bars.fitness(row.part.best), least=6, in_study=True),
    Column(
        name="FAILED",
        text=_failed,
        style=lambda row: "bold red" if row.part.in_a_row else "",
        in_study=True,
    ),
)
