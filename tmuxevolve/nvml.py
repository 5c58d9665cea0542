"""A snapshot of the GPUs through NVML. Nothing else in the program knows NVML."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pynvml

from tmuxevolve.gpus import Gpu, GpuProcess, Snapshot

_LIBRARY = "libnvidia-ml.so.1"
_ABSENT = (
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
)
# What a device, an old driver or a MIG instance may lack without being unusable.
_LACKING = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
)
_MEMORY_V2 = 2 << 24 | ctypes.sizeof(pynvml.c_nvmlMemory_v2_t)

T = TypeVar("T")


def snapshot(environ: Mapping[str, str]) -> Snapshot:
    """Return every GPU; never raises, but says in the result what is wrong."""
    _preload(environ.get("LD_LIBRARY_PATH", ""))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _no_gpus(error)
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        count = pynvml.nvmlDeviceGetCount()
        gpus = tuple(gpu for index in range(count) for gpu in _device(index))
    except pynvml.NVMLError as error:
        return Snapshot((), problem=f"NVML failed: {_text(error)}", broken=True)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return Snapshot(gpus, driver, None if gpus else "this machine has no NVIDIA GPU")


def _no_gpus(error: pynvml.NVMLError) -> Snapshot:
    code = error.value
    if code == pynvml.NVML_ERROR_NO_PERMISSION:
        return Snapshot((), problem="the NVIDIA driver does not let this user in", broken=True)
    if code in _ABSENT:
        return Snapshot((), problem=f"no NVIDIA driver on this machine ({_text(error)})")
    mend = (
        "; reboot, or reload the driver's kernel module"
        if code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
        else ""
    )
    return Snapshot(
        (), problem=f"the NVIDIA driver does not answer: {_text(error)}{mend}", broken=True
    )


def _device(index: int) -> Iterator[Gpu]:
    """Return a GPU, or the MIG instances in its place; what fails on it is the GPU's ``error``."""
    gpu = Gpu(index)
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        gpu = msgspec.structs.replace(gpu, uuid=str(pynvml.nvmlDeviceGetUUID(handle)))
        gpu = msgspec.structs.replace(gpu, name=str(pynvml.nvmlDeviceGetName(handle)))
        if not _is_mig(handle):
            yield _details(gpu, handle)
            return
        instances = list(_instances(gpu, handle))
        yield from instances or [
            msgspec.structs.replace(gpu, error="MIG is enabled, but it has no MIG instance")
        ]
    except pynvml.NVMLError as error:
        yield msgspec.structs.replace(gpu, error=f"NVML: {_text(error)}")


def _instances(gpu: Gpu, handle: Any) -> Iterator[Gpu]:
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:
            continue
        uuid = str(pynvml.nvmlDeviceGetUUID(instance))
        name = str(_or(gpu.name, pynvml.nvmlDeviceGetName, instance))
        yield _details(Gpu(gpu.index, number, uuid, name), instance)


def _is_mig(handle: Any) -> bool:
    current, _pending = _or((0, 0), pynvml.nvmlDeviceGetMigMode, handle)
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _details(gpu: Gpu, handle: Any) -> Gpu:
    try:
        memory = _memory(handle)
        mode = _or(None, pynvml.nvmlDeviceGetComputeMode, handle)
        # MIG instances have no utilisation and no power of their own.
        whole = gpu.mig is None
        rates = _or(None, pynvml.nvmlDeviceGetUtilizationRates, handle) if whole else None
        sensor = pynvml.NVML_TEMPERATURE_GPU
        return msgspec.structs.replace(
            gpu,
            memory_total=int(memory.total),
            memory_used=int(memory.used),
            memory_free=int(memory.free),
            utilization=None if rates is None else int(rates.gpu),
            temperature=_sensed(pynvml.nvmlDeviceGetTemperature, handle, sensor),
            power=_watts(pynvml.nvmlDeviceGetPowerUsage, handle) if whole else None,
            power_limit=_watts(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle) if whole else None,
            prohibited=mode == pynvml.NVML_COMPUTEMODE_PROHIBITED,
            processes=tuple(_processes(handle)),
        )
    except pynvml.NVMLError as error:
        return msgspec.structs.replace(gpu, error=f"NVML: {_text(error)}")


def _sensed(query: Callable[..., int], *arguments: Any) -> int | None:
    """Return what a sensor says; whatever is wrong with it, the GPU can be used without it."""
    try:
        return query(*arguments)
    except pynvml.NVMLError:
        return None


def _watts(query: Callable[..., int], handle: Any) -> float | None:
    milliwatts = _sensed(query, handle)
    return None if milliwatts is None else milliwatts / 1000


def _memory(handle: Any) -> Any:
    """Return the v2 figures, whose ``used`` is without the driver's reserve; v1 on old drivers."""
    info = _or(None, pynvml.nvmlDeviceGetMemoryInfo, handle, _MEMORY_V2)
    return info or pynvml.nvmlDeviceGetMemoryInfo(handle)


def _processes(handle: Any) -> Iterator[GpuProcess]:
    found = _or(None, pynvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
    if found is None:
        found = _or([], pynvml.nvmlDeviceGetComputeRunningProcesses_v2, handle)
    for process in found:
        yield _process(int(process.pid), process.usedGpuMemory)


def _process(pid: int, memory: int | None) -> GpuProcess:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return GpuProcess(
                pid=pid,
                memory=memory,
                user=process.username(),
                name=process.name(),
                command=_command(process),
                started=process.create_time(),
            )
    except (psutil.Error, KeyError):
        return GpuProcess(pid=pid, memory=memory)


def _command(process: Any) -> str | None:
    import psutil

    try:
        return " ".join(process.cmdline()) or None
    except psutil.Error:
        return None


def _or(default: T, query: Callable[..., T], *arguments: Any) -> T:
    """Return what the query answers, or the default where the device or driver lacks it."""
    try:
        return query(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _LACKING:
            return default
        raise


def _text(error: pynvml.NVMLError) -> str:
    return str(error)


def _preload(search_path: str) -> None:
    """Load the library as the caller's LD_LIBRARY_PATH finds it.

    The loader reads that variable at exec only, and a worker has the tmux server's; a library that
    is loaded already satisfies pynvml, which asks for it by its name.
    """
    if search_path == os.environ.get("LD_LIBRARY_PATH", ""):
        return
    for folder in filter(None, search_path.split(":")):
        path = Path(folder) / _LIBRARY
        if path.exists():
            with suppress(OSError):
                ctypes.CDLL(str(path))
                return
