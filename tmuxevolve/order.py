"""What a worker is told, and what it reports of itself."""

from __future__ import annotations

import json

import msgspec

from tmuxevolve import units
from tmuxevolve.config import GpuPolicy, Notify, RestartPolicy
from tmuxevolve.evolution import Plan
from tmuxevolve.memory import Limit
from tmuxevolve.multiplexer import State


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All a worker needs to know. ``delay`` is in seconds; ``uuid`` is None on a CPU slot.

    ``gpu`` is its name, for people; ``device`` are the variables that name it, which was free when
    they were written and may be taken without another look until ``found_until`` on the monotonic
    clock.

    It runs ``argv`` once, or, with an ``evolution``, what that says, generation after generation.
    ``job`` is the id of the Slurm job that it runs in.
    """

    worker: str
    window: str
    argv: tuple[str, ...]
    evolution: Plan | None = None
    workdir: str
    env: dict[str, str]
    uuid: str | None
    gpu: str = "CPU"
    gpus: GpuPolicy
    stop_signal: str
    stop_grace: float
    delay: float
    device: dict[str, str] = {}
    found_until: float = 0.0
    restart: RestartPolicy
    memory: Limit | None = None
    session: str = ""
    results: str = ""
    notify: Notify | None = None
    job: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a worker: the trainer's pid when it runs, or the reason why it does not."""

    state: State
    pid: int | None = None
    reason: str | None = None


def write_order(order: Order) -> bytes:
    """Write an order for its way to the worker: of the caller's environment every byte counts."""
    return json.dumps(msgspec.to_builtins(order, enc_hook=units.encode)).encode()


def read_order(payload: bytes) -> Order:
    """Read an order as it travels."""
    return msgspec.convert(json.loads(payload), Order, dec_hook=units.decode)
