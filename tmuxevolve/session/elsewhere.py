"""A study at which other machines are at work: seen from one that runs nothing of it, or stops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmuxevolve import trainers
from tmuxevolve.config import Session
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.gpus import Snapshot
from tmuxevolve.multiplexer import Facts, Window
from tmuxevolve.session import status
from tmuxevolve.session.status import Seen, SessionStatus
from tmuxevolve.study.survey import Survey, survey

_NOTHING = Seen(screens={}, pids={}, snapshot=Snapshot(()))


def of_session(session: Session) -> SessionStatus | None:
    """Return the state of a session of which no window is here; None when nobody is at work.

    Raises OSError, and UsageError when the study is damaged.
    """
    found = survey(session.results)
    if found is None or not any(worker.alive for worker in found.workers):
        return None
    facts = _facts(session)
    return status.of_session([], _NOTHING, status.of_study(facts, found), facts)


def that_go_on(windows: Sequence[Window]) -> tuple[str, ...]:
    """Return the hosts whose workers share the studies of these windows, each once."""
    results = {w.facts.results for w in windows if w.facts.mode != "native"}
    found = (study for path in sorted(results) if (study := _survey(Path(path))))
    hosts = (w.host for study in found for w in study.workers if w.alive and not w.here)
    return tuple(dict.fromkeys(hosts))


def _survey(results: Path) -> Survey | None:
    try:
        return survey(results)
    except (OSError, TmuxEvolveError):
        return None


def _facts(session: Session) -> Facts:
    return Facts(
        worker="",
        session=session.name,
        slot="",
        trainer=trainers.find(session.trainer, session.command).name,
        mode=session.evolve.mode,
        command="",
        results=str(session.results),
        started=0.0,
        stop_signal=session.stop.signal,
        stop_grace=float(session.stop.grace),
    )
