"""The first process of a window: holds the claim and looks after the worker, its only child.

A worker can be killed as any process can. Then the keeper ends what the trainer's tree has left,
and, if the session's ``restart`` says so, forks another worker. When the keeper itself is killed,
the worker ends its trainer; when both are, the kernel does (lineage.py).
"""

from __future__ import annotations

import os
import signal
import time
from signal import Signals
from typing import NoReturn

from tmuxevolve import lineage, processes, worker
from tmuxevolve.backoff import Backoff
from tmuxevolve.errors import ExitStatus, TmuxEvolveError
from tmuxevolve.handover import Counter, Order, Report
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.multiplexer import Ending, State

_LONG = 3600.0


def main(address: str, name: str) -> int:
    """Run one worker; return the trainer's exit status, 128 + n after signal n."""
    interrupts = Interrupts()
    try:
        counter, order, claim = Counter.visit(address, name)
    except TmuxEvolveError as error:
        worker.say(str(error))
        return ExitStatus.FAILURE
    lineage.adopt_orphans()
    status = _Keeper(order, counter, interrupts).keep()
    if claim:
        claim.close()
    return status


class _Keeper:
    """One window's keeper."""

    def __init__(self, order: Order, counter: Counter, interrupts: Interrupts) -> None:
        self._order = order
        self._counter = counter
        self._interrupts = interrupts
        self._backoff = Backoff(order.restart)

    def keep(self) -> int:
        """Run workers until one comes to its own end, or none is to follow."""
        while True:
            started = time.monotonic()
            status = self._wait(self._fork())
            if os.WIFEXITED(status):
                return os.WEXITSTATUS(status)
            self._backoff.failed(time.monotonic() - started)
            reason = f"the worker was ended by {Signals(os.WTERMSIG(status)).name}"
            worker.say(f"{reason}; ends what it has left")
            self._clear()
            if not self._again(reason):
                return self._give_up(reason)

    def _fork(self) -> int:
        """Start a worker that shares all that is loaded already."""
        keeper = os.getpid()
        # A signal in between would be noted in the copy of a set that nobody reads.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if not pid:
            self._work(keeper, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _work(self, keeper: int, mask: set[int | Signals]) -> NoReturn:
        status: int = ExitStatus.FAILURE
        try:
            interrupts = Interrupts()
            lineage.end_with_parent(keeper, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = worker.main(self._order, self._counter, interrupts)
        finally:
            os._exit(status)

    def _wait(self, pid: int) -> int:
        """Return a worker's wait status; pass on what came to the keeper alone."""
        passed: set[int] = set()
        while True:
            found, status = os.waitpid(-1, os.WNOHANG)
            if found == pid:
                return status
            if found:
                continue
            for number in self._interrupts.seen & {signal.SIGHUP, signal.SIGTERM} - passed:
                passed.add(number)
                os.kill(pid, number)
            self._interrupts.wait(_LONG)

    def _clear(self) -> None:
        """End all that the dead worker has left: nobody would look after it."""
        target = processes.Target(self._order.worker, os.getpid(), Signals.SIGKILL)
        processes.end([target], spared=[os.getpid()])
        lineage.reap()

    def _again(self, reason: str) -> bool:
        if self._interrupts.over or self._order.restart.on == "never" or self._backoff.exhausted:
            return False
        wait = self._backoff.seconds()
        worker.say(f"{reason}; another one follows in {wait:.0f} s")
        self._interrupts.pause(wait)
        return not self._interrupts.over

    def _give_up(self, reason: str) -> int:
        status = ExitStatus.INTERRUPTED if self._interrupts.over else ExitStatus.FAILURE
        self._counter.report(Report(state=State.FAILED, reason=reason))
        worker.record(Ending(status=status, reason=reason, ended=time.time()))
        worker.say(f"{self._order.window} failed: {reason}")
        return status
