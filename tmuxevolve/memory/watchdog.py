"""The limit where the kernel offers none: the worker adds up what the tree uses, and ends it.

Memory that several processes share counts once: as PSS, the proportional set size. The kernel walks
all pages to tell it, so it is asked for only when the resident sizes, which are never less, add up
to more than the limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tmuxevolve.census import is_messenger
from tmuxevolve.memory import Limit, over
from tmuxevolve.units import format_size

_PAGE = os.sysconf("SC_PAGESIZE")
_CALM, _TENSE = 1.0, 0.1


def _nothing(pid: int) -> bool:
    del pid
    return False


class Watchdog:
    """Looks at the descendants of a keeper, the keeper and its worker left out."""

    def __init__(self, limit: Limit, keeper: int) -> None:
        """Begin with no trainer."""
        self.interval = _TENSE
        self._limit = limit
        self._keeper = keeper
        self._found: str | None = None

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command as it is."""
        self._found = None
        return argv

    def enter(self) -> None:
        """Do nothing."""

    def exceeded(self) -> str | None:
        """Add up; look more often from half of the limit on."""
        used = resident(self._trees())
        self.interval = _CALM if used < self._limit.bytes // 2 else _TENSE
        if used > self._limit.bytes:
            used = proportional(self._trees(without=is_messenger))
        if used > self._limit.bytes:
            self._found = f"{over(self._limit)}, and used {format_size(used)}"
        return self._found

    def close(self) -> None:
        """Do nothing."""

    def _trees(self, without: Callable[[int], bool] = _nothing) -> Iterator[int]:
        return (pid for pid in descendants(self._keeper, without) if pid != os.getpid())


def resident(pids: Iterable[int]) -> int:
    """Return the bytes of RAM that these processes use, shared ones counted each time."""
    return sum(_statm(pid)[0] for pid in pids)


def proportional(pids: Iterable[int]) -> int:
    """Return the bytes that these processes use, swapped ones too, shared ones divided.

    Of a process that may not be looked into that closely, only what it has for itself.
    """
    return sum(_pss(pid) for pid in pids)


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except ProcessLookupError:
        return 0
    except OSError:
        whole, shared = _statm(pid)
        return whole - shared
    lines = (line.split() for line in text.splitlines())
    return sum(int(words[1]) << 10 for words in lines if words[0] in {"Pss:", "SwapPss:"})


def _statm(pid: int) -> tuple[int, int]:
    """Return resident and shared bytes; see proc(5)."""
    with suppress(OSError, IndexError):
        _, whole, shared, *_ = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(whole) * _PAGE, int(shared) * _PAGE
    return 0, 0


def descendants(pid: int, without: Callable[[int], bool] = _nothing) -> list[int]:
    """Return the pids of a process's descendants, by way of proc(5)'s lists of children.

    Those that ``without`` names are left out, with all of their own.
    """
    found = []
    for child in _children(pid):
        if not without(child):
            found += [child, *descendants(child, without)]
    return found


def _children(pid: int) -> list[int]:
    """Return the children of all its threads; none of a process that is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found
