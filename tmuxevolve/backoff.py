"""When to try again after a failure, and when to give up."""

from __future__ import annotations

import random

from tmuxevolve.config import RestartPolicy

LONGEST = 600.0
"""Seconds: the longest wait, and how long a run must have lasted to end a row of failures."""


class Backoff:
    """Counts failures in a row."""

    def __init__(self, policy: RestartPolicy) -> None:
        """Begin without a failure."""
        self._policy = policy
        self.failures = 0

    def succeeded(self) -> None:
        """End the row."""
        self.failures = 0

    def failed(self, lasted: float = 0.0) -> None:
        """Count a failure, after a run of that many seconds."""
        self.failures = 1 if lasted > LONGEST else self.failures + 1

    @property
    def exhausted(self) -> bool:
        """Say whether as many have failed in a row as the policy allows."""
        return self.failures >= self._policy.max_consecutive_failures

    def seconds(self) -> float:
        """Return how long to wait now: twice as long after each failure, with a tenth of jitter."""
        wait = float(self._policy.backoff) * 2.0 ** min(self.failures - 1, 60)
        return min(wait, LONGEST) * random.uniform(0.9, 1.1)  # noqa: S311
