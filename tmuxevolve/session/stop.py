"""stop: end the workers of the chosen windows, then the windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from signal import Signals

import msgspec

from tmuxevolve import processes
from tmuxevolve.errors import ExitStatus, UsageError
from tmuxevolve.interrupts import DRAIN, STOP
from tmuxevolve.multiplexer import WORKER, Multiplexer, Window
from tmuxevolve.processes import Ended, Target
from tmuxevolve.session import jobs, services
from tmuxevolve.session.attach import refuse_several, select

_POLL = 0.2
_CLOSE_TIMEOUT = 5.0


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """How one window was ended: the last signal that it took, None when it needed none.

    ``processes`` is 0 when it was over already; ``job`` is the Slurm job's id, if it is one.
    """

    session: str
    window: str
    slot: str
    signal: str | None
    processes: int
    left: tuple[int, ...]
    job: str | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """Return failure when a process survived."""
        return ExitStatus.FAILURE if self.left else ExitStatus.OK


class StopOverride(msgspec.Struct, frozen=True):
    """What the command line says in place of the session's ``stop``: seconds, or kill at once."""

    grace: float | None = None
    now: bool = False


def stop(
    mux: Multiplexer, windows: Sequence[Window], override: StopOverride, *, keep: bool = False
) -> tuple[Stopped, ...]:
    """End the windows' workers, all at once, then remove the windows whose processes are gone.

    A window that opens others is ended before, and what it has opened meanwhile is ended too. The
    windows stay when ``keep`` says so.
    """
    watching, windows = _quieted(mux, windows)
    ended = _end_all(windows, override) | watching
    if keep:
        return tuple(_stopped(window, ended[window.facts.worker]) for window in windows)
    mux.close([w for w in windows if w.pane and not ended[w.facts.worker].left])
    _close_what_shows_nothing(mux, {window.facts.session for window in windows})
    return tuple(_stopped(window, ended[window.facts.worker]) for window in windows)


def _end_all(windows: Sequence[Window], override: StopOverride) -> dict[str, Ended]:
    """End the workers; what follows a job ends by itself when the job does."""
    posted = [window for window in windows if window.facts.role == jobs.ROLE]
    others = [window for window in windows if window.facts.role != jobs.ROLE]
    ended = processes.end(_target(window, override) for window in others)
    if posted:
        from tmuxevolve.session import cancel

        ended |= cancel.end(posted, grace=override.grace, now=override.now)
        services.end(w for w in posted if w.pane and not ended[w.facts.worker].left)
    return ended


def _quieted(mux: Multiplexer, windows: Sequence[Window]) -> tuple[dict[str, Ended], list[Window]]:
    """End those that open windows; return what that took, and the windows there are now."""
    watches = [window for window in windows if window.facts.role == services.WATCH]
    ended = services.end(watches)
    sessions = {window.facts.session for window in watches}
    known = {window.pane for window in windows}
    newer = [w for w in mux.windows() if w.facts.session in sessions and w.pane not in known]
    return ended, [*windows, *newer]


def _close_what_shows_nothing(mux: Multiplexer, sessions: Collection[str]) -> None:
    """End the overview of a session that has neither workers nor anybody who opens any."""
    windows = [w for w in mux.all_windows() if w.facts.session in sessions]
    busy = {w.facts.session for w in windows if w.facts.role != services.OVERVIEW}
    idle = [window for window in windows if window.facts.session not in busy]
    if not idle:
        return
    services.end(idle)
    mux.close(idle)


def clear(mux: Multiplexer, session: str) -> None:
    """End what a session's dead workers have left behind; the windows stay.

    A pane counts as alive to tmux while anything that was started in it holds its terminal.
    """
    mine = [w for w in mux.windows() if w.facts.session == session]
    left = processes.abandoned({w.facts.worker: w.pid for w in mine})
    if not left:
        return
    processes.end(Target(worker, None, Signals.SIGKILL) for worker in left)
    deadline = time.monotonic() + _CLOSE_TIMEOUT
    while time.monotonic() < deadline:
        if all(w.dead for w in mux.windows() if w.facts.worker in left):
            return
        time.sleep(_POLL)


def drain(
    mux: Multiplexer, windows: Sequence[Window], asked: Callable[[int], None] = lambda _: None
) -> None:
    """Let each worker finish the generation that it is at; return when all have.

    ``asked`` is called with the number of workers when all of them know. Raises UsageError for
    windows in native mode: their trainers know no such end.
    """
    native = next((w for w in windows if w.facts.mode == "native" and not w.state.is_over()), None)
    if native:
        raise UsageError(
            f"{native.name} of session {native.facts.session} runs the trainer's own evolution:"
            " --drain is for evolve.mode: cooperative"
        )
    _, windows = _quieted(mux, windows)
    posted = [window for window in windows if window.facts.role == jobs.ROLE]
    over = _drain_jobs(posted, asked)
    windows = [window for window in windows if window.facts.role == WORKER]
    workers = {window.facts.worker for window in windows if not window.state.is_over()}
    processes.signal_workers({w.facts.worker: w.pid for w in windows if not w.dead}, DRAIN)
    if workers:
        asked(len(workers))
    while any(w.facts.worker in workers and not w.dead for w in mux.windows()) or not over():
        time.sleep(_POLL)


def _drain_jobs(posted: Sequence[Window], asked: Callable[[int], None]) -> Callable[[], bool]:
    if not posted:
        return lambda: True
    from tmuxevolve.session import cancel

    over = cancel.drain(posted)
    asked(len(posted))
    return over


def to_stop(
    mux: Multiplexer, name: str | None, wanted: Sequence[str], *, everything: bool
) -> list[Window]:
    """Return the windows that ``stop`` means; none when the session is not running.

    Raises UsageError when several sessions are running and none is named.
    """
    windows = jobs.all_windows(mux)
    if not any(name in {None, window.facts.session} for window in windows):
        return []
    chosen = select(windows, name, wanted)
    if not everything:
        refuse_several(chosen, "name one with -s, or --all")
    return chosen


def _target(window: Window, override: StopOverride) -> Target:
    facts = window.facts
    return Target(
        worker=facts.worker,
        pid=None if window.dead else window.pid,
        signal=Signals.SIGKILL if override.now else Signals[facts.stop_signal],
        grace=facts.stop_grace if override.grace is None else override.grace,
        notice=STOP if facts.role == WORKER else None,
    )


def _stopped(window: Window, ended: Ended) -> Stopped:
    return Stopped(
        session=window.facts.session,
        window=window.name,
        slot=window.facts.slot,
        signal=ended.signal.name if ended.signal else None,
        processes=ended.processes,
        left=ended.left,
        job=ended.job,
    )
