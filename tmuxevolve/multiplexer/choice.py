"""Which multiplexer: the one that is asked for, or there; and all that have windows of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve import programs
from tmuxevolve.errors import MissingError, UsageError
from tmuxevolve.multiplexer import WORKER, Attach, Multiplexer, Opening, Window, consoles
from tmuxevolve.multiplexer.tmux import Tmux

_SCREEN = "screen"


def choose(
    wanted: str | None, socket_name: str | None, size: tuple[int, int] | None = None
) -> Multiplexer:
    """Return what opens windows in the wanted multiplexer, and finds those in the other one too.

    Without a wish that is tmux, or screen where there is no tmux. Raises UsageError when a tmux
    server is named and screen is wanted.
    """
    tmux = Tmux(socket_name, size) if size else Tmux(socket_name)
    if socket_name:
        if wanted == _SCREEN:
            raise UsageError("--socket-name names a tmux server, but multiplexer: screen is set")
        return tmux
    chosen = wanted or ("tmux" if programs.find("tmux") or not programs.find(_SCREEN) else _SCREEN)
    if chosen == "tmux" and not consoles.workers(consoles.here()):
        return tmux
    from tmuxevolve.multiplexer.screen import Screen

    screen = Screen()
    main, other = (screen, tmux) if chosen == _SCREEN else (tmux, screen)
    return Both(main, other)


class Both:
    """Opens windows in one multiplexer, and knows those in another one as well."""

    def __init__(self, main: Multiplexer, other: Multiplexer) -> None:
        """Take the one that opens, and the other one."""
        self._main = main
        self._other = other

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options that lead to the one that opens."""
        return self._main.options

    @property
    def detach_keys(self) -> str:
        """Return the keys of the one that opens."""
        return self._main.detach_keys

    def check(self) -> None:
        """Raise MissingError when the one that opens is missing or too old."""
        self._main.check()

    def version(self) -> str:
        """Return the version of the one that opens."""
        return self._main.version()

    def windows(self) -> tuple[Window, ...]:
        """Return every worker's window."""
        return tuple(window for window in self.all_windows() if window.facts.role == WORKER)

    def services(self) -> tuple[Window, ...]:
        """Return the other windows of ours."""
        return tuple(window for window in self.all_windows() if window.facts.role != WORKER)

    def all_windows(self) -> tuple[Window, ...]:
        """Return every window of ours, in either."""
        found = [*self._main.all_windows(), *_if_there(self._other.all_windows)]
        return tuple(sorted(found, key=lambda w: (w.facts.session, w.index)))

    def open(self, session: str, openings: Sequence[Opening]) -> tuple[str, ...]:
        """Open windows where the session has some already, or else in the chosen multiplexer."""
        there = self._main
        if self._has(self._other, session) and not self._has(self._main, session):
            there = self._other
        strange = [o for o in openings if o.replaces and self._of(o.replaces) is not there]
        return there.open(
            session,
            [msgspec.structs.replace(o, replaces=None) if o in strange else o for o in openings],
        )

    def record(self, outputs: Sequence[tuple[Window, Path]]) -> None:
        """Have what windows print written to FIFOs."""
        for mux in (self._main, self._other):
            mine = [(window, output) for window, output in outputs if self._of(window) is mux]
            if mine:
                mux.record(mine)

    def close(self, windows: Sequence[Window]) -> None:
        """Remove our pane of each window."""
        for mux in (self._main, self._other):
            mine = [window for window in windows if self._of(window) is mux]
            if mine:
                mux.close(mine)

    def screens(self, windows: Sequence[Window], above: int = 1) -> Mapping[str, Sequence[str]]:
        """Return the lines on each window's screen."""
        found: dict[str, Sequence[str]] = {}
        for mux in (self._main, self._other):
            mine = [window for window in windows if self._of(window) is mux]
            if mine:
                found |= mux.screens(mine, above)
        return found

    def attach(self, window: Window, *, select: bool, environ: Mapping[str, str]) -> Attach:
        """Return the process that shows the window's session, wherever that is."""
        return self._of(window).attach(window, select=select, environ=environ)

    @staticmethod
    def _has(mux: Multiplexer, session: str) -> bool:
        return any(window.facts.session == session for window in _if_there(mux.all_windows))

    def _of(self, window: Window) -> Multiplexer:
        of_main = window.pane.startswith("%") == isinstance(self._main, Tmux)
        return self._main if of_main else self._other


def _if_there(look: Callable[[], tuple[Window, ...]]) -> tuple[Window, ...]:
    try:
        return look()
    except MissingError:
        return ()
