"""Ending process trees: real processes, real signals, and a stranger beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import Signals

import psutil
import pytest
from support import is_alive, poll

from tmuxevolve import census, processes
from tmuxevolve.processes import MARK, Target

# The window's first process: starts the trainer with the mark, and waits for it.
WORKER = """
import os, subprocess, sys
env = {**os.environ, "TMUXEVOLVE_WORKER": sys.argv[1]}
import signal; signal.signal(signal.SIGINT, lambda *_: None)
sys.exit(subprocess.Popen([sys.executable, "-c", sys.argv[2]], env=env).wait())
"""
PRELUDE = """
import json, os, signal, subprocess, sys, time
out = os.environ["OUT"]
def ready(*pids):
    with open(out + ".t", "w") as f: json.dump([os.getpid(), *pids], f)
    os.rename(out + ".t", out)
def ignore(*numbers):
    for n in numbers: signal.signal(n, signal.SIG_IGN)
"""
POLITE = "ready(); time.sleep(1000)"
STUBBORN = "ignore(2, 15); ready(); time.sleep(1000)"
TERM_ONLY = "ignore(2); ready(); time.sleep(1000)"
FAMILY = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
ready(child.pid); time.sleep(1000)
"""
# A daemon: double fork, setsid, ignores everything that can be ignored.
DAEMON = """
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ignore(1, 2, 15); os.write(w, str(os.getpid()).encode().ljust(20)); time.sleep(1000)
    os._exit(0)
ready(int(os.read(r, 20))); time.sleep(1000)
"""
# Forks a new child whenever one dies, as fast as it can.
HYDRA = """
ignore(2, 15)
ready()
while True:
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-S", "-c", code])
    time.sleep(0.05)
"""


class Started:
    """A worker and the pids of its tree."""

    def __init__(self, root: Path, name: str, body: str) -> None:
        self.name = name
        out = root / f"{name}.json"
        env = {**os.environ, "OUT": str(out)}
        code = textwrap.dedent(PRELUDE) + textwrap.dedent(body)
        argv = [sys.executable, "-c", WORKER, name, code]
        self.worker = subprocess.Popen(argv, env=env, start_new_session=True)
        poll(out.exists)
        self.pids: list[int] = json.loads(out.read_text())
        self.processes = [psutil.Process(pid) for pid in self.pids]

    def target(self, signal: Signals = Signals.SIGINT, grace: float = 10.0) -> Target:
        return Target(self.name, self.worker.pid, signal, grace)

    def alive(self) -> list[int]:
        return [p.pid for p in self.processes if is_alive(p)]

    def close(self) -> None:
        self.worker.kill()
        self.worker.wait()
        for process in self.processes:
            with suppress(psutil.Error):
                process.kill()


class Starter:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[Started] = []

    def __call__(self, name: str, body: str) -> Started:
        self.started.append(Started(self.root, name, body))
        return self.started[-1]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for started in starter.started:
        started.close()


def test_polite_trainer_needs_one_sigint(run: Starter) -> None:
    polite = run("w-polite", POLITE)
    ended = processes.end([polite.target()])["w-polite"]
    assert (ended.signal, ended.processes, ended.left) == (Signals.SIGINT, 2, ())
    assert polite.alive() == []
    assert polite.worker.wait(10) != 0


def test_first_signal_is_the_sessions_choice(run: Starter) -> None:
    trainer = run("w-term", TERM_ONLY)
    ended = processes.end([trainer.target(Signals.SIGTERM)])["w-term"]
    assert (ended.signal, trainer.alive()) == (Signals.SIGTERM, [])


def test_escalates_as_far_as_needed(run: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_TERMINATE_TIMEOUT", 0.3)
    term, stubborn = run("w-term", TERM_ONLY), run("w-stubborn", STUBBORN)
    ended = processes.end([term.target(grace=0.3), stubborn.target(grace=0.3)])
    assert ended["w-term"].signal == Signals.SIGTERM
    assert ended["w-stubborn"].signal == Signals.SIGKILL
    assert (term.alive(), stubborn.alive()) == ([], [])


@pytest.mark.parametrize("body", [FAMILY, DAEMON])
def test_helpers_and_daemons_go_too(
    run: Starter, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(processes, "_TERMINATE_TIMEOUT", 0.3)
    monkeypatch.setattr(processes, "_LINGER", 0.3)
    family = run("w-family", body)
    assert len(family.alive()) == 2
    ended = processes.end([family.target()])["w-family"]
    assert (ended.left, family.alive()) == ((), [])


def test_what_is_born_while_ending_goes_too(run: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_TERMINATE_TIMEOUT", 0.3)
    hydra = run("w-hydra", HYDRA)
    ended = processes.end([hydra.target(grace=0.3)])["w-hydra"]
    assert ended.left == ()
    marks = [p for p in psutil.process_iter() if census.mark(p.pid) == "w-hydra"]
    assert [p for p in marks if is_alive(p)] == []


def test_kill_at_once(run: Starter) -> None:
    daemon = run("w-now", DAEMON)
    start = time.monotonic()
    ended = processes.end([daemon.target(Signals.SIGKILL)])["w-now"]
    assert (ended.signal, daemon.alive()) == (Signals.SIGKILL, [])
    assert time.monotonic() - start < 5


def test_trainer_whose_worker_was_killed_is_still_found(run: Starter) -> None:
    orphan = run("w-orphan", FAMILY)
    orphan.worker.kill()
    orphan.worker.wait()
    ended = processes.end([Target("w-orphan", None)])["w-orphan"]
    assert (ended.processes, ended.left, orphan.alive()) == (2, (), [])


def test_strangers_are_left_alone(run: Starter) -> None:
    mine, other = run("w-mine", FAMILY), run("w-other", FAMILY)
    decoy_argv = [sys.executable, "-c", "import time; time.sleep(1000)", "w-mine"]
    decoy = subprocess.Popen(decoy_argv)
    try:
        processes.end([mine.target()])
        assert mine.alive() == []
        assert len(other.alive()) == 2
        assert decoy.poll() is None
    finally:
        decoy.kill()
        decoy.wait()


def test_a_reused_pid_is_not_the_worker(run: Starter) -> None:
    """The window's pid now belongs to somebody who does not name the worker: not ours to signal."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        ended = processes.end([Target("w-gone", stranger.pid)])["w-gone"]
        assert (ended.signal, ended.processes) == (None, 0)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_many_at_once_take_no_longer_than_one(run: Starter) -> None:
    slow = "signal.signal(2, lambda *_: (time.sleep(0.5), os._exit(0))); ready(); time.sleep(1000)"
    workers = [run(f"w-{i}", slow) for i in range(6)]
    start = time.monotonic()
    ended = processes.end([worker.target() for worker in workers])
    assert time.monotonic() - start < 6 * 0.5
    assert {e.signal for e in ended.values()} == {Signals.SIGINT}


def test_trainer_pids_and_ours(run: Starter) -> None:
    family = run("w-pids", FAMILY)
    assert processes.trainer_pids({"w-pids": family.worker.pid}) == {"w-pids": family.pids[0]}
    assert processes.ours([*family.pids, os.getpid()]) == frozenset(family.pids)
    assert MARK == "TMUXEVOLVE_WORKER"
