"""A look at a study from outside: how far it is, and who works on what. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from tmuxevolve.study import definition, summary
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register, machine
from tmuxevolve.study.history import Generation
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.state import State

# Dead workers are shown for so many seconds: somebody may miss them.
_OF_INTEREST = 3600.0


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of the study, on any machine; ``seen`` are the seconds since its heartbeat.

    ``window`` and ``device`` are its window's name and its GPU, ``generation`` the number of the
    one that it is at, ``job`` a Slurm job's id or "", ``started`` seconds since the epoch.
    """

    worker: str
    window: str
    host: str
    device: str
    job: str
    generation: int | None
    started: float
    seen: float
    alive: bool
    here: bool


class Survey(msgspec.Struct, frozen=True):
    """How far a study is.

    ``at_work`` maps a living worker to the number of its generation; ``waiting`` generations were
    given back or belonged to workers that are dead now; ``failures`` are the last of each worker.
    ``in_jobs`` maps a Slurm job's id to the living worker in it. ``workers`` are those of all
    machines that have not left, the dead ones of the last hour too.
    """

    budget: int
    finished: int
    best: Generation | None
    at_work: Mapping[str, int]
    waiting: int
    failed: int
    skipped: int
    failures: Mapping[str, Failed]
    problem: str | None
    in_jobs: Mapping[str, str] = {}
    workers: tuple[Worker, ...] = ()


def survey(results: Path) -> Survey | None:
    """Return how far the study in a results directory is; None when there is none.

    Raises UsageError when its definition is damaged, and OSError when its files cannot be read.
    """
    where = Files(results)
    found = definition.load(where)
    if found is None:
        return None
    state = State(where, found.layout, list(found.base))
    summary.resume(where.summary, state)
    state.refresh()
    return of_state(where, found.generations, state)


def of_state(where: Files, budget: int, state: State) -> Survey:
    """Return how far the study is that a state was just brought up to date with."""
    reservations = [found for found in [*state.open.values()] if not state.is_over(found)]
    held = {reserved.worker: reserved.number for reserved in reservations if reserved.worker}
    workers = _workers(Register(where.workers), held)
    at_work = {w.worker: w.generation for w in workers if w.alive and w.generation is not None}
    return Survey(
        budget=budget,
        finished=state.table.count,
        best=state.table.best,
        at_work=at_work,
        waiting=len(reservations) - len(at_work),
        failed=state.failed,
        skipped=state.given_up,
        failures=state.last_failure,
        problem=state.table.problem,
        in_jobs={w.job: w.worker for w in workers if w.job and w.alive},
        workers=tuple(workers),
    )


def _workers(register: Register, held: Mapping[str, int]) -> list[Worker]:
    """Return the workers of all machines; ``held`` are the generations that they have reserved."""
    known = register.all()
    now = register.file_time() if known else 0.0
    found = (
        Worker(
            worker=name,
            window=identity.slot,
            host=identity.host,
            device=identity.device,
            job=identity.job,
            generation=held.get(name),
            started=identity.started,
            seen=register.age(name, now),
            alive=register.alive(name, now),
            here=identity.machine == machine(),
        )
        for name, identity in known.items()
    )
    return [worker for worker in found if worker.alive or worker.seen < _OF_INTEREST]
