"""A study's workers on other hosts, which have no windows here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tmuxevolve import trainers
from tmuxevolve.config import Session
from tmuxevolve.errors import ExitStatus, NotRunningError, TmuxEvolveError
from tmuxevolve.gpus import Snapshot
from tmuxevolve.multiplexer import Facts, Multiplexer, Window
from tmuxevolve.session import jobs, status
from tmuxevolve.session.attach import select
from tmuxevolve.session.status import Seen, SessionStatus
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register
from tmuxevolve.study.survey import Worker, survey, workers_of

_NOTHING = Seen(screens={}, pids={}, snapshot=Snapshot(()))


def look(
    mux: Multiplexer,
    name: str | None,
    environ: Mapping[str, str],
    session: Callable[[], Session],
    *,
    insist: bool = False,
) -> tuple[SessionStatus, ...]:
    """Return the state of the named session, or of all that run here when None.

    One that does not run here is looked at in its results, which ``session`` knows of. Raises
    NotRunningError when it has no study, or when ``session`` fails, unless its error is to be seen.
    """
    windows = jobs.all_windows(mux)
    try:
        return status.status(mux, select(windows, name, []) if name or windows else (), environ)
    except NotRunningError as error:
        try:
            return (without_windows(session()),)
        except TmuxEvolveError:
            if insist:
                raise
            raise error from None


def exit_status(sessions: Sequence[SessionStatus]) -> ExitStatus:
    """Return success, unless a session is shown that runs on no host."""
    dead = (s for s in sessions if not s.windows and not s.services)
    over = any(not any(worker.alive for worker in s.workers) for s in dead)
    return NotRunningError.exit_status if over else ExitStatus.OK


def without_windows(session: Session) -> SessionStatus:
    """Return how far a session's study is of which nothing runs here.

    Raises NotRunningError when there is none.
    """
    try:
        found = None if session.evolve.mode == "native" else survey(session.results)
    except OSError as error:
        raise NotRunningError(f"{session.results}: cannot be read: {error}") from None
    if found is None:
        raise NotRunningError(f"session {session.name} is not running")
    facts = Facts(
        worker="",
        session=session.name,
        slot="",
        trainer=trainers.find(session.trainer, session.command).name,
        mode="cooperative",
        command=" ".join(session.shown(session.command)),
        results=str(session.results),
        started=0.0,
        stop_signal=session.stop.signal,
        stop_grace=float(session.stop.grace),
    )
    return status.of_session([], _NOTHING, status.of_study(facts.results, found), facts)


def going_on(windows: Sequence[Window]) -> tuple[Worker, ...]:
    """Return the living workers of other hosts in these windows' studies."""
    places = {w.facts.results for w in windows if w.facts.mode == "cooperative"}
    return tuple(worker for place in sorted(places) for worker in _elsewhere(Path(place)))


def _elsewhere(results: Path) -> list[Worker]:
    try:
        found = workers_of(Register(Files(results).workers).sightings(), {})
    except OSError:
        # Where the results cannot be read, all has been ended here none the less.
        return []
    return [worker for worker in found if worker.alive and not worker.here]
