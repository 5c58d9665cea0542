"""Snapshots through the real pynvml on the stub library, and the rule for a free GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvml_stub import NvmlStub

from tmuxevolve.config import GpuPolicy
from tmuxevolve.gpus import Gpu, GpuProcess, Snapshot, busy_reason, snapshot

LOOK = """
import json, os, sys, msgspec
from tmuxevolve import gpus
env = {**os.environ, **json.loads(sys.argv[1])}
for _ in range(2):
    found = gpus.snapshot(env)
sys.stdout.write(msgspec.json.encode(found).decode())
"""
MIB = 1 << 20


@pytest.fixture
def stub(tmp_path: Path) -> NvmlStub:
    return NvmlStub(tmp_path)


def look(stub: NvmlStub, *lines: str, preload: bool = False) -> Snapshot:
    """Take a snapshot in a process of its own: the loader reads LD_LIBRARY_PATH at exec."""
    stub.write(list(lines))
    env = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    inside = {"NVML_STUB_STATE": stub.env["NVML_STUB_STATE"]} if preload else stub.env
    argv = [sys.executable, "-c", LOOK, json.dumps(stub.env if preload else {})]
    done = subprocess.run(argv, env={**env, **inside}, capture_output=True, text=True, check=True)
    return msgspec.json.decode(done.stdout, type=Snapshot)


def test_sensors_are_read_and_one_that_fails_is_left_out(stub: NvmlStub) -> None:
    found = look(
        stub,
        "gpu temp=54 power=212 powerlimit=400",
        "gpu sensors_error=3",
        "gpu sensors_error=999",
        "gpu mig=1 temp=61",
        "mig parent=3",
    )
    sensed = [(gpu.temperature, gpu.power, gpu.power_limit) for gpu in found.gpus]
    unknown = (None, None, None)
    assert sensed == [(54, 212.0, 400.0), unknown, unknown, (61, None, None)]
    assert reasons(found) == {}


def reasons(found: Snapshot, **policy: Any) -> dict[str, str]:
    limits = GpuPolicy(**policy)
    busy = {gpu.label: busy_reason(gpu, limits) for gpu in found.gpus}
    return {label: reason.reason for label, reason in busy.items() if reason}


def test_a_machine_with_everything(stub: NvmlStub) -> None:
    me = os.getpid()
    found = look(
        stub,
        'gpu name="NVIDIA L4" total=23034 used=300 reserved=500 util=12',
        f"gpu used=auto procs={me}:642",
        "gpu error=15",
        "gpu mig=1",
        "mig parent=3 used=3",
        "mig parent=3 used=4000",
        "gpu mode=2",
        "gpu mode=3",
        "gpu procs_error=4",
        "gpu used=5 reserved=700 nov2=1",
        f"gpu used=5 procs={me}:na",
        "gpu used=30000",
        "gpu mig=1",
    )
    first = found.gpus[0]
    assert (first.name, first.memory_used, first.utilization) == ("NVIDIA L4", 300 * MIB, 12)
    assert first.memory_free == (23034 - 800) * MIB
    (process,) = found.gpus[1].processes
    assert (process.pid, process.memory) == (me, 642 * MIB)
    assert process.user
    assert process.started
    assert "python" in (process.command or "")
    hidden = "in use by processes not visible from here (a container's?), 500 MiB allowed"
    assert reasons(found) == {
        "1": reasons(found)["1"],
        "2": "NVML: GPU is lost",
        "3:1": f"3.9 GiB {hidden}",
        "4": "compute mode is prohibited",
        "6": "NVML: Insufficient Permissions",
        "7": f"705 MiB {hidden}",
        "8": reasons(found)["8"],
        "9": f"29.3 GiB {hidden}",
        "10": "MIG is enabled, but it has no MIG instance",
    }
    assert reasons(found)["1"].startswith(f"pid {me} (")
    assert reasons(found)["8"].startswith(f"pid {me} (")
    assert found.gpus[3].utilization is None
    assert sorted(reasons(found, use="all")) == ["10", "2", "4", "6"]


def test_a_process_that_is_not_visible(stub: NvmlStub) -> None:
    """NVML names pids of the host; in another pid namespace they mean nothing."""
    gpu = Gpu(0, processes=(GpuProcess(pid=1 << 22, memory=None),))
    busy = busy_reason(gpu, GpuPolicy())
    assert busy
    assert busy.reason == f"pid {1 << 22}, not visible from here (a container's?)"
    assert busy.override == "gpus.use: all"


def test_library_path_of_the_caller(stub: NvmlStub) -> None:
    assert look(stub, "gpu used=1", "gpu used=2", preload=True).gpus[1].index == 1


@pytest.mark.parametrize(
    ("line", "broken", "text"),
    [
        ("driver init_error=18", True, "reboot, or reload"),
        ("driver init_error=4", True, "does not let this user in"),
        ("driver init_error=9", False, "no NVIDIA driver"),
        ("driver init_error=999", True, "does not answer"),
        ("# no gpu at all", False, "no NVIDIA GPU"),
    ],
)
def test_no_gpus(stub: NvmlStub, line: str, broken: bool, text: str) -> None:
    found = look(stub, line)
    assert found.gpus == ()
    assert found.broken is broken
    assert text in (found.problem or "")


def test_no_library_here() -> None:
    found = snapshot({})
    assert found.problem
    assert not found.broken


def test_sixty_four_gpus(stub: NvmlStub) -> None:
    assert [gpu.index for gpu in look(stub, *["gpu used=0"] * 64).gpus] == list(range(64))


def test_find() -> None:
    found = Snapshot(
        (
            Gpu(0, uuid="GPU-aaaaaaaa-1"),
            Gpu(1, uuid="GPU-aaaaaaaa-2"),
            Gpu(2, 0, "MIG-bbbbbbbb-1"),
        )
    )
    assert found.find(1) is found.gpus[1]
    assert found.find("1") is found.gpus[1]
    assert found.find("2:0") is found.gpus[2]
    assert found.find("GPU-aaaaaaaa-2") is found.gpus[1]
    assert found.find("MIG-bbbbbbbb") is found.gpus[2]
    assert found.find("GPU-aaaaaaaa") is None
    assert found.find("MIG-bb") is None
    assert found.find(2) is None


SIZES = st.integers(0, 200 * MIB)
PROCESSES = st.lists(
    st.builds(
        GpuProcess,
        pid=st.integers(1, 9),
        memory=SIZES | st.none(),
        name=st.sampled_from(["python", "Xorg", None]),
    ),
    max_size=2,
).map(tuple)
GPUS = st.builds(
    Gpu,
    index=st.just(0),
    memory_total=st.just(200 * MIB),
    memory_used=SIZES,
    memory_free=SIZES,
    utilization=st.integers(0, 100) | st.none(),
    processes=PROCESSES,
)
POLICIES = st.builds(
    GpuPolicy,
    max_memory_used=SIZES,
    max_utilization=st.integers(0, 100) | st.none(),
    min_free_memory=SIZES | st.none(),
    ignore_processes=st.sampled_from([(), ("X*",), ("python",)]),
)


@given(GPUS, POLICIES, SIZES)
def test_a_looser_limit_never_makes_a_free_gpu_busy(gpu: Gpu, policy: GpuPolicy, more: int) -> None:
    looser = msgspec.structs.replace(
        policy,
        max_memory_used=policy.max_memory_used + more,
        max_utilization=None,
        min_free_memory=None,
        ignore_processes=("*",),
    )
    if busy_reason(gpu, policy) is None:
        assert busy_reason(gpu, looser) is None
        assert busy_reason(gpu, msgspec.structs.replace(policy, use="all")) is None


@given(GPUS, POLICIES)
def test_own_processes_do_not_count(gpu: Gpu, policy: GpuPolicy) -> None:
    own = frozenset(process.pid for process in gpu.processes)
    memory = sum(process.memory or 0 for process in gpu.processes)
    alone = msgspec.structs.replace(gpu, processes=(), memory_used=max(0, gpu.memory_used - memory))
    assert busy_reason(gpu, policy, own_pids=own) == busy_reason(alone, policy)


@given(GPUS, POLICIES)
def test_every_reason_names_a_setting(gpu: Gpu, policy: GpuPolicy) -> None:
    busy = busy_reason(gpu, policy)
    if busy:
        assert busy.override
        assert busy.override.startswith("gpus.")
