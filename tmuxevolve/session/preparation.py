"""What a ``start`` would do: the session, its job, and the places for its workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from tmuxevolve import claims, gpus, schedule, slots, trainers
from tmuxevolve.config import Session
from tmuxevolve.errors import ExitStatus
from tmuxevolve.multiplexer import Facts, Multiplexer
from tmuxevolve.schedule import Schedule
from tmuxevolve.session import evolve, limits, plan, services
from tmuxevolve.session.evolve import Job
from tmuxevolve.session.idle import Idle
from tmuxevolve.session.plan import Plan
from tmuxevolve.session.stop import clear
from tmuxevolve.trainers import Trainer

# Seconds for which a GPU that was free is taken for free, once it is claimed.
_FRESH = 3.0


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What ``start`` would run in one window, beyond the caller's own environment.

    ``sbatch`` are the options of the Slurm job that it would be.
    """

    window: str
    slot: str
    workdir: str
    env: dict[str, str]
    argv: tuple[str, ...]
    delay: float
    sbatch: tuple[str, ...] = ()


class Preparation(msgspec.Struct, frozen=True):
    """A session, what its windows will run, and where."""

    session: Session
    trainer: Trainer
    job: Job
    plan: Plan
    found_until: float
    services: tuple[str, ...] = ()
    generations: int | None = None

    @property
    def facts(self) -> Facts:
        """Return what all windows of the session have in common."""
        session = self.session
        return Facts(
            worker="",
            session=session.name,
            slot="",
            trainer=self.trainer.name,
            mode=self.job.mode,
            command="",
            results=str(session.results),
            started=0.0,
            stop_signal=session.stop.signal,
            stop_grace=float(session.stop.grace),
            source=str(session.source),
        )

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
    def is_complete(self) -> bool:
        """Say whether the study's budget leaves nothing to do."""
        return self.job.workers_wanted == 0

    @property
    def exit_status(self) -> ExitStatus:
        """Return success when there is a place for a worker now or later, or workers run."""
        plan = self.plan
        busy = plan.places or plan.running or self.is_complete or services.WATCH in self.services
        return ExitStatus.OK if busy else ExitStatus.NOTHING_FREE


def prepare(
    session: Session,
    mux: Multiplexer,
    environ: Mapping[str, str],
    generations: int | None = None,
    *,
    look: bool = False,
    wanted: Sequence[str] = (),
    idle: Idle | None = None,
    pick: Callable[[Plan], Plan] | None = None,
) -> Preparation:
    """Look at the machine and decide what to start; nothing is changed.

    ``generations`` is what the command line says in place of the session's; ``wanted`` are service
    windows to open too. What workers of this session have left behind when they were killed is
    ended before, unless it is only a ``look``. ``idle`` remembers how long GPUs have been free,
    ``pick`` leaves out places before they are counted.
    """
    if session.slurm:
        from tmuxevolve.session import submission

        return submission.prepare(session, mux, generations, wanted=wanted, pick=pick)
    mux.check()
    if not look:
        clear(mux, session.name)
    snapshot = None if session.gpus.use == "none" else gpus.snapshot(environ)
    trainer = trainers.find(session.trainer, session.command)
    job = evolve.job(session, trainer, generations, on_gpu=plan.on_gpu(session, snapshot))
    found_until = time.monotonic() + _FRESH
    machine = plan.Machine(snapshot, claims.held(), mux.windows())
    if idle:
        machine = idle.look(machine, session.gpus)
    chosen = plan.at_most(plan.make(session, machine, pick), job.workers_wanted)
    chosen = _by_the_clock(chosen, session)
    if session.min_free_memory:
        chosen = limits.within(chosen, session.min_free_memory)
    if session.notify and (chosen.places or wanted):
        from tmuxevolve.session import notify

        notify.check(session, session.notify, environ)
    return Preparation(
        session, trainer, job, chosen, found_until, services=tuple(wanted), generations=generations
    )


def _by_the_clock(chosen: Plan, session: Session) -> Plan:
    """Return the plan with nothing new while the session's schedule says so."""
    if session.schedule is None:
        return chosen
    found, now = schedule.parse(session.schedule), datetime.now()
    if found.is_open(now):
        return chosen
    note = f"schedule {session.schedule}: nothing starts before {opening(found, now)}"
    return msgspec.structs.replace(chosen, places=(), notes=(*chosen.notes, note))


def opening(found: Schedule, now: datetime) -> str:
    """Say when the schedule changes next, as people would."""
    change = found.next_change(now)
    return f"{change:%a %H:%M}" if change else "ever"


def dry_run(preparation: Preparation) -> tuple[DryRun, ...]:
    """Return what ``start`` would run."""
    session = preparation.session
    if session.slurm:
        from tmuxevolve.session import submission

        return submission.dry_run(preparation)
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
