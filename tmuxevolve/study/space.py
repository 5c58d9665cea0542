"""Which hyps of a study may move, and how far: the trainer's table and what the session says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

from tmuxevolve.config import Interval
from tmuxevolve.study.mutation import DIGITS, Bounds

_DOWN = Context(prec=DIGITS, rounding=ROUND_FLOOR)
_UP = Context(prec=DIGITS, rounding=ROUND_CEILING)


def build(
    base: Mapping[str, float],
    table: Mapping[str, Bounds],
    overrides: Mapping[str, Interval | str],
) -> dict[str, Bounds]:
    """Return the bounds of every hyp that has some, in the order of ``base``.

    "fixed" keeps a hyp as it is in ``base``. Raises ValueError, whose text begins with the hyp's
    name, for a hyp that is not there and for bounds that leave nothing.
    """
    unknown = next((name for name in overrides if name not in base), None)
    if unknown is not None:
        raise ValueError(f"{unknown}: there is no such hyp{_hint(unknown, base)}")
    space = {}
    for name in base:
        override = overrides.get(name)
        if isinstance(override, Interval):
            space[name] = _bounds(name, override, table.get(name))
        elif override is None and name in table:
            space[name] = table[name]
    return space


def _bounds(name: str, override: Interval, usual: Bounds | None) -> Bounds:
    gain = override.gain if override.gain is not None else usual.gain if usual else 1.0
    lower = override.min if override.min is not None else usual.lower if usual else None
    upper = override.max if override.max is not None else usual.upper if usual else None
    if lower is None or upper is None:
        raise ValueError(f"{name}: give it both min and max: the trainer knows no bounds of it")
    if not (math.isfinite(lower) and math.isfinite(upper) and math.isfinite(gain)):
        raise ValueError(f"{name}: expected finite numbers")
    if lower > upper:
        raise ValueError(f"{name}: min {lower:g} is above max {upper:g}")
    # What is drawn has five significant digits; so must its bounds, or it could lie outside.
    inner = (
        float(_UP.create_decimal(repr(lower))),
        float(_DOWN.create_decimal(repr(upper))),
    )
    if inner[0] > inner[1]:
        raise ValueError(f"{name}: no number of five digits lies between min and max")
    return Bounds(gain, *inner, _decimals(inner[0], usual.digits if usual else DIGITS))


def _decimals(lower: float, usual: int) -> int:
    """Return the table's decimals, or as many as it takes to tell values near a tiny minimum."""
    return max(usual, 1 - math.floor(math.log10(lower))) if 0 < lower < 1e-5 else usual


def _hint(name: str, base: Mapping[str, float]) -> str:
    import difflib

    near = difflib.get_close_matches(name, base, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(base)}"
