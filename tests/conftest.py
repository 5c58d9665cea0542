"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nvml_stub import NvmlStub
from slurm_testbed import Cluster, missing
from support import Box, new_box


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that are marked so in each multiplexer."""
    if metafunc.definition.get_closest_marker("either") and "multiplexer" in metafunc.fixturenames:
        there = ["tmux", "screen"]
        only = metafunc.definition.get_closest_marker("tmux_only")
        metafunc.parametrize("multiplexer", there[:1] if only else there, indirect=True)


@pytest.fixture
def multiplexer(request: pytest.FixtureRequest) -> str:
    """Return where a box's windows are opened: tmux, unless a test is for either."""
    wanted: str = getattr(request, "param", "tmux")
    if shutil.which(wanted) is None:
        pytest.skip(f"no {wanted} here")
    return wanted


@pytest.fixture
def box(tmp_path: Path, multiplexer: str) -> Iterator[Box]:
    """Return a private machine: home, tmux server or screen sessions, sessions.yaml."""
    with new_box(tmp_path, multiplexer) as made:
        yield made


@pytest.fixture
def own_tmux(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Point this process's tmux at the box's server."""
    monkeypatch.setenv("TMUX_TMPDIR", str(box.sockets))
    monkeypatch.setenv("HOME", str(box.home))
    monkeypatch.delenv("TMUX", raising=False)
    return box


@pytest.fixture
def stub(box: Box) -> NvmlStub:
    """Give the box eight free GPUs of its own."""
    made = NvmlStub(box.root)
    box.env |= made.env
    tag = box.root.name[-12:]
    made.uuids = [f"GPU-{os.getpid():08d}-{tag}-{i}" for i in range(8)]
    made.write([f"gpu uuid={uuid}" for uuid in made.uuids])
    return made


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return a Slurm cluster of two nodes with two GPUs each."""
    reason = missing()
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    made = Cluster()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def busy_pid() -> Iterator[int]:
    """Return the pid of somebody's process."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()
