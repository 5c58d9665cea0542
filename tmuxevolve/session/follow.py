"""What the watch window does: open workers as GPUs become free, and keep to the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from tmuxevolve import processes, schedule
from tmuxevolve.config import Session
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.interrupts import DRAIN
from tmuxevolve.multiplexer import Multiplexer, State, Window
from tmuxevolve.session import plan
from tmuxevolve.session.idle import Idle
from tmuxevolve.session.plan import Refusal
from tmuxevolve.session.preparation import Preparation, opening, prepare
from tmuxevolve.session.start import Started, StartedWindow, start


class Follower:
    """Looks again and again; ``say`` gets a line for people whenever something is new.

    A window that failed is left as it is, and a slot whose window a person has closed stays
    without one: `start` begins anew with both.
    """

    def __init__(
        self,
        session: Session,
        mux: Multiplexer,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        *,
        generations: int | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Nothing has been looked at yet."""
        # It keeps to the schedule itself, by the same clock for the beginning and the end.
        self._session = msgspec.structs.replace(session, schedule=None)
        self._mux = mux
        self._environ = environ
        self._say = say
        self._generations = generations
        self._now = now
        self._schedule = schedule.parse(session.schedule) if session.schedule else None
        self._idle = Idle()
        self._seen: set[str] = set()
        self._left: set[str] = set()
        self._open = True
        self._last = ""

    def look(self) -> bool:
        """Open what can be opened now; return False when there is nothing more to do, ever."""
        try:
            return self._look()
        except (TmuxEvolveError, OSError) as error:
            # A driver or a file system that is gone may be back.
            self._tell(str(error))
            return True

    def _look(self) -> bool:
        windows = [w for w in self._mux.windows() if w.facts.session == self._session.name]
        if not self._may_run(windows):
            return True
        self._note(windows)
        prepared = prepare(
            self._session,
            self._mux,
            self._environ,
            self._generations,
            idle=self._idle,
            pick=lambda chosen: plan.without(chosen, self._left),
        )
        chosen = prepared.plan
        if prepared.is_complete and not chosen.running:
            self._say("the budget is spent")
            return False
        if chosen.places:
            self._start(prepared)
        elif chosen.refused:
            self._tell(f"waiting for a free GPU: {_in_the_way(chosen.refused)}")
        return self._more_to_do(prepared)

    def _more_to_do(self, prepared: Preparation) -> bool:
        """In native mode each window has a budget of its own: over when all have ended."""
        if prepared.job.evolution or prepared.plan.running or prepared.plan.refused:
            return True
        if prepared.plan.places:
            return True
        self._say("every window has come to its end")
        return False

    def _may_run(self, windows: list[Window]) -> bool:
        if self._schedule is None:
            return True
        now = self._now()
        was, self._open = self._open, self._schedule.is_open(now)
        change = opening(self._schedule, now)
        if self._open:
            if not was:
                self._say(f"schedule: workers may run until {change}")
            return True
        running = {w.facts.worker: w.pid for w in windows if not w.dead}
        if was and running:
            # What another start opens before the schedule does is its own decision.
            processes.signal_workers(running, DRAIN)
        ending = f"{len(running)} end after their generation, " if running else ""
        self._tell(f"schedule: {ending}nothing starts before {change}")
        return False

    def _note(self, windows: list[Window]) -> None:
        slots = {window.facts.slot for window in windows}
        closed = self._seen - slots - self._left
        if closed:
            self._say(f"left alone, its window was closed: {', '.join(sorted(closed))}")
        self._seen = slots
        self._left |= closed
        over = {State.FAILED, State.GONE}
        native = {State.FINISHED} if self._session.evolve.mode == "native" else set()
        for window in windows:
            if window.state in over | native and window.facts.slot not in self._left:
                self._left.add(window.facts.slot)
                self._say(f"{window.name} has {window.state.value}: left as it is")

    def _start(self, prepared: Preparation) -> None:
        result: Started = start(prepared, self._mux, self._environ)
        for window in result.windows:
            self._seen.add(window.slot)
            self._say(_opened(window))
        for note in result.notes:
            self._tell(note)

    def _tell(self, text: str) -> None:
        """Say something that stays so for a while, once."""
        if text != self._last:
            self._last = text
            self._say(text)


def _opened(window: StartedWindow) -> str:
    reason = f": {window.reason}" if window.reason else ""
    return f"{window.window} {window.state.value}{reason}"


def _in_the_way(refused: tuple[Refusal, ...]) -> str:
    return "; ".join(f"{refusal.slot}: {refusal.reason}" for refusal in refused)
