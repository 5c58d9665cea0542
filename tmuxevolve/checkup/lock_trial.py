"""Tries whether a lock keeps other processes out, with two of them. A program of its own:

    python -m tmuxevolve.checkup.lock_trial FILE

Ends with 0 when it does; else with 1, and says why. A file system may let a lock wait for ever, so
whoever runs this gives it some seconds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tmuxevolve.study.lock import locked

# Ends with 0 when it gets the lock, 1 when somebody has it. Opened to write, as the lock demands.
_CONTENDER = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
"""
_SECONDS = 10


def problem(path: Path) -> str | None:
    """Return what is wrong with locks on this file; None when they work. Raises OSError."""
    with locked(path):
        if _gets(path):
            return "two processes get the same lock"
    return None if _gets(path) else "a lock that was given back is not to be had"


def _gets(path: Path) -> bool:
    argv = [sys.executable, "-I", "-S", "-c", _CONTENDER, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode not in {0, 1} or done.stderr:
        raise OSError((done.stderr.strip().splitlines() or ["no answer"])[-1])
    return done.returncode == 0


if __name__ == "__main__":
    try:
        wrong = problem(Path(sys.argv[1]))
    except (OSError, subprocess.TimeoutExpired) as error:
        wrong = str(error)
    print(wrong or "", end="")
    sys.exit(1 if wrong else 0)
