"""Bars, numbers and colours of the view. Pure."""

from __future__ import annotations

from rich.text import Text

from tmuxevolve.units import format_duration

STATES = {
    "running": "green",
    "waiting": "yellow",
    "finished": "cyan",
    "failed": "bold red",
    "gone": "bold red",
    "stopped": "dim",
    "stopping": "yellow",
    "starting": "yellow",
}
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FULL, _TRACK = "█", "░"


def bar(share: float | None, width: int, style: str) -> Text:
    """Return a bar of this width, to an eighth of a cell; blanks where the share is not known."""
    if share is None:
        return Text(" " * width)
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    text = Text(_FULL * full + (_EIGHTHS[rest] if rest else ""), style=style)
    return text.append(_TRACK * (width - len(text)), style="dim")


def fitness(value: float | None) -> str:
    """Return a fitness in six characters or so."""
    return "" if value is None else f"{value:#.4g}"


def duration(seconds: float | None) -> str:
    """Return a time for people; nothing where it is not known."""
    return "" if seconds is None else format_duration(seconds)
