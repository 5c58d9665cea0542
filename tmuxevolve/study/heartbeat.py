"""Which workers of a study are alive, on this machine and on others.

A worker on this machine is alive when the process that wrote its file still is, by pid and start
time. One on another machine, or in another container, is alive while its file's time advances.

Times are the file system's, which all machines share: no worker trusts a clock of its own. Nothing
is decided while the file system does not answer: then OSError is raised.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
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

FORGOTTEN = 24 * 3600.0
"""Seconds without a heartbeat after which a dead worker's file is removed."""

# Clocks that differ by less are the same: heartbeats are further apart.
_SAME_CLOCK = 2.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: its process by pid and start time (in clock ticks since boot), and where it is.

    ``machine`` is the kernel's boot id and the pid namespace: where both agree, pids mean the same.
    ``device`` is for people: the GPU's name, or "CPU"; ``job`` is a Slurm job's id. ``ahead`` is
    by how many seconds this machine's clock was ahead of the file system's.
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
    ahead: float = 0.0

    @property
    def is_here(self) -> bool:
        """Say whether it is on this machine: its processes are among those that we see."""
        return self.machine == _machine()


class Sighting(msgspec.Struct, frozen=True):
    """A worker as its file shows it: ``seen`` seconds after its last heartbeat."""

    identity: Identity
    seen: float
    alive: bool


def myself(worker: str, slot: str, device: str = "", job: str = "") -> Identity:
    """Return this process as a worker."""
    return Identity(
        worker=worker,
        slot=slot,
        device=device,
        job=job,
        host=os.uname().nodename,
        machine=_machine(),
        pid=os.getpid(),
        born=_born(os.getpid()) or 0,
        started=time.time(),
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
        self._write(identity)
        ahead = time.time() - self._path(identity.worker).stat().st_mtime
        if abs(ahead) >= _SAME_CLOCK:
            self._write(msgspec.structs.replace(identity, ahead=ahead))

    def beat(self, worker: str) -> None:
        """Say that this worker is alive. Raises OSError."""
        try:
            # Without a time the file system's own clock is taken, which all machines share.
            os.utime(self._path(worker))
        except FileNotFoundError:
            # Others have taken it for dead for long, and have swept.
            if worker not in self._known:
                raise
            self._write(self._known[worker])

    def leave(self, worker: str) -> None:
        """Remove a worker's file; it may be gone already. Raises OSError."""
        self._known.pop(worker, None)
        with suppress(FileNotFoundError):
            self._path(worker).unlink()

    def alive(self, worker: str, now: float) -> bool:
        """Say whether a worker still runs; ``now`` is the time by the file system's clock.

        Raises OSError when that cannot be seen just now: nobody is dead because of it.
        """
        try:
            beat = self._path(worker).stat().st_mtime
        except FileNotFoundError:
            return False
        if self._is_alive(self.identity(worker), now - beat):
            return True
        # A killed worker is followed by one of the same name: another process.
        self._known.pop(worker, None)
        return self._is_alive(self.identity(worker), now - beat)

    def missing(self, workers: Iterable[str], asking: str) -> set[str]:
        """Return those of the workers that do not run. Raises OSError.

        The one that asks is among them: what it holds is left from a call that failed half way.
        """
        now = self.now(asking)
        return {who for who in workers if who == asking or not self.alive(who, now)}

    def identity(self, worker: str) -> Identity | None:
        """Return a worker; None when it has left or its file is damaged. Raises OSError."""
        if worker not in self._known:
            try:
                data = self._path(worker).read_bytes()
                self._known[worker] = msgspec.json.decode(data, type=Identity)
            except (FileNotFoundError, msgspec.DecodeError):
                return None
        return self._known[worker]

    def now(self, worker: str) -> float:
        """Return the file system's time, by one of our own workers' heartbeat. Raises OSError."""
        self.beat(worker)
        return self._path(worker).stat().st_mtime

    def sightings(self, now: float | None = None) -> tuple[Sighting, ...]:
        """Return all workers that have a file, dead ones too. Raises OSError.

        Without ``now`` nothing is written to learn the time. Then it is our clock's, less what a
        worker of this machine has found it to be ahead, and never before the last heartbeat.
        """
        beats = dict(self._beats())
        found = [(who, at) for name, at in beats.items() if (who := self.identity(name))]
        if now is None:
            ahead = next((who.ahead for who, _ in found if who.is_here), 0.0)
            now = max([time.time() - ahead, *beats.values()])
        return tuple(
            Sighting(who, max(0.0, now - at), self._is_alive(who, now - at)) for who, at in found
        )

    def sweep(self, now: float) -> None:
        """Remove the files of workers that have been dead for long, and what writing left behind.

        Harmless to one that comes back: its next heartbeat writes its file anew. Raises OSError.
        """
        for path, at in self._files():
            if now - at < FORGOTTEN:
                continue
            if path.suffix != ".json" or not self.alive(path.stem, now):
                self._known.pop(path.stem, None)
                # Another user's may have to stay.
                with suppress(FileNotFoundError, PermissionError):
                    path.unlink()

    def _is_alive(self, identity: Identity | None, age: float) -> bool:
        if identity and identity.is_here:
            return _born(identity.pid) == identity.born
        return age < STALE

    def _write(self, identity: Identity) -> None:
        self._known[identity.worker] = identity
        files.replace(self._path(identity.worker), msgspec.json.encode(identity).decode())

    def _beats(self) -> Iterator[tuple[str, float]]:
        """Return each worker with the time of its last heartbeat."""
        return ((path.stem, at) for path, at in self._files() if path.suffix == ".json")

    def _files(self) -> Iterator[tuple[Path, float]]:
        try:
            paths = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            with suppress(FileNotFoundError):
                yield path, path.lstat().st_mtime

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
