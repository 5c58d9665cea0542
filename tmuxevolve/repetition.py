"""What a worker does in native mode: run the trainer, and again when it fails."""

from __future__ import annotations

import time

from tmuxevolve.backoff import Backoff
from tmuxevolve.config import RestartPolicy
from tmuxevolve.foreground import Window
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.multiplexer import Ending
from tmuxevolve.spawn import Child

_LONG = 3600.0


class Repetition:
    """One trainer, run as often as its policy says."""

    def __init__(
        self, argv: tuple[str, ...], policy: RestartPolicy, window: Window, interrupts: Interrupts
    ) -> None:
        """Put the parts together; nothing is run yet."""
        self._argv = argv
        self._policy = policy
        self._window = window
        self._interrupts = interrupts
        self._backoff = Backoff(policy)
        self._failures = 0

    def run(self) -> Ending:
        """Run the trainer until it is done with; return how it ended the last time."""
        while True:
            trainer = self._window.spawn(self._argv)
            ending = self._until_its_end(trainer)
            wait = self._before_next(ending, time.monotonic() - trainer.began)
            if wait is None:
                return ending
            how = ending.reason or f"exit {ending.status}"
            self._window.say(f"the trainer ended ({how}); it runs again in {wait:.0f} s")
            self._window.end()
            self._interrupts.pause(wait)
            if self._interrupts.over:
                return ending

    def _until_its_end(self, trainer: Child) -> Ending:
        while trainer.poll() is None:
            if self._interrupts.hangup:
                self._window.end()
            else:
                self._window.wait(_LONG)
        return ended(trainer.returncode or 0, self._window.cause())

    def _before_next(self, ending: Ending, lasted: float) -> float | None:
        """Return the seconds to wait before another run; None when there is to be none."""
        policy = self._policy
        if self._interrupts.over or policy.on == "never":
            return None
        if not ending.status:
            self._backoff.succeeded()
            return float(policy.backoff) if policy.on == "always" else None
        self._failures += 1
        self._backoff.failed(lasted)
        if self._failures > policy.attempts or self._backoff.exhausted:
            return None
        return self._backoff.seconds()


def ended(returncode: int, reason: str | None = None) -> Ending:
    """Translate a Child's return code, where -n is signal n."""
    status, number = (128 - returncode, -returncode) if returncode < 0 else (returncode, None)
    return Ending(status=status, signal=number, reason=reason, ended=time.time())
