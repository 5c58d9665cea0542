"""Which processes belong to a worker, and what they are in it.

A process belongs to a worker when it descends from the window's first process, or carries the
worker's name in its environment: setsid, double forks and a killed parent do not hide it. Those
whose command line names the worker are its staff: the keeper, and the worker it has forked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve import procfs

if TYPE_CHECKING:
    import psutil

MARK = "TMUXEVOLVE_WORKER"

MESSENGER = str(Path(__file__).with_name("messenger.py"))
"""The program that sends notifications: it ends by itself, and belongs to no worker."""


class Target(msgspec.Struct, frozen=True):
    """A worker to end: its name, and its window's first process (None when that is gone).

    The trainer gets ``signal`` and ``grace`` seconds to end by itself. The staff gets ``notice``
    before that, so that it does not start another trainer.
    """

    worker: str
    pid: int | None
    signal: Signals = Signals.SIGINT
    grace: float = 30.0
    notice: Signals | None = None


class Family(msgspec.Struct):
    """The processes of one worker, as far as they were ever seen."""

    target: Target
    spared: frozenset[int]
    seen: dict[int, psutil.Process] = msgspec.field(default_factory=dict)
    staff: dict[int, psutil.Process] = msgspec.field(default_factory=dict)
    trainers: dict[int, psutil.Process] = msgspec.field(default_factory=dict)
    judged: set[int] = msgspec.field(default_factory=set)
    asked: set[psutil.Process] = msgspec.field(default_factory=set)
    sent: Signals | None = None

    def knows(self, pid: int | None) -> bool:
        """Say whether the process that has this pid now is a member."""
        return pid in self.seen and self.seen[pid].is_running()

    def others(self) -> list[psutil.Process]:
        """Return the living members that are not to be spared."""
        return [p for p in self.seen.values() if p.pid not in self.spared and is_alive(p)]

    def warn(self) -> None:
        """Send the staff its notice."""
        if self.target.notice:
            for process in self.staff.values():
                send(process, self.target.notice)

    def ask(self) -> None:
        """Send every trainer the target's signal, once; without a trainer, whatever there is."""
        for process in list(self.trainers.values()) or self.others():
            if process not in self.asked:
                self.asked.add(process)
                self.send(self.target.signal, [process])

    def trainer_alive(self) -> bool:
        """Say whether the trainer itself, not just a helper of it, is alive."""
        return any(map(is_alive, self.trainers.values()))

    def send(self, number: Signals, processes: Iterable[psutil.Process]) -> None:
        """Send a signal and remember that it was needed."""
        for process in processes:
            self.sent = number
            send(process, number)


class Census:
    """Assigns the machine's processes to families, each time it looks."""

    def __init__(self, families: Iterable[Family]) -> None:
        """Take the families as they are; nothing is looked at yet."""
        self._families = {family.target.worker: family for family in families}
        self._strangers: set[int] = set()
        self._messengers: set[int] = set()

    def look(self) -> None:
        """Add the processes that belong to each family now."""
        import psutil

        parents = parents_of_all()
        # A pid that two looks find is one process: reading every environment once is enough.
        self._strangers &= parents.keys()
        self._messengers &= parents.keys()
        owners = self._owners()
        for pid in parents:
            family = self._heir(pid, parents, owners) or self._marked(pid)
            if family is None or owners.get(pid) is family:
                continue
            with suppress(psutil.NoSuchProcess):
                family.seen[pid] = psutil.Process(pid)
                owners[pid] = family
        for family in self._families.values():
            _tell_apart(family, parents)

    def _heir(
        self, pid: int, parents: Mapping[int, int], owners: Mapping[int, Family]
    ) -> Family | None:
        """Return the family of the nearest ancestor that has one; none of what a messenger runs."""
        line: list[int] = []
        for ancestor in _lineage(pid, parents):
            if ancestor in owners:
                sent = any(map(self._is_messenger, line))
                return None if sent else owners[ancestor]
            line.append(ancestor)
        return None

    def _is_messenger(self, pid: int) -> bool:
        if pid not in self._messengers and is_messenger(pid):
            self._messengers.add(pid)
        return pid in self._messengers

    def _owners(self) -> dict[int, Family]:
        families = self._families.values()
        return {pid: f for f in families for pid, p in f.seen.items() if p.is_running()}

    def _marked(self, pid: int) -> Family | None:
        """Return the family that this process names itself."""
        if pid in self._strangers:
            return None
        for family in self._families.values():
            if pid == family.target.pid and names(pid, family.target.worker):
                return family
        marked = self._families.get(mark(pid))
        if marked is None:
            self._strangers.add(pid)
        return marked


def _tell_apart(family: Family, parents: Mapping[int, int]) -> None:
    """Find the staff; and the trainers, which are the worker's children, or what dead ones left.

    Others are helpers and stay that, whoever becomes their parent. The staff is looked at anew each
    time: between fork and exec a trainer has its parent's command line.
    """
    target = family.target
    near = {pid for pid in family.seen if pid not in family.judged and family.knows(pid)}
    family.staff = {pid: family.seen[pid] for pid in near if names(pid, target.worker)}
    # The keeper's other children are orphans that it has taken in.
    bosses = family.staff.keys() - {target.pid} or family.staff.keys()
    for pid in near - family.staff.keys():
        family.judged.add(pid)
        parent = parents.get(pid)
        if parent in bosses or not (bosses or family.knows(parent)):
            family.trainers[pid] = family.seen[pid]


def _lineage(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents:
        yield pid
        pid = parents[pid]


def parents_of_all() -> dict[int, int]:
    """Return every process's parent: psutil takes four times as long, for its start times too."""
    import psutil

    found = {}
    for pid in psutil.pids():
        state = procfs.stat(pid)
        if state:
            found[pid] = state[1]
    return found


def born(pid: int) -> int:
    """Return a process's start time in clock ticks since boot; 0 when it is gone."""
    found = procfs.stat(pid)
    return found[2] if found else 0


def mark(pid: int) -> str:
    """Return the worker that this process was started for; "" for a stranger."""
    import psutil

    try:
        return psutil.Process(pid).environ().get(MARK, "")
    except (psutil.Error, OSError, ValueError):
        return ""


def names(pid: int, worker: str) -> bool:
    """Say whether the worker's name is a word of this process's command line."""
    return os.fsencode(worker) in procfs.read(pid, "cmdline").split(b"\0")


def is_messenger(pid: int) -> bool:
    """Say whether this process sends a notification."""
    return names(pid, MESSENGER)


def is_alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(process: psutil.Process, number: Signals) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def staff_of(name: str, first: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    return [pid for pid in (first, *children.get(first, ())) if names(pid, name)]


def children_of_all() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid, parent in parents_of_all().items():
        found.setdefault(parent, []).append(pid)
    return found
