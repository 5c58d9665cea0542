"""start with ``launcher: slurm``: a job for each worker, and a window here that follows it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from tmuxevolve import batch, slots, slurm, trainers
from tmuxevolve.config import Session, SlurmJobs
from tmuxevolve.errors import TmuxEvolveError, UsageError
from tmuxevolve.multiplexer import Facts, Multiplexer, State, Window
from tmuxevolve.order import Report, write_order
from tmuxevolve.session import evolve, jobs, orders, plan, services
from tmuxevolve.session.jobs import Posted
from tmuxevolve.session.plan import Place, Plan
from tmuxevolve.session.preparation import DryRun, Preparation
from tmuxevolve.session.services import Service
from tmuxevolve.session.start import Started, StartedWindow, services_of
from tmuxevolve.slurm import Submission
from tmuxevolve.study.lock import locked

_ENTRY = Path(batch.__file__).with_name("job_entry.py")
_FOLDER = "slurm"
# A shell inside a job hands on what that job was given; sbatch would take it for the new one's.
_KEPT_OF_SLURM = ("SLURM_CONF",)


class Failure(msgspec.Struct, frozen=True):
    """A job that could not be submitted."""

    place: Place
    reason: str


def prepare(
    session: Session,
    mux: Multiplexer,
    generations: int | None = None,
    *,
    wanted: Sequence[str] = (),
    pick: Callable[[Plan], Plan] | None = None,
) -> Preparation:
    """Look at the session's jobs and decide how many to submit; nothing is changed.

    Raises TmuxEvolveError.
    """
    mux.check()
    slurm.check()
    if services.WATCH in wanted:
        raise UsageError("--follow: Slurm itself starts what is queued when a GPU becomes free")
    trainer = trainers.find(session.trainer, session.command)
    found = _jobs(session)
    job = evolve.job(session, trainer, generations, on_gpu=found.on_gpu)
    chosen = _plan(session.name, found, mux)
    chosen = pick(chosen) if pick else chosen
    left = job.workers_wanted
    if left is not None:
        # What is queued, or is only beginning, will take its share.
        working = len(job.found.at_work) if job.found else 0
        left = max(0, left - max(0, len(chosen.running) - working))
    return Preparation(
        session,
        trainer,
        job,
        plan.at_most(chosen, left),
        0.0,
        services=tuple(wanted),
        generations=generations,
    )


def start(preparation: Preparation, mux: Multiplexer, environ: Mapping[str, str]) -> Started:
    """Submit what is missing, and open a window for each job that has none."""
    session = preparation.session
    begun = evolve.begin(preparation.job, session, alone=not preparation.plan.running)
    folder = session.results / _FOLDER
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        # Another start may have been quicker.
        before = jobs.active(session.name)
        taken = {found.facts.slot for found in before.values()}
        places = [p for p in preparation.plan.places if p.slot.label not in taken]
        failure = _submit(preparation, places, environ)
    active = jobs.active(session.name)
    new = [found for worker, found in active.items() if worker not in before]
    reports = _open_windows(preparation, active, mux, environ)
    windows = [*map(_started, new), *_failed(failure)]
    running = tuple(map(_started, before.values()))
    return Started(
        session=session.name,
        results=str(session.results),
        command=session.shown(preparation.job.argv),
        windows=tuple(windows),
        running=running,
        refused=(),
        notes=(*preparation.notes, *begun, *_unopened(reports)),
        complete=preparation.is_complete,
        services=services_of(preparation, mux, environ, anything=bool(windows or running)),
    )


def dry_run(preparation: Preparation) -> tuple[DryRun, ...]:
    """Return what ``start`` would submit."""
    session = preparation.session
    return tuple(
        DryRun(
            window=place.slot.name,
            slot=place.slot.label,
            workdir=str(session.workdir),
            env=session.env,
            argv=preparation.job.argv,
            delay=0.0,
            sbatch=options(session, place.slot.label),
        )
        for place in preparation.plan.places
    )


def options(session: Session, slot: str) -> tuple[str, ...]:
    """Return sbatch's options for the job of this slot, but for its comment."""
    wanted = _jobs(session)
    named = {
        "job-name": f"{session.name}-{slot}",
        "chdir": str(session.workdir),
        # %j is the job's id; in what comes before, a % is a %.
        "output": f"{session.results / _FOLDER}/".replace("%", "%%") + "%j.out",
        "open-mode": "append",
        "signal": f"B:{batch.LIMIT.name[3:]}@{batch.warning(float(session.stop.grace))}",
        "partition": wanted.partition,
        "account": wanted.account,
        "time": wanted.time,
        "gres": wanted.gres,
        "constraint": wanted.constraint,
        "mem": None if session.memory is None else f"{session.memory >> 20}M",
    }
    given = (f"--{name}={value}" for name, value in named.items() if value is not None)
    return (*given, *wanted.extra)


