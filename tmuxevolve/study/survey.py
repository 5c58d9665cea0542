"""A look at a study from outside: how far it is, and who works on what. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve.study import definition, summary
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register, Sighting
from tmuxevolve.study.history import Generation
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.state import State

# Seconds for which a worker that was lost is still listed.
_RECENT = 3600.0


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of any host: the window ``slot`` on a ``device``, and the Slurm ``job``, if any.

    ``generation`` is the number of the one it is at. ``started`` is by its host's clock, in seconds
    since the epoch; ``seen`` is how many seconds ago its heartbeat was, by the file system's clock
    as far as that is known without writing. ``here`` says whether it is on this machine, ``alive``
    whether it still runs: those that do not were lost within the last hour.
    """

    worker: str
    slot: str
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
    given back or belonged to workers that are dead now; ``failures`` are the last of each worker;
    ``workers`` are those of all hosts that have not left.
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
    workers: tuple[Worker, ...] = ()

    @property
    def in_jobs(self) -> Mapping[str, str]:
        """Return the living worker in each Slurm job, by the job's id."""
        return {w.job: w.worker for w in self.workers if w.job and w.alive}


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
    seen = Register(where.workers).sightings()
    living = {sighting.identity.worker for sighting in seen if sighting.alive}
    at_work = {
        reserved.worker: reserved.number
        for reserved in reservations
        if reserved.worker and reserved.worker in living
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
        workers=workers_of(seen, at_work),
    )


def workers_of(seen: Sequence[Sighting], at_work: Mapping[str, int]) -> tuple[Worker, ...]:
    """Return the workers that live or were lost lately, by host and window."""
    found = [
        Worker(
            worker=who.worker,
            slot=who.slot,
            host=who.host,
            device=who.device,
            job=who.job,
            generation=at_work.get(who.worker),
            started=who.started,
            seen=sighting.seen,
            alive=sighting.alive,
            here=who.is_here,
        )
        for sighting in seen
        if sighting.alive or sighting.seen < _RECENT
        for who in (sighting.identity,)
    ]
    return tuple(sorted(found, key=lambda worker: (worker.host, _natural(worker.slot))))


def _natural(name: str) -> list[tuple[str, int]]:
    """Return what puts gpu2 before gpu10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]
