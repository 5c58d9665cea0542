"""What somebody who looks at a session can do to one of its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.multiplexer import Attach, Multiplexer, Window
from tmuxevolve.session.restart import restart
from tmuxevolve.session.stop import StopOverride, stop

_LINES = 1000


class Hand:
    """Acts on windows, with the environment of whoever looks. All of it raises TmuxEvolveError."""

    def __init__(self, mux: Multiplexer, environ: Mapping[str, str]) -> None:
        """Take the server and the environment."""
        self._mux = mux
        self.environ = environ

    def attach(self, window: Window) -> Attach:
        """Return the process that shows this window."""
        return self._mux.attach(window, select=True, environ=self.environ)

    def stop(self, window: Window) -> str:
        """End a window's worker as ``stop`` does, and say how that went."""
        (ended,) = stop(self._mux, [window], StopOverride())
        if ended.left:
            pids = ", ".join(map(str, ended.left))
            raise TmuxEvolveError(f"{window.name} could not be ended: {pids} still alive")
        return f"{window.name} ended" + (f" by {ended.signal}" if ended.signal else "")

    def restart(self, window: Window) -> str:
        """Start a worker in this window's place, and say what came of it."""
        return restart(self._mux, window, self.environ)

    def printed(self, window: Window) -> Sequence[str]:
        """Return what was printed in a window: its screen, or the log of one that is gone.

        The screen has the bar that is being drawn; the log, only what is final.
        """
        # A window that is gone has no pane: without one, tmux takes whichever is at hand.
        screens = self._mux.screens([window], above=_LINES) if window.pane else {}
        return screens.get(window.pane) or _kept(window)


def _kept(window: Window) -> Sequence[str]:
    from tmuxevolve.session import logs

    try:
        batch = next(logs.lines(Path(window.facts.results), window.name, _LINES, None))
    except (TmuxEvolveError, OSError):
        return ()
    return [line.text for line in batch.lines]