def _jobs(session: Session) -> SlurmJobs:
    assert session.slurm is not None  # noqa: S101  (this is for such sessions alone)
    return session.slurm


def _plan(session: str, wanted: SlurmJobs, mux: Multiplexer) -> Plan:
    active = {found.facts.slot: found for found in jobs.active(session).values()}
    windows = _windows(session, mux)
    places = tuple(
        Place(slot, windows.get(slot.label))
        for slot in slots.of_jobs(wanted.workers)
        if slot.label not in active
    )
    return Plan(places, tuple(found.window for found in active.values()), ())


def _windows(session: str, mux: Multiplexer) -> dict[str, Window]:
    mine = (w for w in mux.services() if w.facts.session == session and w.facts.role == jobs.ROLE)
    return {window.facts.slot: window for window in mine}


def _submit(
    preparation: Preparation, places: Sequence[Place], environ: Mapping[str, str]
) -> Failure | None:
    """Submit a job for each place; return the first that Slurm would not take."""
    for number, place in enumerate(places):
        facts = _facts(preparation, place)
        order = orders.order(_common(preparation, environ), place, 0)
        order = structs.replace(order, worker=facts.worker, env={}, memory=None)
        environment = _environment(preparation.session, environ)
        environment[batch.ORDER] = write_order(order).decode()
        comment = f"--comment={jobs.comment(facts)}"
        argv = (sys.executable, "-I", str(_ENTRY))
        chosen = (*options(preparation.session, place.slot.label), comment)
        try:
            slurm.submit(Submission(options=chosen, argv=argv, environ=environment))
        except TmuxEvolveError as error:
            session = preparation.session
            reason = f"{session.source}: sessions.{session.name}.slurm: {error}"
            if not number:
                raise TmuxEvolveError(reason) from None
            return Failure(place, reason)
    return None


def _common(preparation: Preparation, environ: Mapping[str, str]) -> orders.Common:
    return orders.Common(preparation.session, preparation.job, 0.0, environ, None, 0.0)


def _environment(session: Session, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("SLURM_") or name in _KEPT_OF_SLURM
    }
    return {**kept, **session.env}


def _facts(preparation: Preparation, place: Place) -> Facts:
    session = preparation.session
    return structs.replace(
        preparation.facts,
        worker=slots.new_worker(place.slot.name),
        slot=place.slot.label,
        role=jobs.ROLE,
        device=_jobs(session).gres or "",
        command=shlex.join(session.shown(preparation.job.argv)),
        started=time.time(),
    )


def _open_windows(
    preparation: Preparation,
    active: Mapping[str, Posted],
    mux: Multiplexer,
    environ: Mapping[str, str],
) -> dict[str, Report]:
    """Open a window for each job that nobody follows here; return their reports, by name."""
    session = preparation.session
    there = _windows(session.name, mux)
    wanted = [
        Service(
            name=found.facts.slot,
            argv=("job", found.job.id, "--output", str(session.results / _FOLDER)),
            index=jobs.number_of(found.facts.slot),
            facts=found.facts,
            replaces=there.get(found.facts.slot),
        )
        for found in active.values()
        if not _is_followed(found, there.get(found.facts.slot))
    ]
    return services.open_services(session, wanted, mux, environ)


def _is_followed(found: Posted, window: Window | None) -> bool:
    return window is not None and not window.dead and window.facts.worker == found.facts.worker


def _unopened(reports: Mapping[str, Report]) -> Iterator[str]:
    for name, report in reports.items():
        if report.state is State.FAILED:
            yield f"{name} has no window here: {report.reason}"


def _started(found: Posted) -> StartedWindow:
    return StartedWindow(
        window=found.facts.slot,
        index=jobs.number_of(found.facts.slot),
        slot=found.facts.slot,
        uuid=None,
        pid=None,
        state=jobs.state(found.window, found.job),
        job=found.job.id,
    )


def _failed(failure: Failure | None) -> Iterator[StartedWindow]:
    if failure:
        slot = failure.place.slot
        yield StartedWindow(
            window=slot.name,
            index=slot.index,
            slot=slot.label,
            uuid=None,
            pid=None,
            state=State.FAILED,
            reason=failure.reason,
        )
