"""restart: end one window's worker and start another one in its place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tmuxevolve import configfile
from tmuxevolve.config import Session
from tmuxevolve.errors import NothingFreeError, TmuxEvolveError, UsageError
from tmuxevolve.multiplexer import Multiplexer, State, Window
from tmuxevolve.session import jobs, plan, preparation, start
from tmuxevolve.session.stop import StopOverride, stop

_POLL = 0.1
_CLOSE_TIMEOUT = 5.0


def restart(mux: Multiplexer, window: Window, environ: Mapping[str, str]) -> str:
    """Start this window's slot again, as the session's file says now; return what came of it.

    The window may be gone by now. Raises TmuxEvolveError when there is no new worker.
    """
    if not window.facts.source:
        raise UsageError(f"{window.name}: it is not known which file this session is from")
    session = _session(window, environ)
    # First of all a look: with a mistake in the file, what runs goes on running.
    preparation.prepare(session, mux, environ, look=True)
    _end(mux, window)
    prepared = preparation.prepare(
        session, mux, environ, pick=lambda chosen: plan.only(chosen, window.facts.slot)
    )
    started = start.start(prepared, mux, environ)
    if started.complete:
        raise NothingFreeError("nothing is left of the budget: start --generations N raises it")
    elsewhere = next((w for w in started.running if w.slot == window.facts.slot), None)
    if elsewhere:
        # The session's own window `watch` was quicker.
        return f"{elsewhere.window} {elsewhere.state.value}"
    if not started.windows:
        reasons = (f"{refusal.slot}: {refusal.reason}" for refusal in started.refused)
        raise NothingFreeError("; ".join(reasons) or "; ".join(started.notes))
    (new,) = started.windows
    if new.state is State.FAILED:
        raise TmuxEvolveError(f"{new.window} failed: {new.reason}")
    return f"{new.window} {new.state.value}"


def _session(window: Window, environ: Mapping[str, str]) -> Session:
    facts = window.facts
    session = configfile.load(Path(facts.source)).session(facts.session, environ)
    if facts.uuid is None:
        use: object = "none"
    else:
        use = session.gpus.use if session.gpus.use in {"free", "all"} else (facts.uuid,)
    # What is left to others is not what one had already.
    gpus = msgspec.structs.replace(session.gpus, use=use, leave_free=0, idle_for=None)
    return msgspec.structs.replace(session, gpus=gpus)


def _end(mux: Multiplexer, window: Window) -> None:
    """End the worker, and wait until its window knows."""
    worker = window.facts.worker
    if not any(w.facts.worker == worker for w in jobs.all_windows(mux)):
        return
    # The window stays: with the last one the session would go, and throw everybody out.
    (ended,) = stop(mux, [window], StopOverride(), keep=True)
    if ended.left:
        raise TmuxEvolveError(f"{window.name}: processes {', '.join(map(str, ended.left))} survive")
    deadline = time.monotonic() + _CLOSE_TIMEOUT
    while time.monotonic() < deadline:
        if all(w.dead for w in mux.windows() if w.facts.worker == worker):
            return
        time.sleep(_POLL)
