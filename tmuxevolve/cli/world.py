"""What commands take from the world around them: the sessions file, the terminal, tmux."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tmuxevolve.errors import NotRunningError, UsageError

if TYPE_CHECKING:
    from tmuxevolve.config import Session
    from tmuxevolve.multiplexer import Attach, Multiplexer

_STATUS_LINE = 1
_MULTIPLEXER = "TMUXEVOLVE_MULTIPLEXER"


def session(file: Path | None, name: str | None, use: str | None = None) -> Session:
    """Return a session of the sessions file; ``use`` is what --gpus says."""
    from tmuxevolve import config, configfile

    path = configfile.find_file(file, os.environ, Path.cwd())
    found = configfile.load(path).session(name, os.environ)
    return config.with_use(found, use) if use else found


def multiplexer(socket_name: str | None, found: Session | None = None) -> Multiplexer:
    """Return where windows are; new sessions there get this terminal's size.

    New windows are opened where the environment or the session says. Windows are looked for
    wherever there are any.
    """
    from tmuxevolve.multiplexer import choice

    wanted = os.environ.get(_MULTIPLEXER) or (found.multiplexer if found else None)
    if wanted not in {None, "tmux", "screen"}:
        raise UsageError(f"${_MULTIPLEXER}: {wanted!r}: expected tmux or screen")
    size = None
    if sys.stdout.isatty():
        import shutil

        terminal = shutil.get_terminal_size()
        size = (terminal.columns, terminal.lines - _STATUS_LINE)
    return choice.choose(wanted, socket_name, size)


def become(attached: Attach) -> NoReturn:
    """Let the process that shows a session take this one's place."""
    if not sys.stdin.isatty():
        raise NotRunningError("attach needs a terminal")
    environ = {k: v for k, v in os.environ.items() if k not in attached.unset}
    sys.stdout.flush()
    os.execvpe(attached.argv[0], attached.argv, environ)  # noqa: S606


def program() -> str:
    """Return what to type to run this program again: its name, if that finds it."""
    import shutil

    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return f"{sys.executable} -m tmuxevolve"
    return name if shutil.which(name) == str(Path(sys.argv[0]).absolute()) else sys.argv[0]


def width() -> int | None:
    """Return the terminal's columns; None where the output goes elsewhere."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def colour() -> bool:
    """Say whether to colour what is printed."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
