"""What the windows of a session are to run: the trainer's own evolution, or their shared study."""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec

from tmuxevolve.config import Session
from tmuxevolve.errors import MissingError, TmuxEvolveError, UsageError
from tmuxevolve.evolution import Plan
from tmuxevolve.study import definition, mutation, space
from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register
from tmuxevolve.study.lock import locked
from tmuxevolve.study.survey import Survey, survey
from tmuxevolve.study.values import Search
from tmuxevolve.trainers import Trainer, Training


class Job(msgspec.Struct, frozen=True):
    """What every window runs.

    In cooperative mode ``argv`` is that of a first generation, ``evolution`` is what the workers
    get, ``budget`` what the session's file says, and ``asked`` what the command line says instead;
    ``columns`` are those of evolve.csv, none when they are not known.
    """

    argv: tuple[str, ...]
    notes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    evolution: Plan | None = None
    budget: int = 0
    asked: int | None = None
    found: Survey | None = None

    @property
    def mode(self) -> str:
        """Return the session's mode, in its own word."""
        return "cooperative" if self.evolution else "native"

    @property
    def workers_wanted(self) -> int | None:
        """Return how many more workers there is work for; None when that has no limit."""
        if not self.evolution:
            return None
        budget = self.asked or max(self.budget, self.found.budget if self.found else 0)
        done = self.found.finished + len(self.found.at_work) if self.found else 0
        return max(0, budget - done)


def job(session: Session, trainer: Trainer, generations: int | None, *, on_gpu: bool) -> Job:
    """Return what the windows are to run; nothing is written.

    Raises UsageError when the command, its hyps or the study that is there contradict the session.
    """
    if session.evolve.mode == "native":
        evolve = msgspec.structs.replace(
            session.evolve, generations=generations or session.evolve.generations
        )
        native = trainer.native(msgspec.structs.replace(session, evolve=evolve), on_gpu=on_gpu)
        return Job(native.argv, native.notes, native.columns)
    plan = _plan(session, trainer, on_gpu=on_gpu)
    first = Files(session.results).generation(0)
    training = Training(0, plan.search.base, first / "hyp.yaml", first, 0)
    return Job(
        argv=trainer.argv(plan.recipe, training),
        notes=(*plan.recipe.notes, *_moved(plan)),
        columns=(*plan.search.layout.metrics, *plan.search.base),
        evolution=plan,
        budget=plan.recipe.generations,
        asked=generations,
        found=survey(session.results),
    )


def begin(job: Job, session: Session, *, alone: bool) -> tuple[str, ...]:
    """Make or continue the study; return notes. Raises UsageError when that cannot be.

    A damaged evolve.csv is mended when this session is ``alone`` with it: nobody else runs.
    """
    try:
        return (*(_mend(job, session) if alone else ()), *_agree(job, session))
    except OSError as error:
        where = f"{session.source}: sessions.{session.name}.results"
        raise UsageError(f"{where}: cannot use {session.results}: {error}") from None


def _mend(job: Job, session: Session) -> tuple[str, ...]:
    if not job.columns:
        return ()
    from tmuxevolve.study import repair

    where = Files(session.results)
    if not job.evolution:
        done = repair.mend(where.table, job.columns)
        return (done,) if done else ()
    where.lock.parent.mkdir(exist_ok=True)
    with locked(where.lock):
        if _anybody_lives(where):
            return ()
        done = repair.mend(where.table, job.columns)
    return (done,) if done else ()


def _anybody_lives(where: Files) -> bool:
    """Say whether any worker of any host is alive; the caller holds the lock, and so may write.

    By the file system's clock: this machine's own may be wrong by hours.
    """
    os.utime(where.lock)
    now = where.lock.stat().st_mtime
    return any(found.alive for found in Register(where.workers).sightings(now))


def _agree(job: Job, session: Session) -> tuple[str, ...]:
    if not job.evolution:
        return ()
    search = job.evolution.search
    wanted = Definition(generations=job.budget, base=search.base, layout=search.layout)
    _refuse_others(job, session, wanted)
    study = agree(Files(session.results), wanted, budget=job.asked)
    _prepare(job.evolution, session)
    if job.asked or study.generations == job.budget:
        return ()
    return (f"the budget stays {study.generations} generations, as it was raised to earlier",)


def _prepare(plan: Plan, session: Session) -> None:
    """Make a database ready, if the study has one; say here, not in every window, what is wrong."""
    from tmuxevolve.study import opening

    where = f"{session.source}: sessions.{session.name}.evolve.storage"
    try:
        opening.prepare(session.results, plan.search)
    except MissingError as error:
        raise MissingError(f"{where}: {str(error).partition(': ')[2]}") from None
    except OSError as error:
        raise TmuxEvolveError(f"{where}: {error}") from None


def _refuse_others(job: Job, session: Session, wanted: Definition) -> None:
    """Refuse to mix with workers that are at another study in the same directory just now."""
    found = definition.load(Files(session.results))
    other = definition.differing(found, wanted) if found and job.found and job.found.at_work else ()
    if other:
        raise UsageError(
            f"{session.source}: sessions.{session.name}.results: {session.results} is in use by"
            f" workers that began with other hyps ({'; '.join(other)}): use another directory,"
            " or stop them first"
        )


def _plan(session: Session, trainer: Trainer, *, on_gpu: bool) -> Plan:
    recipe = trainer.recipe(session, on_gpu=on_gpu)
    where = f"{session.source}: sessions.{session.name}.evolve.space"
    try:
        bounds = space.build(recipe.base, recipe.space, session.evolve.space)
    except ValueError as error:
        raise UsageError(f"{where}.{error}") from None
    if not any(bound.gain and bound.lower < bound.upper for bound in bounds.values()):
        raise UsageError(f"{where}: no hyp can move: give one a min and a max")
    _check_sampler(session)
    search = Search(
        base=mutation.constrain(recipe.base, bounds),
        space=bounds,
        layout=recipe.layout,
        sampler=session.evolve.sampler,
        seed=session.evolve.seed,
        storage=session.evolve.storage,
    )
    return Plan(
        results=str(session.results),
        recipe=recipe,
        search=search,
        restart=session.restart,
        # On CPU slots what loads takes the time from what trains.
        standby=on_gpu if session.evolve.standby is None else session.evolve.standby,
    )


def _moved(plan: Plan) -> tuple[str, ...]:
    """Say which of the hyps to begin with lie outside their bounds, where YOLOv5 cuts them too."""
    moved = [
        f"{name} {value:g} begins as {plan.search.base[name]:g}"
        for name, value in plan.recipe.base.items()
        if not math.isclose(value, plan.search.base[name], rel_tol=1e-4)
    ]
    return (f"outside its bounds (evolve.space): {', '.join(moved)}",) if moved else ()


def _check_sampler(session: Session) -> None:
    """Say here, and not in every window, that a library is missing."""
    from tmuxevolve.study import samplers

    try:
        samplers.make(session.evolve.sampler)
    except TmuxEvolveError as error:
        where = f"{session.source}: sessions.{session.name}"
        raise type(error)(f"{where}.{error}") from None


def results_problem(results: Path) -> str | None:
    """Return why a results directory cannot be made or written to; None when it can."""
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror
    return None if os.access(results, os.W_OK | os.X_OK) else "not writable"
