"""Every GPU of this machine, and whether a worker would get it: what `tmuxevolve gpus` shows."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from tmuxevolve import claims, gpus
from tmuxevolve.config import GpuPolicy
from tmuxevolve.gpus import Gpu
from tmuxevolve.multiplexer import Multiplexer
from tmuxevolve.session import plan
from tmuxevolve.session.attach import windows_if_any


class GpuStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU and whether a worker would get it."""

    gpu: Gpu
    label: str
    free: bool
    reason: str | None
    override: str | None


class GpuList(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs, seen ``at`` seconds since the epoch; ``problem`` says why there are none."""

    at: float
    driver: str | None
    problem: str | None
    gpus: tuple[GpuStatus, ...]


def gpu_list(mux: Multiplexer, policy: GpuPolicy, environ: Mapping[str, str]) -> GpuList:
    """Return every GPU of the machine, and why those that are not free are not."""
    snapshot = gpus.snapshot(environ)
    # The windows only put names to claims.
    machine = plan.Machine(snapshot, claims.held(), windows_if_any(mux))
    refusals = ((gpu, plan.refusal(gpu, policy, machine)) for gpu in snapshot.gpus)
    return GpuList(
        at=time.time(),
        driver=snapshot.driver,
        problem=snapshot.problem,
        gpus=tuple(
            GpuStatus(
                gpu=gpu,
                label=gpu.label,
                free=refusal is None,
                reason=refusal.reason if refusal else None,
                override=refusal.override if refusal else None,
            )
            for gpu, refusal in refusals
        ),
    )
