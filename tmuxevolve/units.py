"""Sizes and durations as people write them; the same, and progress bars, for people to read."""

from __future__ import annotations

import math
import re

# Twenty digits are more than any value here has, and few enough for int() and float().
_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{1,20})?)"
_SIZE = rf"(?i){_NUMBER}\s*(?:([kmgt])(i?b?)|b)?"
_DURATION = rf"{_NUMBER}(ms|s|m|h|d)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
# tqdm's bar, in blocks or in ASCII.
_BAR = r"\|([█▏▎▍▌▋▊▉#0-9 ━╸]{12,})\|"
_BAR_CELLS = 10
_LARGEST = 2**63 - 1
# time.sleep() and its like raise OverflowError for what they cannot count in nanoseconds.
_LONGEST = 10 * 365 * 86_400.0


class Size(int):
    """Bytes. ``20G``, ``20g`` and ``20GiB`` are powers of 1024 as in docker, ``20GB`` of 1000."""

    @classmethod
    def parse(cls, value: object) -> Size:
        """Read a size; a plain number is bytes. Raises ValueError."""
        number = isinstance(value, int) and not isinstance(value, bool)
        size = value if number else _parse_bytes(value)
        if not isinstance(size, int) or not 0 <= size <= _LARGEST:
            raise ValueError("expected a size such as 500MiB or 20G")
        return cls(size)


class Duration(float):
    """Seconds, finite and not negative."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read a duration; a plain number is seconds. Raises ValueError."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        seconds = value if number else _parse_seconds(value)
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST:
            raise ValueError("expected a duration such as 30s, 2m or 1h30m, ten years at most")
        return cls(seconds)


def encode(value: object) -> object:
    """Return a plain number: msgspec's ``enc_hook``."""
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, Duration):
        return float(value)
    raise NotImplementedError(type(value))


def decode(kind: type, value: object) -> object:
    """Read a Size or a Duration: msgspec's ``dec_hook``."""
    if kind in {Size, Duration}:
        return kind.parse(value)
    raise NotImplementedError(kind)


def format_size(size: float) -> str:
    """Return bytes for people: "642 MiB", "23.7 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if round(size) < 1024:
            digits = 1 if unit != "B" and size < 10 else 0
            return f"{size:.{digits}f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB" if round(size, 1) < 1024 else f"{size / 1024:.1f} TiB"


def format_duration(seconds: float) -> str:
    """Return seconds for people: "45s", "3m12s", "2h05m", "3d04h"."""
    whole = int(max(0.0, seconds))
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02}h"
    if hours:
        return f"{hours}h{m:02}m"
    return f"{minutes}m{s:02}s" if minutes else f"{s}s"


def squeeze(progress: str) -> str:
    """Shorten a progress bar to ten cells: on the window it is as wide as the window."""

    def shorter(bar: re.Match[str]) -> str:
        cells = bar[1]
        return f"|{cells[:: max(1, len(cells) // _BAR_CELLS)][:_BAR_CELLS]}|"

    return re.sub(r" {3,}", "  ", re.sub(_BAR, shorter, progress))


def _parse_bytes(value: object) -> int | None:
    match = re.fullmatch(_SIZE, value.strip()) if isinstance(value, str) else None
    if not match:
        return None
    number, prefix, suffix = match.groups()
    base = 1000 if prefix and suffix.lower() == "b" else 1024
    power = " kmgt".index(prefix.lower()) if prefix else 0
    # Whole numbers throughout: a float has 53 bits, and a plain number of bytes must stay itself.
    whole, _, fraction = number.partition(".")
    return int(int(whole + fraction) * base**power // 10 ** len(fraction))


def _parse_seconds(value: object) -> float:
    text = value.strip() if isinstance(value, str) else ""
    if re.fullmatch(_NUMBER, text):
        return float(text)
    if not re.fullmatch(f"(?:{_DURATION})+", text, re.IGNORECASE):
        return math.nan
    parts = re.findall(_DURATION, text, re.IGNORECASE)
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
