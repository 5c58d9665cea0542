"""Find and end the process tree of a worker.

psutil keeps pid and creation time together and refuses to signal a pid that was given to somebody
else. Which processes are a worker's: census.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from signal import Signals
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve.census import (
    MARK,
    Census,
    Family,
    Target,
    born,
    children_of_all,
    is_messenger,
    mark,
    names,
    parents_of_all,
    send,
    staff_of,
)

if TYPE_CHECKING:
    import psutil

__all__ = [
    "MARK",
    "Ended",
    "Target",
    "abandoned",
    "end",
    "first_of",
    "ours",
    "signal_workers",
    "trainer_pids",
]

_POLL = 0.05
# After the trainer itself is gone its helpers get this long before they are terminated.
_LINGER = 2.0
_TERMINATE_TIMEOUT = 5.0
_KILL_TIMEOUT = 5.0


class Ended(msgspec.Struct, frozen=True):
    """What it took: the last signal that was needed, how many processes, and who is left.

    ``job`` is the Slurm job's id where that is what was ended.
    """

    signal: Signals | None
    processes: int
    left: tuple[int, ...] = ()
    job: str | None = None


def end(
    targets: Iterable[Target],
    spared: Iterable[int] = (),
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Ended]:
    """End the workers' process trees, all at the same time; return what it took, by worker.

    The pids ``spared`` are left alone: a worker may end its own family.

    Each trainer gets its target's signal and grace, then every process of the tree SIGTERM, then
    SIGKILL. A target whose signal is SIGKILL is killed at once with all its tree.
    """
    families = [Family(target, frozenset(spared)) for target in targets]
    census = Census(families)
    census.look()
    patient = [f for f in families if f.target.signal != Signals.SIGKILL]
    _ask(patient, census, clock)
    _sweep(patient, census, Signals.SIGTERM, clock() + _TERMINATE_TIMEOUT, clock)
    _sweep(families, census, Signals.SIGKILL, clock() + _KILL_TIMEOUT, clock)
    return {
        f.target.worker: Ended(f.sent, len(f.seen), tuple(process.pid for process in f.others()))
        for f in families
    }


def trainer_pids(workers: Mapping[str, int]) -> dict[str, int]:
    """Return the trainer's pid of each worker that has one; others are left out.

    ``workers`` maps a worker's name to its window's first process.
    """
    if not workers:
        return {}
    found = {}
    children = children_of_all()
    for name, first in workers.items():
        staff = staff_of(name, first, children)
        others = [c for pid in staff for c in children.get(pid, ()) if c not in staff]
        trainers = [pid for pid in others if not is_messenger(pid)]
        if trainers:
            # The one that trains is older than what stands by; pids begin anew after the last one.
            found[name] = min(trainers, key=born)
    return found


def signal_workers(workers: Mapping[str, int], number: Signals) -> None:
    """Signal the staff of these workers; ``workers`` maps a worker's name to its first process."""
    import psutil

    children = children_of_all()
    for name, first in workers.items():
        for pid in staff_of(name, first, children):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if names(pid, name):
                    send(process, number)


def first_of(worker: str) -> int | None:
    """Return a worker's first process, where no window tells; None when there is none."""
    import psutil

    staff = {pid for pid in psutil.pids() if names(pid, worker) and mark(pid) == worker}
    parents = parents_of_all()
    return next((pid for pid in sorted(staff) if parents.get(pid) not in staff), None)


def abandoned(workers: Mapping[str, int]) -> frozenset[str]:
    """Return those workers whose window's first process is gone; ``workers`` maps names to it."""
    return frozenset(name for name, pid in workers.items() if not names(pid, name))


def ours(pids: Iterable[int]) -> frozenset[int]:
    """Return those of the pids that were started by a worker of this user's."""
    return frozenset(pid for pid in pids if mark(pid))


def _ask(families: Sequence[Family], census: Census, clock: Callable[[], float]) -> None:
    """Signal the trainers alone: they know best how to end their own helpers."""
    start = clock()
    deadlines = {}
    for family in families:
        family.warn()
    census.look()
    for family in families:
        family.ask()
        deadlines[family.target.worker] = start + family.target.grace
    waiting = list(families)
    while waiting:
        census.look()
        for family in waiting:
            # A trainer that was being started when the notice came is asked too.
            if family.trainer_alive():
                family.ask()
            if not family.trainer_alive():
                worker = family.target.worker
                deadlines[worker] = min(deadlines[worker], clock() + _LINGER)
        waiting = [f for f in waiting if f.others() and clock() < deadlines[f.target.worker]]
        if waiting:
            time.sleep(_POLL)


def _sweep(
    families: Sequence[Family],
    census: Census,
    number: Signals,
    deadline: float,
    clock: Callable[[], float],
) -> None:
    """Signal whatever is left of each tree, also what is born meanwhile, until nothing is."""
    signalled: set[psutil.Process] = set()
    while True:
        census.look()
        left = [(family, process) for family in families for process in family.others()]
        if not left or clock() >= deadline:
            return
        for family, process in left:
            if process not in signalled:
                signalled.add(process)
                family.send(number, [process])
        time.sleep(_POLL)
