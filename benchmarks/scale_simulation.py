"""Many workers and one lock, as events in time: how long each waits for its turn.

The lock serves one after another in the order in which they came, as the kernel and the queue of
tmuxevolve/study/lock.py nearly do. Training times are lognormal.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

SPREAD = 0.3
"""The standard deviation of the logarithm of a training's time."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one ask and one tell: with the lock held, and beside it."""

    ask: float
    tell: float
    ask_beside: float = 0.0
    tell_beside: float = 0.0

    @property
    def held(self) -> float:
        """Return how long one generation holds the lock."""
        return self.ask + self.tell


@dataclass(frozen=True)
class Outcome:
    """What a simulation gave: shares from 0 to 1, waits in seconds at ask."""

    utilisation: float
    lost: float
    waits: Sequence[float]

    def wait(self, share: float) -> float:
        """Return a percentile of the waits."""
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]


class Lock:
    """One server, first come, first served."""

    def __init__(self) -> None:
        """Begin idle."""
        self.free_at = self.busy = 0.0

    def serve(self, arrival: float, hold: float) -> float:
        """Return how long this one waits; calls must come in the order of their arrivals."""
        begins = max(arrival, self.free_at)
        self.free_at = begins + hold
        self.busy += hold
        return begins - arrival

    def done_by(self, now: float) -> float:
        """Return how long it was held until now, of what it was given."""
        return self.busy - max(0.0, self.free_at - now)


def saturation(generation: float, costs: Costs) -> float:
    """Return how many workers keep the lock busy all the time: W* = generation / held."""
    return (generation + costs.ask_beside + costs.tell_beside + costs.held) / costs.held


def queue(arrivals: Iterable[float], hold: float) -> list[float]:
    """Return the waits of arrivals that do not depend on each other."""
    lock = Lock()
    return [lock.serve(arrival, hold) for arrival in arrivals]


def simulate(
    workers: int, generation: float, costs: Costs, *, generations: int = 12, seed: int = 0
) -> Outcome:
    """Let each worker train, tell and ask, again and again; the first third does not count."""
    rng, lock = Random(seed), Lock()
    mean = math.log(generation) - SPREAD**2 / 2
    begin, end = generations / 3 * generation, generations * generation
    trained, lost, busy_before, waits = 0.0, 0.0, None, []
    events = [(rng.uniform(0, generation), i, "tell", 0.0) for i in range(workers)]
    heapq.heapify(events)
    while events[0][0] < end:
        now, worker, what, _ = heapq.heappop(events)
        counts = now >= begin
        if counts and busy_before is None:
            busy_before = lock.done_by(begin)
        hold, beside = (
            (costs.ask, costs.ask_beside) if what == "ask" else (costs.tell, costs.tell_beside)
        )
        wait = lock.serve(now, hold)
        done = now + wait + hold + beside
        training = rng.lognormvariate(mean, SPREAD) if what == "ask" else 0.0
        if counts:
            lost += done - now
            trained += training
        if counts and what == "ask":
            waits.append(wait)
        heapq.heappush(
            events, (done + training, worker, "tell" if what == "ask" else "ask", training)
        )
    utilisation = (lock.done_by(end) - (busy_before or 0.0)) / (end - begin)
    total = lost + trained
    return Outcome(min(1.0, utilisation), lost / total if total else 0.0, sorted(waits) or [0.0])


def storm(workers: int, parallel: float, hold: float, beside: float = 0.0) -> float:
    """Return when the last of workers that join in the same second has its first generation."""
    lock, rng = Lock(), Random(0)
    arrivals = sorted(rng.random() + parallel for _ in range(workers))
    return max(arrival + lock.serve(arrival, hold) + hold + beside for arrival in arrivals)
