"""Sharing a machine: GPUs left free, waiting for one, taking those that become free, nights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from nvml_stub import NvmlStub
from support import Box, Viewer, box_processes, poll

from tmuxevolve import configfile
from tmuxevolve.multiplexer import State
from tmuxevolve.multiplexer.tmux import Tmux
from tmuxevolve.session.follow import Follower
from tmuxevolve.session.restart import restart

NIGHT = datetime(2026, 11, 25, 23)
DAY = datetime(2026, 11, 26, 12)
# Trains until there is a file, and says how good it was.
TRAINER = """
import pathlib, sys, time
go, result = map(pathlib.Path, sys.argv[1:3])
while not go.exists():
    time.sleep(0.02)
result.write_text('{"fitness": 1}')
"""


def gpu_session(box: Box, gpus: dict[str, Any], **keys: Any) -> None:
    box.session(**{"cpu_slots": 0, "gpus": {"use": "free", **gpus}, **keys})


def use(stub: NvmlStub, busy: int, free: int = 0) -> None:
    """Make a machine of which the first GPUs are in use."""
    used = "total=81920 used=20480"
    stub.write(
        [
            f"gpu uuid={uuid} {used if number < busy else ''}"
            for number, uuid in enumerate(stub.uuids[: busy + free])
        ]
    )


@pytest.mark.parametrize(("busy", "left", "opened"), [(0, 2, 6), (3, 2, 3), (7, 1, 0), (0, 9, 0)])
def test_gpus_are_left_free(box: Box, stub: NvmlStub, busy: int, left: int, opened: int) -> None:
    use(stub, busy, 8 - busy)
    gpu_session(box, {"leave_free": left})
    result = box.json("start", "--dry-run") if opened else []
    assert len(result) == opened
    if not opened:
        done = box.cli("start")
        assert done.returncode == 3
        assert "7: left free for others (to use it: gpus.leave_free: 0)" in done.stdout


def test_a_free_gpu_that_the_session_may_not_use_counts_as_left_free(
    box: Box, stub: NvmlStub
) -> None:
    use(stub, 0, 3)
    gpu_session(box, {"use": [0, 1], "leave_free": 1})
    assert len(box.json("start", "--dry-run")) == 2


def test_a_second_worker_takes_no_free_gpu(box: Box, stub: NvmlStub) -> None:
    use(stub, 0, 2)
    gpu_session(box, {"per_gpu": 2, "leave_free": 1})
    assert [run["window"] for run in box.json("start", "--dry-run")] == ["gpu0", "gpu0-w1"]


def test_start_waits_until_a_gpu_is_free(box: Box, stub: NvmlStub) -> None:
    use(stub, 2)
    gpu_session(box, {})
    argv = [sys.executable, "-m", "tmuxevolve", "start", "--wait"]
    waiting = subprocess.Popen(
        argv, env=box.env, cwd=box.root, text=True, stdout=-1, stderr=subprocess.PIPE
    )
    assert waiting.stderr
    assert "waiting until something is free" in waiting.stderr.readline()
    assert "not used: 0: " in waiting.stderr.readline()
    use(stub, 1, 1)
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert "gpu1" in out
    assert list(box.status()) == ["gpu1"]


def test_waiting_ends_with_ctrl_c(box: Box, stub: NvmlStub) -> None:
    use(stub, 1)
    gpu_session(box, {})
    viewer = Viewer(box)
    viewer.run(f"{sys.executable} -m tmuxevolve start --wait; echo status $?")
    poll(lambda: "waiting until" in viewer.screen())
    viewer.type("C-c")
    poll(lambda: "status 130" in viewer.screen())


def test_a_followed_session_takes_gpus_as_they_become_free(box: Box, stub: NvmlStub) -> None:
    use(stub, 2)
    gpu_session(box, {})
    box.env["TOKEN"] = "of-the-caller's"
    done = box.cli("start", "--follow")
    del box.env["TOKEN"]
    assert done.returncode == 0
    assert "watch" in done.stdout
    assert "attach watch" in done.stdout
    (session,) = box.json("status")
    assert session["windows"] == []
    assert [s["window"] for s in session["services"]] == ["watch"]
    poll(lambda: "watch: " in (text := box.cli("status").stdout) and "waiting for a free" in text)
    use(stub, 1, 1)
    poll(lambda: box.status().get("gpu1", {}).get("state") == "running")
    trainer = psutil.Process(box.status()["gpu1"]["pid"])
    assert trainer.environ()["TOKEN"] == "of-the-caller's"
    assert trainer.environ()["CUDA_VISIBLE_DEVICES"] == "1"
    assert box.cli("stop", "--json").returncode == 0
    assert box.json("status") == []
    poll(lambda: not box_processes(box))


def test_a_new_start_begins_the_watch_anew_and_leaves_one_window(box: Box) -> None:
    box.session(gpus={"use": "none", "watch": True})
    box.cli("start")
    first = box.tmux("list-windows", "-F", "#{window_name} #{pane_pid}", "-t", "=demo:")
    box.cli("start")
    second = box.tmux("list-windows", "-F", "#{window_name} #{pane_pid}", "-t", "=demo:")
    before, after = (dict(line.split() for line in t.splitlines()) for t in (first, second))
    assert before.keys() == after.keys() == {"cpu0", "cpu1", "watch"}
    assert before["cpu0"] == after["cpu0"]
    assert before["watch"] != after["watch"]


def test_a_watch_ends_with_the_budget(box: Box) -> None:
    evolution(box, gpus={"use": "none", "watch": True}).touch()
    box.cli("start")

    def ended() -> dict[str, Any]:
        (session,) = box.json("status")
        (watch,) = session["services"]
        return watch if watch["state"] != "running" else {}

    watch = poll(ended)
    assert watch["state"] == "finished"
    assert watch["line"].endswith("the budget is spent")


def test_a_killed_watch_is_seen_and_opened_again(box: Box) -> None:
    box.session(gpus={"use": "none", "watch": True})
    box.cli("start")
    os.kill(box.keeper("watch").pid, signal.SIGKILL)
    poll(lambda: box.json("status")[0]["services"][0]["state"] in {"failed", "gone"})
    assert box.cli("start").returncode == 0
    assert box.json("status")[0]["services"][0]["state"] == "running"


class Look:
    """A follower in this process, and what it says."""

    def __init__(self, box: Box) -> None:
        self.said: list[str] = []
        self.now = NIGHT
        session = configfile.load(box.config).session(None, box.env)
        self.follower = Follower(session, Tmux(), box.env, self.said.append, now=lambda: self.now)

    def __call__(self) -> bool:
        return self.follower.look()

    def has_said(self, text: str) -> bool:
        return any(text in line for line in self.said)


def evolution(box: Box, generations: int = 3, **keys: Any) -> Path:
    """Write a cooperative session whose trainings wait for a file; return it."""
    (box.root / "trainer.py").write_text(TRAINER)
    go = box.root / "go"
    box.session(
        command=[
            sys.executable,
            str(box.root / "trainer.py"),
            str(go),
            "{output}/r.json",
            "{hyp.lr}",
        ],
        evolve={
            "generations": generations,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "fitness"},
        },
        **keys,
    )
    return go


def states(box: Box) -> dict[str, str]:
    return {name: window["state"] for name, window in box.status().items()}


def test_in_the_morning_generations_end_and_at_night_they_go_on(own_tmux: Box) -> None:
    go = evolution(own_tmux, schedule="22:00-07:00")
    look = Look(own_tmux)
    assert look()
    assert states(own_tmux) == {"cpu0": "running", "cpu1": "running"}
    look.now = DAY
    assert look()
    assert look.has_said("2 end after their generation, nothing starts before Thu 22:00")
    go.touch()
    poll(lambda: set(states(own_tmux).values()) == {"finished"})
    go.unlink()
    assert look()
    assert own_tmux.json("status")[0]["generations"] == 2
    look.now = NIGHT
    assert look()
    assert look.has_said("schedule: workers may run until Thu 07:00")
    assert sorted(states(own_tmux).values()) == ["finished", "running"]
    go.touch()
    poll(lambda: set(states(own_tmux).values()) == {"finished"})
    assert not look()
    assert look.said[-1] == "the budget is spent"


def test_by_day_start_opens_the_watch_alone(own_tmux: Box, monkeypatch: Any) -> None:
    closed = datetime.now().astimezone().hour
    after = f"{(closed + 12) % 24:02}:00-{(closed + 13) % 24:02}:00"
    evolution(own_tmux, schedule=after)
    done = own_tmux.cli("start")
    assert done.returncode == 0
    assert f"schedule {after}: nothing starts before" in done.stdout
    (session,) = own_tmux.json("status")
    assert session["windows"] == []
    assert [s["window"] for s in session["services"]] == ["watch"]


def test_what_a_person_has_stopped_stays_stopped(own_tmux: Box) -> None:
    evolution(own_tmux)
    look = Look(own_tmux)
    assert look()
    own_tmux.cli("stop", "cpu1")
    assert look()
    assert look()
    assert list(states(own_tmux)) == ["cpu0"]
    assert look.has_said("left alone, its window was closed: cpu1")


def test_what_is_left_alone_takes_no_share_of_the_budget(own_tmux: Box) -> None:
    evolution(own_tmux, 1)
    look = Look(own_tmux)
    look.follower._left.add("cpu0")
    assert look()
    assert list(states(own_tmux)) == ["cpu1"]


def test_a_failed_window_is_left_as_it_is(own_tmux: Box) -> None:
    own_tmux.session(command=["false"])
    look = Look(own_tmux)
    look()
    poll(lambda: set(states(own_tmux).values()) == {State.FAILED.value})
    pids = own_tmux.tmux("list-panes", "-a", "-F", "#{pane_pid}")
    assert not look()
    assert own_tmux.tmux("list-panes", "-a", "-F", "#{pane_pid}") == pids
    assert look.has_said("cpu0 has failed: left as it is")


def test_native_windows_run_once_each(own_tmux: Box) -> None:
    own_tmux.session(command=["true"])
    look = Look(own_tmux)
    look()
    poll(lambda: set(states(own_tmux).values()) == {"finished"})
    assert not look()
    assert look.said[-1] == "every window has come to its end"


def test_a_gpu_must_have_been_free_for_a_while(
    own_tmux: Box, stub: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_STATE", str(stub.state))
    use(stub, 0, 1)
    gpu_session(own_tmux, {"idle_for": "1h"})
    assert "0: free for 0s, 1h00m wanted" in own_tmux.cli("start", "--dry-run").stdout
    look, clock = Look(own_tmux), [0.0]
    look.follower._idle._clock = lambda: clock[0]
    look()
    clock[0] = 3599
    look()
    assert own_tmux.json("status") == []
    use(stub, 1)
    look()
    use(stub, 0, 1)
    clock[0] = 3601
    look()
    assert own_tmux.json("status") == []
    clock[0] = 7201
    look()
    assert list(own_tmux.status()) == ["gpu0"], look.said


def test_a_restart_takes_the_gpu_that_it_had(
    own_tmux: Box, stub: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_STATE", str(stub.state))
    use(stub, 0, 1)
    gpu_session(own_tmux, {})
    own_tmux.cli("start")
    gpu_session(own_tmux, {"leave_free": 1, "idle_for": "1h"})
    (window,) = Tmux().windows()
    assert restart(Tmux(), window, own_tmux.env) == "gpu0 running"


def test_a_driver_that_is_gone_for_a_while_ends_nothing(
    own_tmux: Box, stub: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_STATE", str(stub.state))
    gpu_session(own_tmux, {})
    stub.write(["driver init_error=9"])
    look = Look(own_tmux)
    assert look()
    assert look()
    assert len(look.said) == 1
    use(stub, 0, 1)
    assert look()
    assert list(own_tmux.status()) == ["gpu0"], look.said


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"schedule": "22-7"}, "sessions.demo.schedule: '22-7': expected a time"),
        ({"schedule": "22:00-07:00"}, "sessions.demo.schedule: a trainer's own evolution cannot"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(
    box: Box, keys: dict[str, Any], words: str
) -> None:
    box.session(**keys)
    done = box.cli("start")
    assert done.returncode == 2
    assert words in done.stderr


def test_an_overview_is_what_attach_shows_first(box: Box) -> None:
    box.session(overview=True)
    done = box.cli("start")
    assert done.returncode == 0, done
    (session,) = box.json("status")
    assert list(box.status()) == ["cpu0", "cpu1"]
    assert [service["window"] for service in session["services"]] == ["overview"]
    viewer = Viewer(box)
    viewer.run(f"{sys.executable} -m tmuxevolve attach")
    poll(lambda: "cpu1" in (screen := viewer.screen()) and "? help" in screen, what="top")
    box.cli("start")
    assert len(box.tmux("list-windows", "-t", "=demo").splitlines()) == 3
    assert box.cli("stop", "cpu0").returncode == 0
    assert "demo" in box.tmux("list-sessions")
    assert box.cli("stop", "cpu1").returncode == 0
    poll(lambda: not box_processes_but_viewers(box, viewer))


def box_processes_but_viewers(box: Box, viewer: Viewer) -> list[psutil.Process]:
    pid = int(box.tmux("display-message", "-p", "#{pid}", socket=viewer.socket))
    server = psutil.Process(pid)
    own = {server.pid, *(process.pid for process in server.children(recursive=True))}
    return [process for process in box_processes(box) if process.pid not in own]
