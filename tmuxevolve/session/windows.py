"""Open windows, and hand each one's process its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tmuxevolve import handover
from tmuxevolve.handover import Parcel
from tmuxevolve.multiplexer import Multiplexer, Opening, State
from tmuxevolve.order import Report

TAKEN = Report(state=State.FAILED, reason="its window index is in use by another window")
"""What there is to say of a window that was refused."""


def open_all(
    mux: Multiplexer,
    session: str,
    parcels: Sequence[Parcel],
    openings: Callable[[str], Sequence[Opening]],
) -> list[Report | None]:
    """Open a window for each parcel; return the reports, None where its window was refused.

    ``openings`` returns the windows, in the parcels' order, for processes that fetch their orders
    at this address.
    """
    if not parcels:
        return []
    with handover.Desk() as desk:
        refused = mux.open(session, openings(desk.address))
        expected = {p.order.worker: p for p in parcels if p.order.worker not in refused}
        reports = desk.serve(expected, lambda: _alive(mux))
    names = [parcel.order.worker for parcel in parcels]
    return [None if name in refused else reports.get(name, handover.SILENT) for name in names]


def _alive(mux: Multiplexer) -> set[str]:
    return {window.facts.worker for window in mux.all_windows() if not window.dead}
