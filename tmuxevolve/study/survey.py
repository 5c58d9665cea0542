"""A look at a study from outside: how far it is, and who works on what. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tmuxevolve.study import definition, summary
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register
from tmuxevolve.study.history import Generation
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.state import State


class Survey(msgspec.Struct, frozen=True):
    """How far a study is.

    ``at_work`` maps a living worker to the number of its generation; ``waiting`` generations were
    given back or belonged to workers that are dead now; ``failures`` are the last of each worker.
    ``in_jobs`` maps a Slurm job's id to the living worker in it.
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
    register, now = Register(where.workers), time.time()
    at_work = {
        reserved.worker: reserved.number
        for reserved in reservations
        if reserved.worker and register.alive(reserved.worker, now)
    }
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
        in_jobs={job: worker for worker in at_work if (job := _job(register, worker))},
    )


def _job(register: Register, worker: str) -> str:
    identity = register.identity(worker)
    return identity.job if identity else ""
