"""Signals as flags: a worker looks at them where it can act on them, and its waits end with them.

An exception out of a signal handler could strike between two writes to the study. A window's first
processes load this: it imports next to nothing.
"""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
else:
    # The module `signal` makes enums of its numbers: 4 ms of each window's start.
    import _signal as signal

STOP = signal.SIGUSR1
"""Asks a worker to end: whoever sends it ends the trainer too."""

DRAIN = signal.SIGUSR2
"""Asks a worker to end after the generation that it is at."""


class Interrupts:
    """The signals that have come so far."""

    def __init__(self) -> None:
        """Take over the process's signals."""
        self.seen: set[int] = set()
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in (
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGCHLD,
            STOP,
            DRAIN,
        ):
            signal.signal(number, self._note)

    @property
    def hangup(self) -> int | None:
        """Return the signal that wants this worker to end its trainer itself, and then to end."""
        found = self.seen & {signal.SIGTERM, signal.SIGHUP}
        return min(found) if found else None

    @property
    def typed(self) -> bool:
        """Say whether Ctrl-C was pressed in the window: the trainer has got it too."""
        return bool(self.seen & {signal.SIGINT, signal.SIGQUIT})

    @property
    def stopped(self) -> bool:
        """Say whether ``tmuxevolve stop`` ends this worker."""
        return STOP in self.seen

    @property
    def over(self) -> bool:
        """Say whether no further generation is to begin."""
        return bool(self.seen)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes, a child's end among them, or the time is up."""
        select.select([self._pipe[0]], [], [], max(0.0, seconds))
        try:
            while os.read(self._pipe[0], 512):
                pass
        except BlockingIOError:
            return

    def pause(self, seconds: float) -> None:
        """Sleep until the time is up, or no further generation is to begin."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.over:
            self.wait(deadline - time.monotonic())

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number != signal.SIGCHLD:
            self.seen.add(number)
