"""Which workers of a study are alive, on this machine and on others.

A worker on this machine is alive when the process that wrote its file still is, by pid and start
time. One on another machine, or in another container, is alive while its file's time advances.
"""

from __future__ import annotations

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


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: its process by pid and start time (in clock ticks since boot), and where it is.

    ``job`` is the id of the Slurm job that it runs in, if it does.
    ``machine`` is the kernel's boot id and the pid namespace: where both agree, pids mean the same.
    """

    worker: str
    slot: str
    host: str
    machine: str
    pid: int
    born: int
    started: float
    job: str = ""


def myself(worker: str, slot: str, job: str = "") -> Identity:
    """Return this process as a worker."""
    return Identity(
        worker=worker,
        slot=slot,
        host=os.uname().nodename,
        machine=_machine(),
        pid=os.getpid(),
        born=_born(os.getpid()) or 0,
        started=time.time(),
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
        if identity.machine == _machine():
            return _born(identity.pid) == identity.born
        try:
            return now - self._path(worker).stat().st_mtime < STALE
        except FileNotFoundError:
            return False

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
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _born(pid: int) -> int | None:
    """Return a process's start time in clock ticks; None when it is gone or only a zombie."""
    found = procfs.stat(pid)
    return None if found is None or found[0] in {b"Z", b"X"} else found[2]
