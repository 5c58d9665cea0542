"""stop, against trainers that do not want to end, in 64 windows; others are left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import Signals

import psutil
import pytest
from support import Box, box_processes, is_alive, poll

from tmuxevolve import census, processes

# What a trainer does, by its window's number; each says that it is ready.
TRAINER = """
import os, pathlib, signal, subprocess, sys, time
ready = pathlib.Path(sys.argv[1])
kinds = ["polite", "stubborn", "daemon", "family", "zombies", "storm", "emptied", "stopped"]
kind = kinds[int(os.environ["TMUXEVOLVE_WORKER"][3:].split("-")[0]) % len(kinds)]
def ignore():
    for n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)
def sleeper(**options):
    return subprocess.Popen(["/bin/sleep", "1000"], **options)
if kind == "stubborn":
    ignore()
if kind == "daemon" and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ignore()
        while True: time.sleep(1000)
    os._exit(0)
if kind == "family":
    sleeper(); sleeper(start_new_session=True)
if kind == "zombies":
    for _ in range(3): subprocess.Popen(["/bin/true"])
if kind == "emptied":
    sleeper(env={}, start_new_session=True)
if kind == "stopped":
    os.kill(sleeper().pid, signal.SIGSTOP)
(ready / str(os.getpid())).touch()
while True:
    if kind == "storm":
        subprocess.Popen(["/bin/sleep", "0.05"]).poll()
        time.sleep(0.02)
    else:
        time.sleep(1000)
"""


@pytest.fixture
def decoy(box: Box) -> Iterator[subprocess.Popen[bytes]]:
    """Return somebody's process with a trainer's command line."""
    argv = [sys.executable, "-c", "import time; time.sleep(1000)", str(box.root / "trainer.py")]
    process = subprocess.Popen(argv, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def family(box: Box) -> list[psutil.Process]:
    """Return all descendants of the box's tmux server, and what carries its environment."""
    server = psutil.Process(box.hands.server())
    return [*server.children(recursive=True), *box_processes(box)]


@pytest.mark.either
def test_sixty_four_windows_of_all_kinds(box: Box, decoy: subprocess.Popen[bytes]) -> None:
    ready = box.root / "ready"
    ready.mkdir()
    (box.root / "trainer.py").write_text(TRAINER)
    command = [sys.executable, "-S", str(box.root / "trainer.py"), str(ready)]
    box.session(command=command, cpu_slots=64, stop={"grace": "2s"})
    assert box.cli("start").returncode == 0
    poll(lambda: len(list(ready.iterdir())) == 64, 60)
    before = family(box)
    assert len(before) > 64 * 3
    stopped = box.json("stop")
    assert len(stopped) == 64
    assert {window["signal"] for window in stopped} == {"SIGINT", "SIGTERM", "SIGKILL"}
    assert [window["left"] for window in stopped] == [[]] * 64
    poll(lambda: [p for p in before if is_alive(p)] == [])
    assert box_processes(box) == []
    assert decoy.poll() is None


def test_a_pid_given_to_somebody_else_is_not_signalled(decoy: subprocess.Popen[bytes]) -> None:
    family = census.Family(processes.Target("w-reuse", decoy.pid), frozenset())
    member = psutil.Process(decoy.pid)
    # The kernel has given the pid away since it was seen: the creation time is another one.
    member._ident = (decoy.pid, member.create_time() - 100)  # type: ignore[attr-defined]
    family.seen[decoy.pid] = member
    family.trainers[decoy.pid] = member
    assert family.others() == []
    assert not family.knows(decoy.pid)
    family.send(Signals.SIGKILL, [member])
    family.ask()
    assert decoy.poll() is None


def test_what_is_not_of_tmuxevolve_stays(box: Box, tmp_path: Path) -> None:
    """Windows, panes and sessions of the user's, in the same tmux server."""
    box.session(cpu_slots=2)
    box.tmux("new-session", "-d", "-s", "mine", "sleep", "4000")
    box.cli("start")
    box.tmux("split-window", "-d", "-t", "=demo:0", "sleep", "4001")
    box.tmux("new-window", "-d", "-t", "=demo:", "sleep", "4002")
    assert box.cli("stop").returncode == 0
    panes = box.tmux("list-panes", "-a", "-F", "#{session_name} #{pane_pid}").splitlines()
    kept = {" ".join(psutil.Process(int(line.split()[1])).cmdline()[-2:]) for line in panes}
    assert kept == {"sleep 4000", "sleep 4001", "sleep 4002"}
    assert json.loads(box.cli("status", "--json").stdout) == []
