"""stop for Slurm jobs: ask each to end, then cancel what has not; nothing but our own jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from signal import Signals

from tmuxevolve import batch, slurm
from tmuxevolve.multiplexer import Window
from tmuxevolve.processes import Ended
from tmuxevolve.session import jobs
from tmuxevolve.slurm import Job

# A job needs a while for what a window's processes do at once: steps, epilogs.
_SLOWNESS = 30.0
# Slurm's own KillWait is 30 s, unless a site has changed it.
_CANCEL_TIMEOUT = 60.0
_POLL = 0.5


def end(windows: Sequence[Window], *, grace: float | None, now: bool) -> dict[str, Ended]:
    """End the jobs that these windows follow, all at once; return what it took, by worker.

    A job that runs gets `stop`'s signal and ``grace`` seconds (None: as its session says), in
    which it gives its generation back; then it is cancelled. One that is queued is cancelled at
    once, and ``now`` kills. Raises TmuxEvolveError.
    """
    found = _active(windows)
    patient = {w: job for w, job in found.items() if not (now or job.state.is_queued())}
    # What is queued has no process to signal.
    sent = {w: Signals.SIGKILL for w, job in found.items() if now and not job.state.is_queued()}
    _cancel([job for worker, job in found.items() if worker not in patient], kill=now)
    if patient:
        slurm.signal([job.id for job in patient.values()], batch.STOP_SIGNAL)
        asked = (window.facts for window in windows if window.facts.worker in patient)
        sent |= {facts.worker: Signals[facts.stop_signal] for facts in asked}
        longest = max(w.facts.stop_grace for w in windows) if grace is None else grace
        late = _wait(windows, patient, longest + _SLOWNESS)
        _cancel(list(late.values()))
        sent |= dict.fromkeys(late, Signals.SIGTERM)
    left = _wait(windows, found, _CANCEL_TIMEOUT)
    return {
        window.facts.worker: _ended(window.facts.worker, found, sent, left) for window in windows
    }


def _cancel(found: Sequence[Job], *, kill: bool = False) -> None:
    if found:
        slurm.cancel([job.id for job in found], kill=kill)


def drain(windows: Sequence[Window]) -> Callable[[], bool]:
    """Ask these jobs to end after their generations; return what says whether they have.

    Those that are queued are cancelled. Raises TmuxEvolveError, as the returned function does.
    """
    found = _active(windows)
    _cancel([job for job in found.values() if job.state.is_queued()])
    running = [job.id for job in found.values() if not job.state.is_queued()]
    if running:
        slurm.signal(running, batch.DRAIN_SIGNAL)
    return lambda: not _active(windows)


def _active(windows: Sequence[Window]) -> dict[str, Job]:
    mine = {window.facts.worker for window in windows}
    return {worker: found.job for worker, found in jobs.active().items() if worker in mine}


def _wait(windows: Sequence[Window], of: Collection[str], seconds: float) -> Mapping[str, Job]:
    """Wait for the jobs of these workers; return those that are still there."""
    deadline = time.monotonic() + seconds
    while True:
        left = {worker: job for worker, job in _active(windows).items() if worker in of}
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(_POLL)


def _ended(
    worker: str,
    found: Mapping[str, Job],
    sent: Mapping[str, Signals],
    left: Mapping[str, Job],
) -> Ended:
    job = found.get(worker)
    # Of a job there is one thing to end, whatever runs in it.
    return Ended(
        signal=sent.get(worker),
        processes=int(job is not None),
        left=tuple(int(still.id) for name, still in left.items() if name == worker),
        job=job.id if job else None,
    )
