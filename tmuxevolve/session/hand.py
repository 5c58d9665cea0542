"""What somebody who looks at a session can do to one of its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        """Return what the window's programs have printed, as far back as its screen remembers."""
        return self._mux.screens([window], above=_LINES).get(window.pane, ())
