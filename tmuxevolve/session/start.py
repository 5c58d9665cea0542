"""start: plan, claim, open the windows, hand every worker its order."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve import claims, gpus, handover, processes, slots, trainers
from tmuxevolve.claims import Claim
from tmuxevolve.config import Session
from tmuxevolve.errors import ExitStatus, UsageError
from tmuxevolve.handover import Parcel
from tmuxevolve.multiplexer import Facts, Multiplexer, Opening, State, Window
from tmuxevolve.order import Order, Report
from tmuxevolve.session import evolve, limits, plan
from tmuxevolve.session.evolve import Job
from tmuxevolve.session.orders import Common, parcels_of
from tmuxevolve.session.plan import Place, Plan, Refusal
from tmuxevolve.session.stop import clear
from tmuxevolve.trainers import Trainer

if TYPE_CHECKING:
    from tmuxevolve.session.recording import Recording

_ENTRY = Path(__file__).parent.with_name("worker_entry.py")
# Facts are for people and must fit into one message to tmux.
_COMMAND_CHARS = 2_000
# Seconds for which a GPU that was free is taken for free, once it is claimed.
_FRESH = 3.0
_TAKEN = Report(state=State.FAILED, reason="its window index is in use by another window")


class StartedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window as ``start`` leaves it; ``pid`` is the trainer's."""

    window: str
    index: int
    slot: str
    uuid: str | None
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

    @property
    def exit_status(self) -> ExitStatus:
        """Return success when something runs and nothing failed."""
        if any(window.state in {State.FAILED, State.GONE} for window in self.windows):
            return ExitStatus.FAILURE
        if self.windows or self.running or self.complete:
            return ExitStatus.OK
        return ExitStatus.NOTHING_FREE


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What ``start`` would run in one window, beyond the caller's own environment."""

    window: str
    slot: str
    workdir: str
    env: dict[str, str]
    argv: tuple[str, ...]
    delay: float


class Preparation(msgspec.Struct, frozen=True):
    """A session, what its windows will run, and where."""

    session: Session
    trainer: Trainer
    job: Job
    plan: Plan
    found_until: float

    @property
    def stagger(self) -> float:
        """Return the seconds between two windows' starts."""
        chosen = self.session.stagger
        usual = self.trainer.stagger if self.job.mode == "native" else 0.0
        return usual if chosen is None else chosen

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know."""
        return (*self.plan.notes, *self.job.notes)

    @property
    def exit_status(self) -> ExitStatus:
        """Return success when there is a place for a worker, or workers run already."""
        busy = self.plan.places or self.plan.running or self.job.workers_wanted == 0
        return ExitStatus.OK if busy else ExitStatus.NOTHING_FREE


def prepare(
    session: Session,
    mux: Multiplexer,
    environ: Mapping[str, str],
    generations: int | None = None,
    *,
    look: bool = False,
) -> Preparation:
    """Look at the machine and decide what to start; nothing is changed.

    ``generations`` is what the command line says in place of the session's. What workers of this
    session have left behind when they were killed is ended before, unless it is only a ``look``.
    """
    mux.check()
    if not look:
        clear(mux, session.name)
    snapshot = None if session.gpus.use == "none" else gpus.snapshot(environ)
    trainer = trainers.find(session.trainer, session.command)
    job = evolve.job(session, trainer, generations, on_gpu=plan.on_gpu(session, snapshot))
    found_until = time.monotonic() + _FRESH
    machine = plan.Machine(snapshot, claims.held(), mux.windows())
    chosen = plan.at_most(plan.make(session, machine), job.workers_wanted)
    if session.min_free_memory:
        chosen = limits.within(chosen, session.min_free_memory)
    return Preparation(session, trainer, job, chosen, found_until)


def dry_run(preparation: Preparation) -> tuple[DryRun, ...]:
    """Return what ``start`` would run."""
    session = preparation.session
    return tuple(
        DryRun(
            window=place.slot.name,
            slot=place.slot.label,
            workdir=str(session.workdir),
            env={**session.env, **slots.cuda_environment(place.slot.gpu, session.gpus.visible)},
            argv=preparation.job.argv,
            delay=number * preparation.stagger,
        )
        for number, place in enumerate(preparation.plan.places)
    )


def start(preparation: Preparation, mux: Multiplexer, environ: Mapping[str, str]) -> Started:
    """Open a window for each place and hand every worker its order and its claim."""
    from tmuxevolve.session import recording

    session = preparation.session
    _make_results(session)
    limit, limited = limits.choose(session, environ)
    begun = evolve.begin(preparation.job, session, alone=not preparation.plan.running)
    held, refused = _claim(preparation.plan, session.gpus.per_gpu, mux)
    places = [place for place, _ in held]
    wanted = Common(
        session, preparation.job, preparation.stagger, environ, limit, preparation.found_until
    )
    parcels = parcels_of(wanted, held)
    recorded = recording.begin(session.results, places, preparation.plan.running, environ, mux)
    try:
        reports = _open(preparation, places, parcels, recorded, mux)
    finally:
        for _, claim in held:
            if claim:
                claim.close()
    recorded.forget(p.slot.name for p, report in zip(places, reports, strict=True) if not report)
    opened = zip(places, reports, strict=True)
    elsewhere = _opened_elsewhere(session.name, places, reports, mux)
    return Started(
        session=session.name,
        results=str(session.results),
        command=session.shown(preparation.job.argv),
        windows=tuple(
            _started(place, report or _TAKEN)
            for place, report in opened
            if report or place.slot.label not in elsewhere
        ),
        running=tuple(_running([*preparation.plan.running, *elsewhere.values()])),
        refused=(*preparation.plan.refused, *refused),
        notes=(*preparation.notes, *begun, *limited, *recorded.notes),
        complete=preparation.job.workers_wanted == 0,
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
    recorded: Recording,
    mux: Multiplexer,
) -> list[Report | None]:
    """Open the windows and return each worker's report, None where its window was refused."""
    if not parcels:
        return []
    with handover.Desk() as desk:
        openings = recorded.joined(
            _opening(preparation, place, parcel.order, desk.address)
            for place, parcel in zip(places, parcels, strict=True)
        )
        refused = mux.open(preparation.session.name, openings)
        expected = {p.order.worker: p for p in parcels if p.order.worker not in refused}
        reports = desk.serve(expected, lambda: _alive(mux))
    workers = [parcel.order.worker for parcel in parcels]
    return [None if w in refused else reports.get(w, handover.SILENT) for w in workers]


def _alive(mux: Multiplexer) -> set[str]:
    return {window.facts.worker for window in mux.windows() if not window.dead}


def _opening(preparation: Preparation, place: Place, order: Order, address: str) -> Opening:
    session, gpu = preparation.session, place.slot.gpu
    return Opening(
        index=place.slot.index,
        name=place.slot.name,
        argv=(sys.executable, "-I", "-S", str(_ENTRY), address, order.worker),
        workdir=session.workdir,
        replaces=place.replaces,
        facts=Facts(
            worker=order.worker,
            session=session.name,
            slot=place.slot.label,
            uuid=place.slot.uuid,
            device=gpu.name if gpu else "CPU",
            trainer=preparation.trainer.name,
            mode=preparation.job.mode,
            command=shlex.join(session.shown(order.argv))[:_COMMAND_CHARS],
            results=str(session.results),
            started=time.time(),
            stop_signal=session.stop.signal,
            stop_grace=float(session.stop.grace),
            memory=order.memory,
            source=str(session.source),
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
