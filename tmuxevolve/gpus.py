"""GPUs as values, and the rule that says which of them are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol

import msgspec

from tmuxevolve.units import format_size

# CUDA accepts a UUID cut short, as long as it is unambiguous.
_SHORTEST_UUID = len("GPU-") + 8


class Policy(Protocol):
    """The limits that a free GPU keeps: memory in bytes, utilisation in percent."""

    @property
    def use(self) -> object:
        """ "all" means that a busy GPU is taken too."""

    @property
    def max_memory_used(self) -> int: ...
    @property
    def max_utilization(self) -> int | None: ...
    @property
    def min_free_memory(self) -> int | None: ...
    @property
    def ignore_processes(self) -> Sequence[str]: ...


class GpuProcess(msgspec.Struct, frozen=True):
    """A process on a GPU: memory in bytes, ``started`` in seconds since the epoch.

    Only the pid is known of a process that is not visible from here, such as a container's.
    """

    pid: int
    memory: int | None = None
    user: str | None = None
    name: str | None = None
    command: str | None = None
    started: float | None = None


class Gpu(msgspec.Struct, frozen=True):
    """A GPU, or one MIG instance of it, by NVML's index; memory in bytes, utilisation in percent.

    ``temperature`` is in degrees Celsius, ``power`` and its enforced limit in watts: None where the
    driver does not say, as of a MIG instance's power. ``memory_used`` is without the driver's own
    reserve where NVML tells them apart. ``error`` is why the GPU cannot be used at all.
    """

    index: int
    mig: int | None = None
    uuid: str = ""
    name: str = "unknown"
    memory_total: int = 0
    memory_used: int = 0
    memory_free: int = 0
    utilization: int | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    prohibited: bool = False
    processes: tuple[GpuProcess, ...] = ()
    error: str | None = None

    @property
    def label(self) -> str:
        """Return "2", or "1:0" for MIG instance 0 of GPU 1, as in ``docker --gpus``."""
        return str(self.index) if self.mig is None else f"{self.index}:{self.mig}"


class Snapshot(msgspec.Struct, frozen=True):
    """All GPUs at one moment.

    ``problem`` says why there are none; ``broken`` that there is a driver which does not answer.
    """

    gpus: tuple[Gpu, ...]
    driver: str | None = None
    problem: str | None = None
    broken: bool = False

    def find(self, name: int | str) -> Gpu | None:
        """Return the GPU of this index, label or UUID (or its unambiguous beginning)."""
        text = str(name)
        exact = [gpu for gpu in self.gpus if text in {gpu.label, gpu.uuid}]
        if not exact and len(text) >= _SHORTEST_UUID:
            exact = [gpu for gpu in self.gpus if gpu.uuid.startswith(text)]
        return exact[0] if len(exact) == 1 else None


class Busy(msgspec.Struct, frozen=True):
    """Why a GPU is not free, and the setting that would let it be used all the same."""

    reason: str
    override: str | None = None


def snapshot(environ: Mapping[str, str]) -> Snapshot:
    """Look at every GPU once, through NVML. ``environ`` tells where the driver's library is."""
    from tmuxevolve import nvml

    return nvml.snapshot(environ)


def busy_reason(gpu: Gpu, policy: Policy, *, own_pids: frozenset[int] = frozenset()) -> Busy | None:
    """Return why this GPU would not be used, or None when it is free.

    ``own_pids`` are processes that may share it: they and their memory do not count.
    """
    if gpu.error:
        return Busy(gpu.error)
    if gpu.prohibited:
        return Busy("compute mode is prohibited", f"nvidia-smi -i {gpu.index} -c DEFAULT")
    gpu = _without(gpu, policy.ignore_processes, own_pids)
    wanted = policy.min_free_memory
    if wanted is not None and gpu.memory_free < wanted:
        free = f"{format_size(gpu.memory_free)} free, {format_size(wanted)} wanted"
        return Busy(free, f"gpus.min_free_memory: {_mebibytes(gpu.memory_free, up=False)}")
    return None if policy.use == "all" else _in_use(gpu, policy)


def _in_use(gpu: Gpu, policy: Policy) -> Busy | None:
    if gpu.processes:
        names = sorted({_program(process) for process in gpu.processes} - {""})
        override = f"gpus.ignore_processes: [{', '.join(names)}]" if names else "gpus.use: all"
        return Busy("; ".join(map(_describe, gpu.processes)), override)
    if gpu.memory_used > policy.max_memory_used:
        return Busy(
            f"{format_size(gpu.memory_used)} in use by processes not visible from here"
            f" (a container's?), {format_size(policy.max_memory_used)} allowed",
            f"gpus.max_memory_used: {_mebibytes(gpu.memory_used, up=True)}",
        )
    limit = policy.max_utilization
    if limit is not None and gpu.utilization is not None and gpu.utilization > limit:
        return Busy(
            f"{gpu.utilization}% utilised, {limit}% allowed",
            f"gpus.max_utilization: {gpu.utilization}",
        )
    return None


def _without(gpu: Gpu, patterns: Sequence[str], own_pids: frozenset[int]) -> Gpu:
    """Return the GPU as it would be without the processes that do not count."""
    ignored = [p for p in gpu.processes if p.pid in own_pids or _matches(p, patterns)]
    used = max(0, gpu.memory_used - sum(process.memory or 0 for process in ignored))
    kept = tuple(process for process in gpu.processes if process not in ignored)
    return msgspec.structs.replace(gpu, processes=kept, memory_used=used)


def _matches(process: GpuProcess, patterns: Sequence[str]) -> bool:
    names = {process.name, _program(process)} - {None, ""}
    return any(fnmatch(str(name), pattern) for name in names for pattern in patterns)


def _program(process: GpuProcess) -> str:
    words = (process.command or "").split()
    return Path(words[0]).name if words else process.name or ""


def _describe(process: GpuProcess) -> str:
    if process.name is None:
        return f"pid {process.pid}, not visible from here (a container's?)"
    memory = "" if process.memory is None else f", {format_size(process.memory)}"
    return f"pid {process.pid} ({process.user or '?'}, {_program(process)}{memory})"


def _mebibytes(size: int, *, up: bool) -> str:
    return f"{-(-size // (1 << 20)) if up else size >> 20}MiB"
