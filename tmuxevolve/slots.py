"""A slot is the place of one worker: a GPU, a MIG instance, a share of one, a CPU slot, a job."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from tmuxevolve.gpus import Gpu

# The last two digits of a window's index are the GPU's, also for a second worker on it.
_STRIDE = 100
_MIG_INSTANCES = 7
_UNIQUE_BYTES = 8


class Slot(msgspec.Struct, frozen=True):
    """Place number ``share`` on a device; ``gpu`` is None for CPU slot or job ``number``."""

    number: int
    gpu: Gpu | None = None
    share: int = 0
    kind: Literal["cpu", "job"] = "cpu"

    @property
    def label(self) -> str:
        """Return what people type for it: "2", "1:0" (MIG), "2/1" (its second worker), "cpu0"."""
        device = self.gpu.label if self.gpu else f"{self.kind}{self.number}"
        return f"{device}/{self.share}" if self.share else device

    @property
    def name(self) -> str:
        """Return the window's name: "gpu2", "gpu1-0", "gpu2-w1", "cpu0" (no target syntax)."""
        return window_name(self.label)

    @property
    def index(self) -> int:
        """Return the window's index: the GPU's own for its first worker, +100 for each further."""
        mig = self.gpu.mig if self.gpu else None
        column = self.share if mig is None else 1 + mig + _MIG_INSTANCES * self.share
        return self.number + _STRIDE * column

    @property
    def uuid(self) -> str | None:
        """Return the GPU's UUID, or None on a CPU slot."""
        return self.gpu.uuid if self.gpu else None

    @property
    def device(self) -> str:
        """Return the GPU's name, or "CPU"."""
        return self.gpu.name if self.gpu else "CPU"


def window_name(label: str) -> str:
    """Return the name of a slot's window: "gpu1-0" for "1:0"."""
    device, _, share = label.partition("/")
    name = device if device.startswith(("cpu", "job")) else f"gpu{device.replace(':', '-')}"
    return f"{name}-w{share}" if share else name


def new_worker(window: str) -> str:
    """Return a name for a worker in this window that no other one has."""
    return f"{window}-{os.urandom(_UNIQUE_BYTES).hex()}"


def window_of(worker: str) -> str:
    """Return the name of the window that a worker was started in."""
    return re.sub(rf"-[0-9a-f]{{{2 * _UNIQUE_BYTES}}}$", "", worker)


def of_gpus(gpus: Sequence[Gpu], per_gpu: int) -> Iterator[Slot]:
    """Return the slots of these GPUs: the first of every GPU, then the second of each, ..."""
    for share in range(per_gpu):
        for gpu in gpus:
            yield Slot(gpu.index, gpu, share)


def of_cpu(count: int) -> Iterator[Slot]:
    """Return this many CPU slots."""
    return (Slot(number) for number in range(count))


def of_jobs(count: int) -> Iterator[Slot]:
    """Return the slots of this many jobs."""
    return (Slot(number, kind="job") for number in range(count))


def cuda_environment(gpu: Gpu | None, visible: str) -> dict[str, str]:
    """Return the variables that show a trainer this GPU alone, or none.

    The index is NVML's, which is CUDA's only under ``CUDA_DEVICE_ORDER=PCI_BUS_ID``; a MIG
    instance has no index of its own for CUDA. ``visible`` is "index" or "uuid".
    """
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if gpu is None:
        return {**order, "CUDA_VISIBLE_DEVICES": "-1"}
    by_uuid = visible == "uuid" or gpu.mig is not None
    return {**order, "CUDA_VISIBLE_DEVICES": gpu.uuid if by_uuid else str(gpu.index)}
