"""What the kernel does for a process tree when one of its processes ends; see prctl(2).

A window's first processes load it: it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def end_with_parent(parent: int, number: int) -> None:
    """Have this process signalled when its parent ends, however that ends; also after an exec.

    ``parent`` is the pid that the caller took for its parent's: it may have ended meanwhile.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of all descendants that lose theirs: a daemon stays in the tree."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap() -> bool:
    """Collect the children that have ended; say whether others are alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    # Every argument as a long: prctl() is variadic and reads five of them.
    arguments = [ctypes.c_long(number) for number in (value, 0, 0, 0)]
    if _LIBC.prctl(option, *arguments):
        raise OSError(ctypes.get_errno(), "prctl")


# Loaded here: between fork and exec there is no time for it.
_LIBC = ctypes.CDLL(None, use_errno=True)
