"""Whether those who are to be told of a session can be told: before it starts, and on request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence

import msgspec

from tmuxevolve import messenger
from tmuxevolve.config import Notify, Session
from tmuxevolve.errors import ExitStatus, MissingError, UsageError
from tmuxevolve.notify import Messenger, Notice, dispatch

_POLL = 0.02
_INSTALL = "pip install 'tmuxevolve[notify]', or pipx inject tmuxevolve apprise"


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a test by one key of ``notify``, ``command`` or ``urls``."""

    by: str
    problems: tuple[str, ...]


class TryOut(msgspec.Struct, frozen=True, kw_only=True):
    """A test of all that a session's ``notify`` names."""

    session: str
    tried: tuple[Tried, ...]

    @property
    def exit_status(self) -> ExitStatus:
        """Return success when nothing went wrong."""
        return ExitStatus.FAILURE if any(t.problems for t in self.tried) else ExitStatus.OK


def check(session: Session, notify: Notify, environ: Mapping[str, str]) -> None:
    """Look whether the program is there and the URLs can be used; nothing is sent.

    Raises UsageError when not, and MissingError without Apprise.
    """
    env = {**environ, **session.env}
    if notify.command:
        _find(session, notify.command[0], env)
    if not notify.urls:
        return
    # Apprise takes long to import, and is not to be in this process.
    sent = Messenger("urls", {"urls": notify.urls}, str(session.workdir), env)
    problems = _wait(sent)
    where = f"{session.source}: sessions.{session.name}.notify.urls"
    if messenger.MISSING in problems:
        raise MissingError(f"{where}: {messenger.MISSING}: {_INSTALL}")
    if problems:
        raise UsageError(f"{where}: {'; '.join(problems)}")


def try_out(session: Session, environ: Mapping[str, str]) -> TryOut:
    """Tell everybody that this is a test, whatever ``on`` says; return how that went.

    Raises UsageError when the session tells nobody, and what ``check`` raises.
    """
    if session.notify is None:
        raise UsageError(f"{session.source}: sessions.{session.name}.notify: is not there")
    check(session, session.notify, environ)
    notice = Notice(
        event="test",
        message="this is what a notification looks like",
        session=session.name,
        window="none",
        results=str(session.results),
    )
    env = {**environ, **session.env}
    sent = [*dispatch(session.notify, notice, str(session.workdir), env)]
    tried = tuple(Tried(by=one.by, problems=tuple(_wait(one))) for one in sent)
    return TryOut(session=session.name, tried=tried)


def _find(session: Session, program: str, env: Mapping[str, str]) -> None:
    place = str(session.workdir / program) if "/" in program else program
    if shutil.which(place, path=env.get("PATH")) is None:
        where = f"{session.source}: sessions.{session.name}.notify.command"
        raise UsageError(f"{where}: there is no program {program!r}")


def _wait(sent: Messenger) -> Sequence[str]:
    while True:
        problems = sent.problems()
        if problems is not None:
            return problems
        time.sleep(_POLL)
