"""How much of the machine's memory a session's workers may take, and how many it has room for."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tmuxevolve import memory
from tmuxevolve.config import Session
from tmuxevolve.memory import Limit
from tmuxevolve.session.plan import Plan, Refusal
from tmuxevolve.units import format_size


def choose(session: Session, environ: Mapping[str, str]) -> tuple[Limit | None, tuple[str, ...]]:
    """Return the limit of each worker with what will hold it, and notes for the user."""
    if session.memory is None:
        return None, ()
    limit, why = memory.choose(int(session.memory), {**environ, **session.env})
    return limit, (f"memory of each worker: {limit}{f': {why}' if why else ''}",)


def within(chosen: Plan, wanted: int) -> Plan:
    """Return the plan with no more new workers than there is memory for, ``wanted`` bytes each.

    A running worker may yet grow to what it is said to need: that is not available.
    """
    growth = (max(0, wanted - memory.used(w.pid)) for w in chosen.running if not w.dead)
    left = max(0, memory.available() - sum(growth))
    serves = left // wanted
    reason = f"{format_size(left)} of RAM left, {format_size(wanted)} wanted for each worker"
    without = [place.slot.label for place in chosen.places[serves:]]
    refused = [Refusal(slot, reason, "a smaller min_free_memory") for slot in without]
    return msgspec.structs.replace(
        chosen, places=chosen.places[:serves], refused=(*chosen.refused, *refused)
    )
