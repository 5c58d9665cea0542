"""The study's lock: held for a millisecond, by one process on any machine.

A POSIX record lock, which the kernel ends with the process, and which an NFS client passes on to
the server. Whoever waits sleeps in the kernel, in turn: libraries that look again and again leave
the lock idle meanwhile, and some waiters without it for seconds (benchmarks/locks.py).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tmuxevolve.study.files import APPENDING


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock. Raises OSError when the file cannot be made or its file system has no locks.

    No other code of a process may open the lock's file: POSIX ends a record lock with the first of
    a process's descriptors that is closed.
    """
    descriptor = _taken(path)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def prepared(queue: Path, path: Path, prepare: Callable[[], None]) -> Iterator[None]:
    """Hold the lock, after what can be done without it: by one at a time, the next in the queue.

    Whoever reads what the others have written while it waits has little left to read when its turn
    comes, and the lock is held for less long. The queue protects nothing. Raises OSError.
    """
    waiting = _taken(queue)
    try:
        prepare()
        descriptor = _taken(path)
    finally:
        os.close(waiting)
    try:
        yield
    finally:
        os.close(descriptor)


def _taken(path: Path) -> int:
    descriptor = os.open(path, APPENDING, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
