"""For how long GPUs have been seen free: no GPU keeps a record of that itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from tmuxevolve.config import GpuPolicy
from tmuxevolve.session import plan
from tmuxevolve.session.plan import Machine


class Idle:
    """Remembers since when each GPU has been free at every look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been seen yet."""
        self._clock = clock
        self._since: dict[str, float] = {}

    def look(self, machine: Machine, policy: GpuPolicy) -> Machine:
        """Return the machine with what is known of its GPUs after this look at them."""
        now = self._clock()
        free = [gpu.uuid for gpu in plan.unused(policy, machine)]
        self._since = {uuid: self._since.get(uuid, now) for uuid in free}
        idle = {uuid: now - since for uuid, since in self._since.items()}
        return msgspec.structs.replace(machine, idle=idle)
