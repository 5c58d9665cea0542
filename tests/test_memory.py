"""Memory limits on a process tree, kept by a real cgroup and by the watchdog."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import Box, box_processes, poll

from tmuxevolve import memory
from tmuxevolve.memory import Limit, cgroup, systemd, watchdog

MIB = 1 << 20
# Takes memory step by step, in this process or in children of its own, and says how far it came.
GREEDY = """
import os, subprocess, sys, time
mib, children = int(sys.argv[1]), int(sys.argv[2])
if children:
    code = "import sys, time; x = bytearray(int(sys.argv[1]) << 20); time.sleep(1000)"
    argv = [sys.executable, "-c", code, str(mib // children)]
    for _ in range(children):
        subprocess.Popen(argv, start_new_session=True)
    time.sleep(1000)
kept = [bytearray(1 << 20) for _ in range(mib)]
time.sleep(float(sys.argv[3]))
"""
needs_cgroup = pytest.mark.skipif(not cgroup.works(), reason="no cgroup can be made here")


def greedy(mib: int, children: int = 0, seconds: float = 1000) -> list[str]:
    return [sys.executable, "-c", GREEDY, str(mib), str(children), str(seconds)]


@pytest.fixture
def without_cgroups(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Hide the cgroups from what the box runs: a mount namespace with an empty folder there."""
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs a mount namespace")
    hidden = "mount -t tmpfs none /sys/fs/cgroup && mount -o remount,ro /sys/fs/cgroup"
    run = f'{hidden} && exec {sys.executable} "$@"'
    script = box.root / "python-without-cgroups"
    script.write_text(f"#!/bin/sh\nexec unshare -m sh -c '{run}' sh \"$@\"\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return box


def over(box: Box) -> dict[str, Any]:
    """Wait for the end of the only window."""
    return poll(lambda: (w := box.status()["cpu0"])["exit_status"] is not None and w)


def made_for(box: Box) -> list[Path]:
    """Return where the cgroup of the only window's worker is, or would be."""
    facts = json.loads(box.tmux("list-panes", "-a", "-F", "#{@tmuxevolve}"))
    return [parent / f"tmuxevolve-{facts['worker']}" for parent in cgroup._parents()]


def is_removed(paths: list[Path]) -> bool:
    return not any(path.exists() for path in paths)


@needs_cgroup
@pytest.mark.parametrize("children", [0, 3])
def test_a_cgroup_ends_the_whole_tree(box: Box, children: int) -> None:
    box.session(command=greedy(300, children), memory="100MiB", cpu_slots=1)
    started = box.cli("start")
    assert "memory of each worker: 100 MiB (cgroup)" in started.stdout
    ended = over(box)
    assert ended["state"] == "failed"
    assert ended["reason"] == ("out of memory: it needed more than its limit of 100 MiB (cgroup)")
    assert "memory of each worker: 100 MiB (cgroup)" in box.cli("status").stdout
    assert box.json("status")[0]["memory"] == {"bytes": 100 * MIB, "method": "cgroup"}
    trainers = [p for p in box_processes(box) if "TMUXEVOLVE_WORKER" in p.environ()]
    assert trainers == []
    assert is_removed(made_for(box))


@needs_cgroup
def test_a_trainer_within_its_limit_is_left_alone(box: Box) -> None:
    box.session(command=greedy(20, seconds=0.5), memory="100MiB", cpu_slots=1)
    box.cli("start")
    assert (over(box)["exit_status"], over(box)["reason"]) == (0, None)
    assert is_removed(made_for(box))


@needs_cgroup
def test_what_a_killed_worker_has_left_is_removed_by_the_next(box: Box) -> None:
    box.session(command=greedy(10), memory="100MiB", cpu_slots=1)
    box.cli("start")
    old = made_for(box)
    assert not is_removed(old)
    keeper, worker = box.keeper("cpu0"), box.worker("cpu0")
    keeper.kill()
    worker.kill()
    poll(lambda: not keeper.is_running() and not worker.is_running())
    box.cli("start")
    assert is_removed(old)
    new = made_for(box)
    assert not is_removed(new)
    box.cli("stop")
    assert is_removed(new)


@pytest.mark.parametrize("children", [0, 3])
def test_the_watchdog_ends_the_whole_tree(without_cgroups: Box, children: int) -> None:
    box = without_cgroups
    box.session(command=greedy(300, children), memory="100MiB", cpu_slots=1)
    started = box.cli("start")
    assert "memory of each worker: 100 MiB (watchdog): " in started.stdout
    ended = over(box)
    assert ended["reason"].startswith(
        "out of memory: it needed more than its limit of 100 MiB (watchdog), and used "
    )
    assert ended["state"] == "failed"
    trainers = [p for p in box_processes(box) if "TMUXEVOLVE_WORKER" in p.environ()]
    assert trainers == []


def test_in_cooperative_mode_the_reason_is_that_of_the_generation(box: Box) -> None:
    command = [*greedy(300), "{hyp.lr}"]
    evolve = {
        "generations": 3,
        "hyp": {"lr": 0.01},
        "space": {"lr": {"min": 0.001, "max": 0.1}},
        "fitness": {"pattern": "map (.*)"},
    }
    restart = {"backoff": 0, "max_consecutive_failures": 2}
    box.session(command=command, evolve=evolve, restart=restart, memory="100MiB", cpu_slots=1)
    box.cli("start")
    ended = over(box)
    assert "out of memory: it needed more than its limit of 100 MiB" in ended["failure"]
    assert "out of memory" in ended["reason"]


def test_shared_memory_counts_once() -> None:
    code = (
        "import mmap, os, time\n"
        "shared = mmap.mmap(-1, 64 << 20); shared.write(b'x' * (64 << 20))\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        sum(shared[i] for i in range(0, 64 << 20, 4096)); print('r', flush=True)\n"
        "        time.sleep(1000)\n"
        "time.sleep(1000)"
    )
    argv = [sys.executable, "-c", code]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        tree = psutil.Process(process.pid)
        pids = [process.pid, *(child.pid for child in tree.children())]
        assert len(pids) == 4
        assert watchdog.resident(pids) > 4 * 64 * MIB
        assert 64 * MIB < watchdog.proportional(pids) < 2 * 64 * MIB
        assert watchdog.proportional([2**22 - 1]) == watchdog.resident([2**22 - 1]) == 0
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()


def test_windows_only_where_there_is_room(box: Box) -> None:
    # Two fit and a third does not, by a fifth of the RAM each: other tests use some meanwhile.
    wanted = memory.available() * 2 // 5
    box.session(command=["sleep", "1000"], cpu_slots=4, min_free_memory=wanted)
    started = box.cli("start")
    assert started.returncode == 0
    assert len(box.status()) == 2
    assert started.stdout.count("of RAM left") == 2
    assert "(to use it: a smaller min_free_memory)" in started.stdout
    # What the running ones may still grow by is not there for others.
    again = box.cli("start")
    assert len(box.status()) == 2, again.stdout


def test_no_room_at_all_is_nothing_free(box: Box) -> None:
    box.session(min_free_memory="500000G")
    assert box.cli("start").returncode == 3


@pytest.mark.parametrize("size", ["0", "1MiB", "15MiB"])
def test_a_limit_that_no_trainer_fits_into(box: Box, size: str) -> None:
    box.session(memory=size)
    done = box.cli("start")
    assert done.returncode == 2
    assert "sessions.demo.memory: " in done.stderr


def test_systemd_is_not_used_without_a_manager_or_lingering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert systemd.problem({"PATH": str(tmp_path)}) == "no systemd-run"
    (tmp_path / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemd-run").chmod(0o755)
    environ = {"PATH": str(tmp_path)}
    monkeypatch.setattr(systemd, "_ROOT", tmp_path)
    assert systemd.problem(environ) == "no systemd user manager with cgroup v2"
    uid = os.getuid()
    manager = tmp_path / "user.slice" / f"user-{uid}.slice" / f"user@{uid}.service"
    manager.mkdir(parents=True)
    (manager / "cgroup.controllers").write_text("cpu pids\n")
    assert systemd.problem(environ) == "systemd does not delegate memory to users"
    (manager / "cgroup.controllers").write_text("cpu memory pids\n")
    monkeypatch.setattr(systemd, "_LINGER", tmp_path / "linger")
    assert "enable-linger" in (systemd.problem(environ) or "")


def test_a_limit_reads_well() -> None:
    assert str(Limit(bytes=20 << 30, method="systemd")) == "20.0 GiB (systemd)"
