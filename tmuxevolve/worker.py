"""What a keeper forks: look at the GPU once more, run the trainer, record its end.

The trainer is a child in the same terminal and process group, so its progress bar and Ctrl-C work
as if it had been typed there.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from signal import Signals
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve import lineage, memory, processes, spawn, terminal
from tmuxevolve.counter import Counter
from tmuxevolve.environment import environment
from tmuxevolve.errors import NothingFreeError, TmuxEvolveError
from tmuxevolve.foreground import Window
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.multiplexer import Ending, State
from tmuxevolve.order import Order, Report, read_order
from tmuxevolve.repetition import Repetition
from tmuxevolve.slots import cuda_environment
from tmuxevolve.spawn import Child, PrepareError, Program
from tmuxevolve.standby import Command, Standby
from tmuxevolve.terminal import say

if TYPE_CHECKING:
    from tmuxevolve.notify import Outbox

# The driver may need a moment to take a killed trainer's memory back.
_PATIENCE, _LOOK = 60.0, 0.5


class _NotStartedError(TmuxEvolveError):
    """The trainer's program cannot be run; the statuses are the shells'."""

    def __init__(self, program: str, error: OSError) -> None:
        self.status = 127 if isinstance(error, FileNotFoundError) else 126
        super().__init__(f"cannot run {program!r}: {error.strerror}")


def main(
    order_: bytes, counter: Counter, interrupts: Interrupts, trainer: Child | None = None
) -> int:
    """Do what the order says; return the trainer's exit status, 128 + n after signal n.

    ``trainer`` is the first one when that runs already.
    """
    order = read_order(order_)
    outbox = outbox_of(order)
    worker = _Worker(order, counter, interrupts, trainer, outbox)
    try:
        ending = worker.run()
    except TmuxEvolveError as error:
        status = getattr(error, "status", error.exit_status)
        ending = Ending(status=status, reason=str(error), ended=time.time())
    worker.close()
    # Only the first report counts: nothing, when the trainer has run.
    state = State.FAILED if ending.status else State.FINISHED
    tell(counter, Report(state=state, reason=ending.reason))
    record(ending, order.worker)
    summary = _summary(order, ending, began=worker.began)
    say(summary)
    if outbox:
        # A trainer's own evolution is over with its window; a study with its budget.
        if not worker.ended_by_hand and (ending.status or not order.evolution):
            outbox.post("failed" if ending.status else "finished", summary)
        outbox.close(interrupts)
    return ending.status


def outbox_of(order: Order) -> Outbox | None:
    """Return what tells people of this worker; None when nobody wants to know."""
    if order.notify is None:
        return None
    from tmuxevolve.notify import Outbox

    return Outbox(order, order.notify)


def tell(counter: Counter, report: Report) -> None:
    """Report to the ``start`` that waits."""
    counter.report(msgspec.json.encode(report))


def record(ending: Ending, worker: str) -> None:
    """Keep how it ended where ``status`` finds it."""
    from tmuxevolve.multiplexer import pane

    with suppress(OSError, subprocess.SubprocessError):
        pane.record_ending(ending, worker, os.environ)


class _Worker:
    """One worker and its window."""

    def __init__(
        self,
        order: Order,
        counter: Counter,
        interrupts: Interrupts,
        first: Child | None,
        outbox: Outbox | None,
    ) -> None:
        self._order = order
        self._counter = counter
        self._interrupts = interrupts
        self._keeper = os.getppid()
        self._device: dict[str, str] = {}
        self._guard = memory.guard(order.memory, order.worker, self._keeper, order.env)
        self._first = first
        self._outbox = outbox
        self._trainer = first
        self._standby = Standby(self._start)

    def run(self) -> Ending:
        order = self._order
        if not self._first:
            self._delay()
        window = Window(
            spawn=self._spawn,
            wait=self._wait,
            end=self._end,
            cause=self._guard.exceeded,
            printed=self._printed,
            say=say,
            load=self._load,
            outbox=self._outbox,
        )
        if not order.evolution:
            return Repetition(order.argv, order.restart, window, self._interrupts).run()
        from tmuxevolve import trainers
        from tmuxevolve.evolution import Evolution
        from tmuxevolve.study import heartbeat

        trainer = trainers.find(order.evolution.recipe.trainer, ())
        evolution = Evolution(order.evolution, trainer, window, self._interrupts)
        identity = heartbeat.myself(order.worker, order.window, order.gpu, order.job)
        return evolution.run(identity)

    @property
    def began(self) -> bool:
        """Say whether a trainer was started."""
        return self._trainer is not None

    @property
    def ended_by_hand(self) -> bool:
        """Say whether somebody ends it and knows that: not when its keeper was killed."""
        interrupts = self._interrupts
        closed = interrupts.hangup and os.getppid() == self._keeper
        return bool(interrupts.stopped or interrupts.typed or closed)

    def close(self) -> None:
        """Remove what was made for the trainers."""
        self._guard.close()

    def _delay(self) -> None:
        order = self._order
        if not order.delay:
            return
        tell(self._counter, Report(state=State.WAITING, reason=f"starts in {order.delay:g} s"))
        say(f"{order.window} starts in {order.delay:g} s")
        self._interrupts.pause(order.delay)
        if self._interrupts.over:
            raise _InterruptedError(self._interrupts)

    def _spawn(self, argv: tuple[str, ...]) -> Child:
        trainer, self._first = self._first, None
        if trainer:
            return trainer
        order = self._order
        if self._outbox:
            self._outbox.report()
        trainer = self._standby.take(argv)
        if trainer is None:
            if not self._device:
                self._device = self._free_device()
            try:
                trainer = self._start(argv)
            except PrepareError:
                raise TmuxEvolveError(f"cannot limit its memory to {order.memory}") from None
            except OSError as error:
                raise _NotStartedError(error.filename or argv[0], error) from None
        self._trainer = trainer
        self._counter.running(trainer.pid)
        if self._outbox:
            # Not before: the GPU would have waited for it.
            self._outbox.send()
        return trainer

    def _start(self, argv: tuple[str, ...], inherit: int | None = None) -> Child:
        """Start a command on the GPU; with a descriptor of ours. Raises OSError."""
        order, worker = self._order, os.getpid()
        env = {**environment(order), **self._device, **terminal.variables()}

        def prepare() -> None:
            lineage.end_with_parent(worker, Signals.SIGKILL)
            self._guard.enter()

        wrapped = self._guard.wrap(argv)
        return spawn.spawn(Program(wrapped, order.workdir, env, prepare, inherit))

    def _load(self, command: Command) -> None:
        """Start the next trainer's process, where a limit leaves it the memory."""
        if self._device and not self._order.memory:
            with suppress(OSError):
                self._standby.load(command)

    def _wait(self, seconds: float) -> None:
        """Wait for the trainer or a signal, and end it when it takes more memory than it may."""
        deadline = time.monotonic() + seconds
        seen = len(self._interrupts.seen)
        while (left := deadline - time.monotonic()) > 0:
            self._interrupts.wait(min(left, self._guard.interval))
            if self._outbox:
                self._outbox.collect()
            if self._trainer is None or self._trainer.poll() is not None:
                return
            if len(self._interrupts.seen) > seen:
                return
            if self._order.memory and self._guard.exceeded():
                self._end(Signals.SIGKILL)

    def _free_device(self) -> dict[str, str]:
        """Name the GPU; before another start, wait until nothing of the last one is on it."""
        order = self._order
        if not self._trainer and order.device and time.monotonic() < order.found_until:
            return order.device
        deadline = time.monotonic() + (_PATIENCE if self._trainer else 0.0)
        while True:
            try:
                return _cuda(order)
            except NothingFreeError:
                if time.monotonic() >= deadline or self._interrupts.over:
                    raise
            self._interrupts.wait(_LOOK)

    def _printed(self, notice: str) -> str:
        from tmuxevolve.multiplexer import pane

        try:
            return pane.printed_since(notice, self._order.worker, os.environ)
        except (OSError, subprocess.SubprocessError):
            return ""

    def _end(self, first: Signals | None = None) -> None:
        """End what is left of the trainer's tree; look at the GPU anew before the next start."""
        self._device = {}
        self._standby.forget()
        order = self._order
        # What the trainer has lost is the keeper's by now.
        first = first or Signals[order.stop_signal]
        target = processes.Target(order.worker, self._keeper, first, order.stop_grace)
        processes.end([target], spared=[os.getpid(), self._keeper])


