"""The first process of a window: holds the claim and looks after the worker, its only child.

A worker can be killed as any process can. Then the keeper ends what the trainer's tree has left,
and, if the session's ``restart`` says so, forks another worker (aftermath.py). When the keeper
itself is killed, the worker ends its trainer; when both are, the kernel does (lineage.py).

There is one keeper and one worker per window, and a start waits for all of them: until something
has to be decided they load the modules here and no others.
"""

from __future__ import annotations

import os
import sys
import time

from tmuxevolve import lineage, terminal
from tmuxevolve.counter import Counter, VisitError
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.spawn import Child, Program, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from tmuxevolve.aftermath import Aftermath
    from tmuxevolve.counter import Brief, Direct
else:
    # The module `signal` makes enums of its numbers: 4 ms of each window's start.
    import _signal as signal

_LONG = 3600.0
_FAILURE = 1


def main(address: str, name: str) -> int:
    """Run one worker; return the trainer's exit status, 128 + n after signal n."""
    interrupts = Interrupts()
    try:
        # The claim is held as long as its descriptor is open.
        counter, brief, _claim = Counter.visit(address, name)
    except VisitError as error:
        terminal.say(str(error))
        return _FAILURE
    lineage.adopt_orphans()
    return _Keeper(brief, counter, interrupts).keep()


class _Keeper:
    """One window's keeper."""

    def __init__(self, brief: Brief, counter: Counter, interrupts: Interrupts) -> None:
        self._brief = brief
        self._counter = counter
        self._interrupts = interrupts
        self._aftermath: Aftermath | None = None

    def keep(self) -> int:
        """Run workers until one comes to its own end, or none is to follow."""
        while True:
            started = time.monotonic()
            status = self._wait(self._fork())
            if os.WIFEXITED(status):
                return os.WEXITSTATUS(status)
            final = self._after(os.WTERMSIG(status), time.monotonic() - started)
            if final is not None:
                return final

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

    def _work(self, keeper: int, mask: set[int] | set[signal.Signals]) -> NoReturn:
        status = _FAILURE
        try:
            interrupts = Interrupts()
            lineage.end_with_parent(keeper, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = _work(self._brief, self._counter, interrupts)
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

    def _after(self, number: int, lasted: float) -> int | None:
        """Clear up after a worker that was killed; return an exit status, None to fork another."""
        if self._aftermath is None:
            load()
            from tmuxevolve.aftermath import Aftermath

            self._aftermath = Aftermath(self._brief["order"], self._counter, self._interrupts)
        # Whatever another worker finds, it was not found just now.
        self._brief["direct"] = None
        return self._aftermath.of(number, lasted)


def load() -> None:
    """Make the installed packages importable, which the option -S has left out."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()


def _work(brief: Brief, counter: Counter, interrupts: Interrupts) -> int:
    direct = brief["direct"]
    trainer = None
    if direct and time.monotonic() < direct["until"]:
        trainer = _run(direct, counter)
    while trainer and trainer.poll() is None and not interrupts.hangup:
        interrupts.wait(_LONG)
    if trainer and trainer.returncode is not None and interrupts.stopped:
        # Its window goes too: there is nothing to record, and nobody to wait for.
        return trainer.status
    load()
    from tmuxevolve import worker

    return worker.main(brief["order"], counter, interrupts, trainer)


def _run(direct: Direct, counter: Counter) -> Child | None:
    """Run the trainer; None when the worker has to find out why it cannot."""
    worker = os.getpid()

    def prepare() -> None:
        lineage.end_with_parent(worker, signal.SIGKILL)

    env = {**direct["env"], **terminal.variables()}
    try:
        trainer = spawn(Program(direct["argv"], direct["folder"], env, prepare))
    except OSError:
        return None
    counter.running(trainer.pid)
    return trainer
