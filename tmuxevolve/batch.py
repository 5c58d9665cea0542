"""What a Slurm job does: run a worker in a step of its own, and end it in time.

Slurm signals this process alone: when `stop` asks, and some time before the job's limit. Whatever
ends the job ends the worker first, which gives its generation back to the study.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from signal import Signals

from msgspec import structs

from tmuxevolve import processes, slurm
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.handover import Desk, Parcel
from tmuxevolve.interrupts import DRAIN, STOP, Interrupts
from tmuxevolve.order import Order, read_order
from tmuxevolve.slots import new_worker

ORDER = "TMUXEVOLVE_ORDER"
"""The variable that holds the order: it comes back with the job when that is queued again."""

LIMIT = Signals.SIGHUP
"""What Slurm is asked to send some time before the job's limit."""

STOP_SIGNAL, DRAIN_SIGNAL = Signals(STOP), Signals(DRAIN)
"""What asks a job to end: now, or after the generation that it is at."""

_ENTRY = Path(__file__).with_name("console_entry.py")
# Slurm sends LIMIT up to a minute early, and the end itself takes a moment.
_MARGIN = 90
# A node that is busy, or a file server that is, starts a step in its own time.
_START_TIMEOUT = 600.0
_REQUEUE_TIMEOUT = 60.0
_LONG = 3600.0


def warning(grace: float) -> int:
    """Return how many seconds before a job's limit it must know, to end a trainer in time."""
    return int(grace) + _MARGIN


def main() -> int:
    """Run this job's worker; return the job's exit status."""
    interrupts = Interrupts()
    order = _order(os.environ)
    finished = _finished(order)
    step = _Step(order, interrupts)
    status = step.run()
    if LIMIT in interrupts.seen and status:
        return _again(order, progressed=_finished(order) != finished)
    # It was asked to end, and has.
    return 0 if interrupts.over else status


def _order(environ: Mapping[str, str]) -> Order:
    """Return the order for this run of the job: an earlier one's processes may still be alive."""
    order = read_order(environ[ORDER].encode())
    return structs.replace(
        order,
        worker=new_worker(order.window),
        env={name: value for name, value in environ.items() if name != ORDER},
        # Which GPUs are the job's is in its environment, by their numbers on the bus.
        device={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        gpu=_gpus(environ),
        job=environ["SLURM_JOB_ID"],
    )


def _gpus(environ: Mapping[str, str]) -> str:
    # The one has the node's numbers, the other the job's own.
    given = environ.get("SLURM_JOB_GPUS") or environ.get("CUDA_VISIBLE_DEVICES")
    return f"GPU {given}" if given else "CPU"


def _finished(order: Order) -> int:
    """Return how many generations of the whole study are finished."""
    from tmuxevolve.study.survey import survey

    try:
        found = survey(Path(order.results))
    except (OSError, TmuxEvolveError):
        return 0
    return found.finished if found else 0


def _again(order: Order, *, progressed: bool) -> int:
    """Have the job queued again, unless it would never get any further."""
    if not progressed:
        _say(
            f"{order.window}: no generation was finished before the job's time limit:"
            " raise slurm.time, or let a generation take less"
        )
        return 1
    try:
        slurm.requeue(order.job)
    except TmuxEvolveError as error:
        _say(f"{order.window}: the time limit is near, and it cannot be queued again: {error}")
        return 1
    # Slurm ends this process.
    time.sleep(_REQUEUE_TIMEOUT)
    return 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class _Step:
    """The job's only step, in which the worker has a terminal of its own."""

    def __init__(self, order: Order, interrupts: Interrupts) -> None:
        self._order = order
        self._interrupts = interrupts
        self._done: set[int] = set()

    def run(self) -> int:
        """Run it to its end; return its exit status."""
        # It stays open at both ends: sattach cannot type into a step that saw its input end.
        reading, self._input = os.pipe()
        with Desk() as desk:
            step = subprocess.Popen(
                self._argv(desk.address),
                env=_step_environment(self._order.env),
                stdin=reading,
                # What it prints goes to those who attach, and to the recorder.
                stdout=subprocess.DEVNULL,
                pass_fds=(self._input,),
            )
            parcels = {self._order.worker: Parcel(self._order, None)}
            desk.serve(parcels, lambda: self._alive(step), timeout=_START_TIMEOUT)
        while step.poll() is None:
            self._react()
            self._interrupts.wait(_LONG)
        return step.returncode

    def _alive(self, step: subprocess.Popen[bytes]) -> set[str]:
        over = step.poll() is not None or self._interrupts.over
        return set() if over else {self._order.worker}

    def _argv(self, address: str) -> tuple[str, ...]:
        fifo = _recorded(self._order)
        python = (sys.executable, "-I", "-S", str(_ENTRY))
        words = (address, self._order.worker, processes.MARK, *([fifo] if fifo else []))
        return ("srun", "--unbuffered", "--ntasks=1", "--nodes=1", "--mpi=none", *python, *words)

    def _react(self) -> None:
        """Do what the signals that have come ask for, each once."""
        new = self._interrupts.seen - self._done
        self._done |= new
        if new - {DRAIN}:
            self._end()
        elif new:
            first = processes.first_of(self._order.worker)
            processes.signal_workers({self._order.worker: first} if first else {}, DRAIN_SIGNAL)

    def _end(self) -> None:
        """End the worker as `stop` does: the trainer first, and what it leaves."""
        order = self._order
        target = processes.Target(
            worker=order.worker,
            pid=processes.first_of(order.worker),
            signal=Signals[order.stop_signal],
            grace=order.stop_grace,
            notice=STOP_SIGNAL,
        )
        processes.end([target], spared=[os.getpid()])


def _recorded(order: Order) -> str | None:
    """Start a recorder for what the worker prints; return its FIFO."""
    from tmuxevolve.session import recording

    recorded = recording.of_windows(Path(order.results), [order.window], order.env)
    for note in recorded.notes:
        _say(note)
    fifo = recorded.fifos.get(order.window)
    return str(fifo) if fifo else None


def _step_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of srun: since 22.05 a job's CPUs per task are no longer its own."""
    cpus = environ.get("SLURM_CPUS_PER_TASK")
    return {**environ, **({"SRUN_CPUS_PER_TASK": cpus} if cpus else {})}