class _InterruptedError(TmuxEvolveError):
    """A signal came before the trainer was started."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.status = 128 + (interrupts.hangup or Signals.SIGINT)
        super().__init__("interrupted")


def _cuda(order: Order) -> dict[str, str]:
    """Look at the GPU once more, under the claim, and name it as it is numbered now."""
    if order.uuid is None:
        return order.device
    from tmuxevolve import gpus
    from tmuxevolve.session.plan import workers_on

    snapshot = gpus.snapshot(order.env)
    gpu = snapshot.find(order.uuid)
    if gpu is None:
        raise NothingFreeError(
            f"{order.uuid} is gone: {snapshot.problem or 'NVML lists it no more'}"
        )
    busy = gpus.busy_reason(gpu, order.gpus, own_pids=workers_on(gpu, order.gpus))
    if busy:
        raise NothingFreeError(f"GPU {gpu.label} was taken meanwhile: {busy.reason}")
    return cuda_environment(gpu, order.gpus.visible)


def _summary(order: Order, ending: Ending, *, began: bool) -> str:
    if ending.reason and not began and not order.evolution:
        return f"{order.window} did not start: {ending.reason}"
    how = "failed" if ending.status else "finished"
    if ending.reason:
        return f"{order.window} {how}: {ending.reason}"
    cause = f"signal {Signals(ending.signal).name}" if ending.signal else f"exit {ending.status}"
    return f"{order.window} {how} ({cause})"
