"""The study's lock: held for milliseconds, by one process on any machine.

fasteners takes a POSIX record lock, which the kernel ends with the process, and which an NFS client
passes on to the server. benchmarks/locks.py compares it with other libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How often to look while another has it, in seconds: it is held for one or two milliseconds.
_DELAY = 0.001
_LONGEST_DELAY = 0.01


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock. Raises OSError when the file cannot be made or its file system has no locks.

    No other code of a process may open the lock's file: POSIX ends a record lock with the first of
    a process's descriptors that is closed.
    """
    from threading import ThreadError

    from fasteners.process_lock import InterProcessLock

    lock = InterProcessLock(path)
    try:
        lock.acquire(delay=_DELAY, max_delay=_LONGEST_DELAY)
    except ThreadError as error:
        raise OSError(f"{path}: {error}") from None
    try:
        yield
    finally:
        lock.release()
