"""The limit as a cgroup of our own: version 2 or 1, wherever one can be made below a known one.

See cgroups(7), and Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tmuxevolve.memory import Limit, over

_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_PREFIX = "tmuxevolve-"
_REMOVE_TIMEOUT, _REMOVE_POLL = 2.0, 0.02


class Cgroup:
    """One worker's cgroup, made anew for every trainer."""

    interval = 1.0

    def __init__(self, limit: Limit, worker: str) -> None:
        """Name it; nothing is made yet."""
        self._limit = limit
        self._path = _parents()[0] / f"{_PREFIX}{worker}"

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Make the cgroup; the command stays as it is. Raises OSError."""
        self.close()
        _make(self._path, self._limit.bytes)
        return argv

    def enter(self) -> None:
        """Move this process into it. Raises OSError."""
        _write(self._path / "cgroup.procs", os.getpid())

    def exceeded(self) -> str | None:
        """Ask the kernel whether it has killed in it."""
        return over(self._limit) if _kills(self._path) else None

    def close(self) -> None:
        """Remove it; its processes may still be on their way out."""
        deadline = time.monotonic() + _REMOVE_TIMEOUT
        while self._path.exists() and time.monotonic() < deadline:
            with suppress(OSError):
                self._path.rmdir()
                return
            time.sleep(_REMOVE_POLL)


def works() -> bool:
    """Try it: make one, limit it, move a process there. Removes what killed workers have left."""
    for parent in _parents():
        for left in parent.glob(f"{_PREFIX}*"):
            # The kernel refuses while a process is in it.
            with suppress(OSError):
                left.rmdir()
        path = parent / f"{_PREFIX}try-{os.getpid()}"
        try:
            _make(path, 1 << 30)
            return _can_enter(path)
        except OSError:
            continue
        finally:
            with suppress(OSError):
                path.rmdir()
    return False


def _can_enter(path: Path) -> bool:
    pid = os.fork()
    if not pid:
        try:
            _write(path / "cgroup.procs", os.getpid())
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _make(path: Path, size: int) -> None:
    path.mkdir(exist_ok=True)
    if (path / "memory.max").exists():
        _write(path / "memory.max", size)
        _try(path / "memory.swap.max", 0)
        # All of a tree or nothing: half a trainer hangs.
        _try(path / "memory.oom.group", 1)
        return
    _write(path / "memory.limit_in_bytes", size)
    _try(path / "memory.memsw.limit_in_bytes", size)


def _kills(path: Path) -> int:
    """Return how many processes the kernel has killed for want of memory."""
    name = "memory.events" if (path / "memory.events").exists() else "memory.oom_control"
    with suppress(OSError):
        for line in (path / name).read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def _parents() -> list[Path]:
    """Return the cgroups below which one with a memory limit can be made, the nearest first."""
    own = dict(_own())
    found = []
    for kind, root in _mounted():
        path = root / own.get(kind, "/").lstrip("/")
        for folder in [path, *path.parents]:
            inside = folder.is_relative_to(root) and folder.is_dir()
            if inside and os.access(folder, os.W_OK) and _has_memory(folder, kind):
                found.append(folder)
    return found


def _has_memory(folder: Path, kind: str) -> bool:
    if kind == "v1":
        return True
    with suppress(OSError):
        return "memory" in (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
    return False


def _mounted() -> Iterator[tuple[str, Path]]:
    """Return where the memory controller is: fields 5 and on of mountinfo, see proc(5)."""
    for line in _MOUNTS.read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, *options) = before.split(), after.split()
        if kind == "cgroup2":
            yield "v2", Path(fields[4])
        elif kind == "cgroup" and "memory" in options[-1].split(","):
            yield "v1", Path(fields[4])


def _own() -> Iterator[tuple[str, str]]:
    for line in _OWN.read_text(encoding="utf-8").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield "v2", path
        elif "memory" in controllers.split(","):
            yield "v1", path


def _write(path: Path, value: int) -> None:
    path.write_text(str(value), encoding="ascii")


def _try(path: Path, value: int) -> None:
    with suppress(OSError):
        _write(path, value)
