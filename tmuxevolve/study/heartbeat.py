"""Which workers of a study are alive, on this machine and on others.

A worker on this machine is alive when the process that wrote its file still is, by pid and start
time. One on another machine, or in another container, is alive while its file's time advances.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from tmuxevolve import procfs
from tmuxevolve.study import files

INTERVAL = 20.0
"""Seconds between two heartbeats."""

STALE = 180.0
"""Seconds without a heartbeat after which a worker of another machine is taken for dead."""

FORGOTTEN = 86_400.0
"""Seconds without a heartbeat after which nobody wants to hear of a worker any more."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: its process by pid and start time (in clock ticks since boot), and where it is.

    ``device`` is its GPU, for people, ``job`` the id of the Slurm job that it runs in, if it does.
    ``machine`` is the kernel's boot id and the pid namespace: where both agree, pids mean the same.
    """

    worker: str
    slot: str
    host: str
    machine: str
    pid: int
    born: int
    started: float
    device: str = ""
    job: str = ""


def myself(worker: str, slot: str, device: str = "", job: str = "") -> Identity:
    """Return this process as a worker."""
    return Identity(
        worker=worker,
        slot=slot,
        host=os.uname().nodename,
        machine=machine(),
        pid=os.getpid(),
        born=_born(os.getpid()) or 0,
        started=time.time(),
        device=device,
        job=job,
    )


class Register:
    """The folder with a file for each worker."""

    def __init__(self, folder: Path) -> None:
        """Take the folder as it is; nothing is read yet."""
        self._folder = folder
        self._known: dict[str, Identity] = {}

    def enter(self, identity: Identity) -> None:
        """Write a worker's file. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        files.replace(self._path(identity.worker), msgspec.json.encode(identity).decode())

    def all(self) -> dict[str, Identity]:
        """Return every worker that has not left, dead ones too. Raises OSError."""
        try:
            names = [path.stem for path in self._folder.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return {}
        found = ((name, self.identity(name)) for name in sorted(names))
        return {name: identity for name, identity in found if identity}

    def sweep(self) -> None:
        """Remove the files of workers that will not come back: theirs would be kept for ever.

        A worker that does come back writes its file anew. Raises OSError.
        """
        now = self.file_time()
        for worker, identity in self.all().items():
            lost = identity.machine == machine() or self.age(worker, now) > FORGOTTEN
            if lost and not self.alive(worker, now):
                self.leave(worker)

    def age(self, worker: str, now: float) -> float:
        """Return the seconds since a worker's heartbeat; infinite when it has left."""
        try:
            return max(0.0, now - self._path(worker).stat().st_mtime)
        except FileNotFoundError:
            return math.inf

    def file_time(self) -> float:
        """Return the time by the file system's clock, which may be another machine's.

        A file is made for that and is gone at once; who may not write there gets this machine's.
        """
        path = self._folder / f".now.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError:
            return time.time()
        try:
            path.unlink()
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def beat(self, worker: str) -> None:
        """Say that this worker is alive. Raises OSError."""
        # Without a time the file system's own clock is taken, which all machines share.
        os.utime(self._path(worker))

    def leave(self, worker: str) -> None:
        """Remove a worker's file; it may be gone already. Raises OSError."""
        self._known.pop(worker, None)
        with suppress(FileNotFoundError):
            self._path(worker).unlink()

    def alive(self, worker: str, now: float) -> bool:
        """Say whether a worker still runs; ``now`` is the time by the file system's clock."""
        identity = self.identity(worker)
        if identity is None:
            return False
        if identity.machine == machine():
            return _born(identity.pid) == identity.born
        return self.age(worker, now) < STALE

    def identity(self, worker: str) -> Identity | None:
        """Return a worker, or None when it has left or its file cannot be read."""
        if worker not in self._known:
            try:
                data = self._path(worker).read_bytes()
                self._known[worker] = msgspec.json.decode(data, type=Identity)
            except (OSError, msgspec.DecodeError):
                return None
        return self._known[worker]

    def now(self, worker: str) -> float:
        """Return the file system's time, by way of one of our own workers' heartbeat."""
        try:
            self.beat(worker)
            return self._path(worker).stat().st_mtime
        except OSError:
            return time.time()

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.json"


@cache
def machine() -> str:
    """Return what tells this machine, since its boot, and this container from all others."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _born(pid: int) -> int | None:
    """Return a process's start time in clock ticks; None when it is gone or only a zombie."""
    found = procfs.stat(pid)
    return None if found is None or found[0] in {b"Z", b"X"} else found[2]
