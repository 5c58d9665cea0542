"""Find and end the process tree of a worker.

A process belongs to a worker when it descends from the window's first process, or carries the
worker's name in its environment: setsid, double forks and a killed parent do not hide it. psutil
keeps pid and creation time together and refuses to signal a pid that was given to somebody else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from signal import Signals
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MARK = "TMUXEVOLVE_WORKER"
_POLL = 0.05
# After the trainer itself is gone its helpers get this long before they are terminated.
_LINGER = 2.0
_TERMINATE_TIMEOUT = 5.0
_KILL_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A worker to end: its name, and its window's first process (None when that is gone).

    The trainer gets ``signal`` and ``grace`` seconds to end by itself. The first process gets
    ``notice`` before that, so that it does not start another trainer.
    """

    worker: str
    pid: int | None
    signal: Signals = Signals.SIGINT
    grace: float = 30.0
    notice: Signals | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What it took: the last signal that was needed, how many processes, and who is left."""

    signal: Signals | None
    processes: int
    left: tuple[int, ...] = ()


@dataclass(slots=True)
class _Family:
    """The processes of one worker, as far as they were ever seen."""

    target: Target
    seen: dict[int, psutil.Process] = field(default_factory=dict)
    trainers: dict[int, psutil.Process] = field(default_factory=dict)
    asked: set[psutil.Process] = field(default_factory=set)
    sent: Signals | None = None

    def knows(self, pid: int | None) -> bool:
        """Say whether the process that has this pid now is a member."""
        return pid in self.seen and self.seen[pid].is_running()

    def others(self) -> list[psutil.Process]:
        """Return the living members without ourselves: a worker may end its own family."""
        return [p for p in self.seen.values() if p.pid != os.getpid() and _is_alive(p)]

    def warn(self) -> None:
        """Send the first process its notice."""
        first = self.target.pid
        if self.target.notice and first is not None and self.knows(first):
            _send(self.seen[first], self.target.notice)

    def ask(self) -> None:
        """Send every trainer the target's signal, once; without a trainer, whatever there is."""
        for process in list(self.trainers.values() or self.others()):
            if process not in self.asked:
                self.asked.add(process)
                self.send(self.target.signal, [process])

    def trainer_alive(self) -> bool:
        """Say whether the trainer itself, not just a helper of it, is alive."""
        return any(map(_is_alive, self.trainers.values()))

    def send(self, number: Signals, processes: Iterable[psutil.Process]) -> None:
        """Send a signal and remember that it was needed."""
        for process in processes:
            self.sent = number
            _send(process, number)


def end(targets: Iterable[Target], clock: Callable[[], float] = time.monotonic) -> dict[str, Ended]:
    """End the workers' process trees, all at the same time; return what it took, by worker.

    Each trainer gets its target's signal and grace, then every process of the tree SIGTERM, then
    SIGKILL. A target whose signal is SIGKILL is killed at once with all its tree.
    """
    families = [_Family(target) for target in targets]
    census = _Census(families)
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
    """Return the trainer's pid of each worker whose first process has a child; others are left out.

    ``workers`` maps a worker's name to its window's first process.
    """
    if not workers:
        return {}
    parents = _parents()
    firsts = {pid: name for name, pid in workers.items()}
    return {firsts[parent]: pid for pid, parent in parents.items() if parent in firsts}


def signal_workers(workers: Mapping[str, int], number: Signals) -> None:
    """Signal the first processes of these workers; ``workers`` maps a worker's name to its pid."""
    import psutil

    for worker, pid in workers.items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if _names(pid, worker):
                _send(process, number)


def ours(pids: Iterable[int]) -> frozenset[int]:
    """Return those of the pids that were started by a worker of this user's."""
    return frozenset(pid for pid in pids if _mark(pid))


def _ask(families: Sequence[_Family], census: _Census, clock: Callable[[], float]) -> None:
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
    families: Sequence[_Family],
    census: _Census,
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


class _Census:
    """Assigns the machine's processes to families, each time it looks."""

    def __init__(self, families: Iterable[_Family]) -> None:
        """Take the families as they are; nothing is looked at yet."""
        self._families = {family.target.worker: family for family in families}
        self._strangers: set[int] = set()

    def look(self) -> None:
        """Add the processes that belong to each family now."""
        import psutil

        parents = _parents()
        # A pid that two looks find is one process: reading every environment once is enough.
        self._strangers &= parents.keys()
        owners = self._owners()
        for pid in parents:
            family = next((owners[p] for p in _lineage(pid, parents) if p in owners), None)
            family = family or self._marked(pid)
            if family is None or owners.get(pid) is family:
                continue
            with suppress(psutil.NoSuchProcess):
                family.seen[pid] = process = psutil.Process(pid)
                owners[pid] = family
                if _is_trainer(pid, parents, family):
                    family.trainers[pid] = process

    def _owners(self) -> dict[int, _Family]:
        families = self._families.values()
        return {pid: f for f in families for pid, p in f.seen.items() if p.is_running()}

    def _marked(self, pid: int) -> _Family | None:
        """Return the family that this process names itself."""
        if pid in self._strangers:
            return None
        for family in self._families.values():
            if pid == family.target.pid and _names(pid, family.target.worker):
                return family
        marked = self._families.get(_mark(pid))
        if marked is None:
            self._strangers.add(pid)
        return marked


def _is_trainer(pid: int, parents: Mapping[int, int], family: _Family) -> bool:
    """Say whether this is the worker's child, or the top of what a dead worker left behind."""
    first = family.target.pid
    if family.knows(first):
        return parents[pid] == first
    return not family.knows(parents[pid])


def _lineage(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents:
        yield pid
        pid = parents[pid]


def _parents() -> dict[int, int]:
    import psutil

    found = {}
    for process in psutil.process_iter(["ppid"]):
        found[process.pid] = process.info["ppid"] or 0
    return found


def _mark(pid: int) -> str:
    """Return the worker that this process was started for; "" for a stranger."""
    import psutil

    try:
        return psutil.Process(pid).environ().get(MARK, "")
    except (psutil.Error, OSError, ValueError):
        return ""


def _names(pid: int, worker: str) -> bool:
    """Say whether the worker's name is a word of this process's command line."""
    import psutil

    try:
        return worker in psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return False


def _is_alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: Signals) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)
