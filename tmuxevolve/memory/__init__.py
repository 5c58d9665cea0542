"""A limit on what a worker's process tree may take of the machine's memory: three ways to keep it.

``systemd``: a transient scope of the user's service manager, where cgroup v2 is delegated to it.
``cgroup``: a cgroup of our own, where one can be made. ``watchdog``: the worker looks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from tmuxevolve.units import format_size

_MEMINFO = Path("/proc/meminfo")


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes, and what holds a worker to them."""

    bytes: int
    method: Literal["systemd", "cgroup", "watchdog"]

    def __str__(self) -> str:
        """Return "20.0 GiB (watchdog)"."""
        return f"{format_size(self.bytes)} ({self.method})"


class Guard(Protocol):
    """Holds one worker's trainers to the limit, one trainer after the other.

    ``interval`` is how many seconds may pass between two looks.
    """

    interval: float

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what to run in place of a trainer. Raises OSError when it cannot be limited."""

    def enter(self) -> None:
        """Put this process under the limit: called in the trainer, before it becomes that."""

    def exceeded(self) -> str | None:
        """Say that, and how, the last trainer has gone over the limit; None when it has not."""

    def close(self) -> None:
        """Remove what was made for the worker."""


class Unlimited(msgspec.Struct):
    """No limit."""

    interval: float = 3600.0

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command as it is."""
        return argv

    def enter(self) -> None:
        """Do nothing."""

    def exceeded(self) -> str | None:
        """Return None."""
        return None

    def close(self) -> None:
        """Do nothing."""


def choose(size: int, environ: Mapping[str, str]) -> tuple[Limit, str]:
    """Return the limit with the best method that works here, and why no better one does."""
    from tmuxevolve.memory import cgroup, systemd

    why = systemd.problem(environ)
    if why is None:
        return Limit(bytes=size, method="systemd"), ""
    if cgroup.works():
        return Limit(bytes=size, method="cgroup"), why
    return Limit(bytes=size, method="watchdog"), f"{why}; no cgroup can be made"


def guard(limit: Limit | None, worker: str, keeper: int, environ: Mapping[str, str]) -> Guard:
    """Return what holds this worker; ``keeper`` is the pid of its window's first process."""
    if limit is None:
        return Unlimited()
    if limit.method == "systemd":
        from tmuxevolve.memory.systemd import Scopes

        return Scopes(limit, worker, environ)
    if limit.method == "cgroup":
        from tmuxevolve.memory.cgroup import Cgroup

        return Cgroup(limit, worker)
    from tmuxevolve.memory.watchdog import Watchdog

    return Watchdog(limit, keeper)


def available() -> int:
    """Return how many bytes new processes can have before the machine swaps; see proc(5)."""
    for line in _MEMINFO.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0


def used(pid: int) -> int:
    """Return the bytes of RAM that a process and its descendants use."""
    from tmuxevolve.memory import watchdog

    return watchdog.resident([pid, *watchdog.descendants(pid)])


def over(limit: Limit) -> str:
    """Return the reason why a trainer was ended."""
    return f"out of memory: it needed more than its limit of {limit}"
