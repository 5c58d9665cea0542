"""start: plan, claim, open the windows, hand every worker its order."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve import claims, processes
from tmuxevolve.claims import Claim
from tmuxevolve.config import Session
from tmuxevolve.errors import ExitStatus, UsageError
from tmuxevolve.handover import Parcel
from tmuxevolve.multiplexer import Multiplexer, Opening, State, Window
from tmuxevolve.order import Order, Report
from tmuxevolve.session import evolve, limits, plan, services
from tmuxevolve.session.orders import Common, parcels_of
from tmuxevolve.session.plan import Place, Plan, Refusal
from tmuxevolve.session.preparation import Preparation
from tmuxevolve.session.windows import TAKEN, open_all

_ENTRY = Path(__file__).parent.with_name("worker_entry.py")
# Facts are for people and must fit into one message to tmux.
_COMMAND_CHARS = 2_000


class StartedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window as ``start`` leaves it; ``pid`` is the trainer's, ``job`` the Slurm job's id."""

    window: str
    index: int
    slot: str
    uuid: str | None
    pid: int | None
    state: State
    reason: str | None = None
    job: str | None = None


class StartedService(msgspec.Struct, frozen=True, kw_only=True):
    """A window that no worker runs in, as ``start`` leaves it."""

    window: str
    pid: int | None
    state: State
    reason: str | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What ``start`` did; ``complete`` when the study's budget leaves nothing to do."""

    session: str
    results: str
    command: tuple[str, ...]
    windows: tuple[StartedWindow, ...]
    running: tuple[StartedWindow, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
    complete: bool = False
    services: tuple[StartedService, ...] = ()

    @property
    def watched(self) -> bool:
        """Say whether a window goes on looking for free GPUs."""
        return any(service.window == services.WATCH for service in self.services)

    @property
    def exit_status(self) -> ExitStatus:
        """Return success when something runs and nothing failed."""
        states = {window.state for window in self.windows}
        states |= {service.state for service in self.services}
        if states & {State.FAILED, State.GONE}:
            return ExitStatus.FAILURE
        if self.windows or self.running or self.complete or self.watched:
            return ExitStatus.OK
        return ExitStatus.NOTHING_FREE


def start(preparation: Preparation, mux: Multiplexer, environ: Mapping[str, str]) -> Started:
    """Open a window for each place and hand every worker its order and its claim."""
    session = preparation.session
    _make_results(session)
    if session.slurm:
        from tmuxevolve.session import submission

        return submission.start(preparation, mux, environ)
    limit, limited = limits.choose(session, environ)
    begun = evolve.begin(preparation.job, session, alone=not preparation.plan.running)
    held, refused = _claim(preparation.plan, session.gpus.per_gpu, mux)
    places = [place for place, _ in held]
    wanted = Common(
        session, preparation.job, preparation.stagger, environ, limit, preparation.found_until
    )
    parcels = parcels_of(wanted, held)
    try:
        reports, unrecorded = _open(preparation, places, parcels, environ, mux)
    finally:
        for _, claim in held:
            if claim:
                claim.close()
    elsewhere = _opened_elsewhere(session.name, places, reports, mux)
    running = (*preparation.plan.running, *elsewhere.values())
    windows = tuple(
        _started(place, report or TAKEN)
        for place, report in zip(places, reports, strict=True)
        if report or place.slot.label not in elsewhere
    )
    return Started(
        session=session.name,
        results=str(session.results),
        command=session.shown(preparation.job.argv),
        windows=windows,
        running=tuple(_running(running)),
        refused=(*preparation.plan.refused, *refused),
        notes=(*preparation.notes, *begun, *limited, *unrecorded),
        complete=preparation.is_complete,
        services=services_of(preparation, mux, environ, anything=bool(windows or running)),
    )


def services_of(
    preparation: Preparation, mux: Multiplexer, environ: Mapping[str, str], *, anything: bool
) -> tuple[StartedService, ...]:
    """Open the service windows, where there is or will be anything to look at."""
    names, job = preparation.services, preparation.job
    if not names or not (anything or services.WATCH in names) or preparation.is_complete:
        return ()
    generations = None if job.evolution else preparation.generations
    request = services.Request(preparation.session, names, preparation.facts, environ, generations)
    there = mux.all_windows()
    taken = [*(p.slot.index for p in preparation.plan.places), *(w.index for w in there)]
    reports = services.open_missing(request, mux, taken)
    return tuple(
        StartedService(window=name, pid=report.pid, state=report.state, reason=report.reason)
        for name, report in reports.items()
    )


def _opened_elsewhere(
    session: str, places: Sequence[Place], reports: Sequence[Report | None], mux: Multiplexer
) -> dict[str, Window]:
    """Return the windows, by slot, that another start has opened since we planned to."""
    refused = {p.slot.label for p, report in zip(places, reports, strict=True) if not report}
    if not refused:
        return {}
    mine = (window for window in mux.windows() if window.facts.session == session)
    return {window.facts.slot: window for window in mine if window.facts.slot in refused}


def _make_results(session: Session) -> None:
    problem = evolve.results_problem(session.results)
    if problem:
        where = f"{session.source}: sessions.{session.name}.results"
        raise UsageError(f"{where}: cannot use {session.results}: {problem}")


def _claim(
    chosen: Plan, limit: int, mux: Multiplexer
) -> tuple[list[tuple[Place, Claim | None]], tuple[Refusal, ...]]:
    """Claim the places' GPUs; those that another start was quicker to claim are refused."""
    held: list[tuple[Place, Claim | None]] = []
    refused = []
    for place in chosen.places:
        gpu = place.slot.gpu
        try:
            held.append((place, claims.take(gpu.uuid, limit) if gpu else None))
        except claims.ClaimedError as error:
            if gpu:
                refused.append(plan.claimed(gpu, error.holders, mux.windows()))
    return held, tuple(refused)


def _open(
    preparation: Preparation,
    places: Sequence[Place],
    parcels: Sequence[Parcel],
    environ: Mapping[str, str],
    mux: Multiplexer,
) -> tuple[list[Report | None], tuple[str, ...]]:
    """Open the windows, and a recorder for what is printed there; return the reports and notes."""
    from tmuxevolve.session import recording

    session, running = preparation.session, preparation.plan.running
    recorded = recording.begin(session.results, places, running, environ, mux)
    reports = open_all(
        mux,
        session.name,
        parcels,
        lambda at: recorded.joined(_openings(preparation, places, parcels, at)),
    )
    recorded.forget(p.slot.name for p, report in zip(places, reports, strict=True) if not report)
    return reports, recorded.notes


def _openings(
    preparation: Preparation, places: Sequence[Place], parcels: Sequence[Parcel], address: str
) -> list[Opening]:
    return [
        _opening(preparation, place, parcel.order, address)
        for place, parcel in zip(places, parcels, strict=True)
    ]


def _opening(preparation: Preparation, place: Place, order: Order, address: str) -> Opening:
    session = preparation.session
    return Opening(
        index=place.slot.index,
        name=place.slot.name,
        argv=(sys.executable, "-I", "-S", str(_ENTRY), address, order.worker),
        workdir=session.workdir,
        replaces=place.replaces,
        facts=msgspec.structs.replace(
            preparation.facts,
            worker=order.worker,
            slot=place.slot.label,
            uuid=place.slot.uuid,
            device=place.slot.device,
            command=shlex.join(session.shown(order.argv))[:_COMMAND_CHARS],
            started=time.time(),
            memory=order.memory,
        ),
    )


def _started(place: Place, report: Report) -> StartedWindow:
    return StartedWindow(
        window=place.slot.name,
        index=place.slot.index,
        slot=place.slot.label,
        uuid=place.slot.uuid,
        pid=report.pid,
        state=report.state,
        reason=report.reason,
    )


def _running(windows: Sequence[Window]) -> Iterator[StartedWindow]:
    pids = processes.trainer_pids({w.facts.worker: w.pid for w in windows})
    for window in windows:
        yield StartedWindow(
            window=window.name,
            index=window.index,
            slot=window.facts.slot,
            uuid=window.facts.uuid,
            pid=pids.get(window.facts.worker),
            state=window.state,
        )
