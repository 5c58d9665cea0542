"""Work that may take long, in threads of its own: keys are answered meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.session.overview import Overview


class Feed(Thread):
    """Looks when it is asked to, one time after the other; ``done`` gets what was seen.

    A daemon: a driver or a file server that never answers cannot keep the program from ending.
    """

    def __init__(
        self,
        look: Callable[[], Overview | None],
        done: Callable[[Overview | None], object],
        failed: Callable[[Exception], object],
    ) -> None:
        """Name what to look with; nothing is done before ``start``."""
        super().__init__(name="feed", daemon=True)
        self._look, self._done, self._failed = look, done, failed
        self._asked = Event()

    def ask(self) -> None:
        """Look once more, now or after the look that goes on."""
        self._asked.set()

    def run(self) -> None:
        """Look whenever asked."""
        while self._asked.wait():
            self._asked.clear()
            try:
                seen = self._look()
            except Exception as error:
                self._failed(error)
            else:
                self._done(seen)


def in_background(call: Callable[[], str], done: Callable[[str], object]) -> None:
    """Do something that takes its time; ``done`` gets what came of it, in words."""

    def run() -> None:
        try:
            said = call()
        except (TmuxEvolveError, OSError) as error:
            said = str(error)
        done(said)

    Thread(target=run, name="action", daemon=True).start()
