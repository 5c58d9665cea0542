"""What a keeper does when its worker was killed: end what it has left, wait, give up."""

from __future__ import annotations

import os
import time
from signal import Signals

from tmuxevolve import lineage, processes
from tmuxevolve.backoff import Backoff
from tmuxevolve.counter import Counter
from tmuxevolve.errors import ExitStatus
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.multiplexer import Ending, State
from tmuxevolve.order import Report, read_order
from tmuxevolve.terminal import say
from tmuxevolve.worker import outbox_of, record, tell


class Aftermath:
    """A keeper's dead workers."""

    def __init__(self, order: bytes, counter: Counter, interrupts: Interrupts) -> None:
        """Read the order, for the first of them."""
        self._order = read_order(order)
        self._counter = counter
        self._interrupts = interrupts
        self._backoff = Backoff(self._order.restart)

    def of(self, number: int, lasted: float) -> int | None:
        """Return the window's exit status, or None when another worker is to follow now.

        ``number`` is the signal that ended the worker after ``lasted`` seconds.
        """
        self._backoff.failed(lasted)
        reason = f"the worker was ended by {Signals(number).name}"
        say(f"{reason}; ends what it has left")
        self._clear()
        return None if self._again(reason) else self._give_up(reason)

    def _clear(self) -> None:
        """End all that the dead worker has left: nobody would look after it."""
        target = processes.Target(self._order.worker, os.getpid(), Signals.SIGKILL)
        processes.end([target], spared=[os.getpid()])
        lineage.reap()

    def _again(self, reason: str) -> bool:
        if self._interrupts.over or self._order.restart.on == "never" or self._backoff.exhausted:
            return False
        wait = self._backoff.seconds()
        say(f"{reason}; another one follows in {wait:.0f} s")
        self._interrupts.pause(wait)
        return not self._interrupts.over

    def _give_up(self, reason: str) -> int:
        status = ExitStatus.INTERRUPTED if self._interrupts.over else ExitStatus.FAILURE
        tell(self._counter, Report(state=State.FAILED, reason=reason))
        record(Ending(status=status, reason=reason, ended=time.time()), self._order.worker)
        summary = f"{self._order.window} failed: {reason}"
        say(summary)
        outbox = outbox_of(self._order)
        if outbox and not self._interrupts.over:
            outbox.post("failed", summary)
            outbox.close(self._interrupts)
        return status
