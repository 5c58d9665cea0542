"""What runs in a window: take the claim, look at the GPU once more, run the trainer, keep its end.

The trainer is a child in the same terminal and process group, so its progress bar and Ctrl-C work
as if it had been typed there; the worker stays to hold the claim and to record the exit status.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from tmuxevolve import processes
from tmuxevolve.errors import ExitStatus, NothingFreeError, TmuxEvolveError
from tmuxevolve.handover import Counter, Order, Report
from tmuxevolve.multiplexer import NOTICE, Ending, State
from tmuxevolve.slots import cuda_environment

# These belong to the terminal that a program runs in, not to the user who started it.
_TERMINAL = ("TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TMUX", "TMUX_PANE")
_NOT_PASSED = ("COLUMNS", "LINES", "SHLVL", "OLDPWD", "_", "WINDOWID", processes.MARK)

# A bar that keeps its first width would wrap when somebody attaches with a narrower terminal.
_DEFAULTS = {"TQDM_DYNAMIC_NCOLS": "1"}


class _Interrupt(BaseException):
    """A signal asked the worker to end."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number


class _NotStartedError(TmuxEvolveError):
    """The trainer's program cannot be run; the statuses are the shells'."""

    def __init__(self, program: str, error: OSError) -> None:
        self.status = 127 if isinstance(error, FileNotFoundError) else 126
        super().__init__(f"cannot run {program!r}: {error.strerror}")


def main(address: str, worker: str) -> int:
    """Run one worker; return the trainer's exit status, 128 + n after signal n."""
    # The terminal's Ctrl-C is the trainer's; ignoring it instead would be inherited by the trainer.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGQUIT, lambda *_: None)
    try:
        counter, order, claim = Counter.visit(address, worker)
    except TmuxEvolveError as error:
        _say(str(error))
        return ExitStatus.FAILURE
    try:
        ending = _evolve(order, counter) if order.evolution else _run(order, counter)
    except TmuxEvolveError as error:
        status = getattr(error, "status", error.exit_status)
        ending = Ending(status=status, reason=str(error), ended=time.time())
    # Only the first report counts: nothing, when the trainer has run.
    state = State.FAILED if ending.status else State.FINISHED
    counter.report(Report(state=state, reason=ending.reason))
    if claim:
        claim.close()
    _record(ending)
    _say(_summary(order, ending))
    return ending.status


def environment(caller: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment with this window's terminal in place of the caller's."""
    kept = {k: v for k, v in caller.items() if k not in (*_TERMINAL, *_NOT_PASSED)}
    return {**_DEFAULTS, **kept, **{k: own[k] for k in _TERMINAL if k in own}}


def _run(order: Order, counter: Counter) -> Ending:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    trainer = None
    try:
        _delay(order, counter, _sleep)
        trainer = _spawn(order, order.argv, _cuda(order))
        counter.report(Report(state=State.RUNNING, pid=trainer.pid))
        status = trainer.wait()
    except _Interrupt as interrupt:
        _end_family(order)
        status = trainer.wait() if trainer else -interrupt.number
    return _ending(status)


def _evolve(order: Order, counter: Counter) -> Ending:
    """Run generations: what the window can do for that, and its signals as flags."""
    from tmuxevolve import trainers
    from tmuxevolve.evolution import Evolution, Window
    from tmuxevolve.interrupts import Interrupts
    from tmuxevolve.study import heartbeat

    assert order.evolution  # noqa: S101  (main looks)
    interrupts = Interrupts()
    _delay(order, counter, interrupts.wait)
    device: dict[str, str] = {}

    def spawn(argv: tuple[str, ...]) -> subprocess.Popen[bytes]:
        if not device:
            device.update(_cuda(order))
        trainer = _spawn(order, argv, device)
        counter.report(Report(state=State.RUNNING, pid=trainer.pid))
        return trainer

    window = Window(spawn=spawn, end=lambda: _end_family(order), printed=_printed, say=_say)
    trainer = trainers.find(order.evolution.recipe.trainer, ())
    evolution = Evolution(order.evolution, trainer, window, interrupts)
    return evolution.run(heartbeat.myself(order.worker, order.window))


def _delay(order: Order, counter: Counter, wait: Callable[[float], None]) -> None:
    if order.delay:
        counter.report(Report(state=State.WAITING, reason=f"starts in {order.delay:g} s"))
        _say(f"{order.window} starts in {order.delay:g} s")
        wait(order.delay)


def _printed(notice: str) -> str:
    from tmuxevolve.multiplexer import pane

    try:
        return pane.printed_since(notice, os.environ)
    except (OSError, subprocess.SubprocessError):
        return ""


def _sleep(seconds: float) -> None:
    signal.signal(signal.SIGINT, _interrupt)
    time.sleep(seconds)
    signal.signal(signal.SIGINT, lambda *_: None)


def _spawn(order: Order, argv: Sequence[str], device: Mapping[str, str]) -> subprocess.Popen[bytes]:
    mark = {processes.MARK: order.worker, "PWD": order.workdir}
    env = {**environment(order.env, os.environ), **device, **mark}
    try:
        return subprocess.Popen(argv, cwd=order.workdir, env=env)
    except OSError as error:
        raise _NotStartedError(argv[0], error) from None


def _cuda(order: Order) -> dict[str, str]:
    """Look at the GPU once more, under the claim, and name it as it is numbered now."""
    if order.uuid is None:
        return cuda_environment(None, order.gpus.visible)
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


def _end_family(order: Order) -> None:
    """End the trainer's tree: the window was closed, or somebody ended this worker."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    first = signal.Signals[order.stop_signal]
    processes.end([processes.Target(order.worker, os.getpid(), first, order.stop_grace)])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise _Interrupt(signal.Signals(number))


def _ending(returncode: int) -> Ending:
    """Translate Popen's return code, where -n is signal n."""
    if returncode < 0:
        return Ending(status=128 - returncode, signal=-returncode, ended=time.time())
    return Ending(status=returncode, ended=time.time())


def _record(ending: Ending) -> None:
    from tmuxevolve.multiplexer import pane

    with suppress(OSError, subprocess.SubprocessError):
        pane.record_ending(ending, os.environ)


def _summary(order: Order, ending: Ending) -> str:
    if ending.reason and not order.evolution:
        return f"{order.window} did not start: {ending.reason}"
    if ending.reason:
        return f"{order.window} {'failed' if ending.status else 'finished'}: {ending.reason}"
    how = (
        f"signal {signal.Signals(ending.signal).name}" if ending.signal else f"exit {ending.status}"
    )
    return f"{order.window} {'failed' if ending.status else 'finished'} ({how})"


def _say(text: str) -> None:
    """Print to the window, which may be closed by now."""
    with suppress(OSError):
        print(f"{NOTICE}{text}", file=sys.stderr, flush=True)
