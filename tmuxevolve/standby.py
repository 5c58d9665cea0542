"""A trainer's next process, started while the last one still trains: it loads, then it waits.

Half of a short training is the start of Python and PyTorch, and the GPU idles meanwhile. What
waits has touched no GPU. It ends by itself when the worker does, or when nothing is left to train.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from tmuxevolve.spawn import Child

LEAD = 30.0
"""Seconds before the end of a training at which the next process starts to load."""

Start = Callable[[tuple[str, ...], int], Child]
Command = Callable[[int], "tuple[str, ...] | None"]


class Standby:
    """At most one process that waits for the words of its command."""

    def __init__(self, start: Start) -> None:
        """Take what starts a command with a descriptor, on which it will read its words."""
        self._start = start
        self._child: Child | None = None
        self._words: int | None = None

    def load(self, command: Command) -> None:
        """Start a process, unless one waits or there is no such command. Raises OSError.

        ``command`` is told the descriptor on which the process will read its words.
        """
        if self._child:
            return
        reading, self._words = os.pipe2(os.O_CLOEXEC)
        try:
            argv = command(reading)
            if argv:
                self._child = self._start(argv, reading)
        finally:
            os.close(reading)
            if not self._child:
                self.forget()

    def take(self, words: tuple[str, ...]) -> Child | None:
        """Let the process that waits go on as this command; None when there is none."""
        child, pipe = self._child, self._words
        self._child = self._words = None
        if pipe is None:
            return None
        with suppress(OSError):
            os.write(pipe, b"\0".join(map(os.fsencode, words)))
        os.close(pipe)
        if child is None or child.poll() is not None:
            return None
        child.began = time.monotonic()
        return child

    def forget(self) -> None:
        """Let the process that waits end."""
        if self._words is not None:
            os.close(self._words)
        self._child = self._words = None


def due(elapsed: float, lasted: float | None) -> float:
    """Return in how many seconds the next process is to load; ``lasted`` is the last training's.

    A short training's first quarter is left to itself: it loads its data then.
    """
    usual = 2 * LEAD if lasted is None else lasted
    return max(0.0, max(usual - LEAD, usual / 4) - elapsed)
