"""start --wait: look until there is a place for a worker."""

from __future__ import annotations

import time
from collections.abc import Callable

from tmuxevolve.errors import ExitStatus
from tmuxevolve.session.plan import Refusal
from tmuxevolve.session.preparation import Preparation

INTERVAL = 5.0
"""Seconds between two looks at the machine."""


def until_free(
    look: Callable[[], Preparation], told: Callable[[tuple[Refusal, ...]], None]
) -> Preparation:
    """Return the first preparation that has something to start, or needs nothing started.

    ``told`` is called with what is in the way, whenever that has changed.
    """
    before: tuple[Refusal, ...] | None = None
    while True:
        preparation = look()
        if preparation.exit_status != ExitStatus.NOTHING_FREE:
            return preparation
        slots = tuple(refusal.slot for refusal in preparation.plan.refused)
        if before is None or slots != tuple(refusal.slot for refusal in before):
            told(preparation.plan.refused)
        before = preparation.plan.refused
        time.sleep(INTERVAL)
