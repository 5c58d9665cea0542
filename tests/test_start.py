"""start, status, attach and stop as a user runs them: real command line, real tmux, CPU slots."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support import Box, box_processes, poll

import tmuxevolve

pytestmark = pytest.mark.either

SAY_ENV = (
    "import json, os, sys, time; p = sys.argv[1] + os.environ['TMUXEVOLVE_WORKER'][:4];"
    "open(p + '.t', 'w').write(json.dumps([dict(os.environ), os.getcwd(), os.isatty(2),"
    " sys.argv[2:]])); os.rename(p + '.t', p); time.sleep(1000)"
)


def said(box: Box, name: str = "cpu0") -> tuple[dict[str, str], str, bool, list[str]]:
    path = Path(f"{box.root}/said-{name}")
    poll(path.exists)
    env, cwd, tty, argv = json.loads(path.read_text())
    return env, cwd, tty, argv


def say(box: Box, *words: str) -> list[str]:
    return [sys.executable, "-c", SAY_ENV, f"{box.root}/said-", *words]


def test_start_status_attach_stop(box: Box) -> None:
    box.session()
    started = box.cli("start")
    assert started.returncode == 0, started
    assert "cpu0" in started.stdout
    assert "attach cpu0" in started.stdout
    windows = box.status()
    assert [w["state"] for w in windows.values()] == ["running", "running"]
    for window in windows.values():
        assert psutil.Process(window["pid"]).name() == "sleep"
    assert box.hands.windows() == [(0, "cpu0"), (1, "cpu1")]
    stopped = box.cli("stop")
    assert stopped.returncode == 0
    assert "cpu1 ended by SIGINT (3 processes)" in stopped.stdout
    assert box_processes(box) == []
    assert box.cli("status").stdout == "no session is running\n"
    assert box.cli("stop").stdout == "nothing is running\n"
    assert box.cli("stop").returncode == 0


def test_trainer_gets_the_callers_environment_and_the_windows_terminal(box: Box) -> None:
    # The multiplexer's server is older than the caller's environment.
    box.session()
    box.cli("start")
    box.hands.new_window(7, "sleep", "1000")
    box.cli("stop")
    box.session(command=say(box, "a b", "$HOME", "x;"), env={"SECRET": "s3cret;", "N": 1})
    caller = {"CONDA_PREFIX": "/opt/conda", "PATH": f"/added:{box.env['PATH']}", "TERM": "vt52"}
    assert box.cli("start", env=caller).returncode == 0
    env, cwd, tty, argv = said(box)
    assert env["CONDA_PREFIX"] == "/opt/conda"
    assert env["PATH"].startswith("/added:")
    assert (env["SECRET"], env["N"]) == ("s3cret;", "1")
    assert env["CUDA_VISIBLE_DEVICES"] == "-1"
    assert env["TERM"] != "vt52"
    assert {"tmux": "TMUX_PANE", "screen": "STY"}[box.multiplexer] in env
    assert (cwd, tty, argv) == (str(box.root), True, ["a b", "$HOME", "x;"])


def test_secrets_are_on_no_argv_and_in_no_option(box: Box) -> None:
    box.session(env={"TOKEN": "s3cret-value"})
    box.cli("start", env={"CALLERS_TOKEN": "s3cret-value"})
    shown = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert not [line for line in shown if "s3cret-value" in line]
    if box.multiplexer == "tmux":
        for scope in ("-g", "-s", "-w", "-p"):
            assert "s3cret" not in box.tmux("show-options", scope, "-t", "=demo:0")
        assert "s3cret" not in box.tmux("show-environment", "-t", "=demo")
    assert "s3cret" not in box.cli("status", "--json").stdout


def test_start_again_fills_ended_windows_and_leaves_the_rest_alone(box: Box) -> None:
    box.session()
    box.cli("start")
    before = box.status()
    assert "already running, left alone: cpu0, cpu1" in box.cli("start").stdout
    os.kill(before["cpu1"]["pid"], signal.SIGTERM)
    poll(lambda: box.status()["cpu1"]["state"] == "failed")
    again = box.cli("start")
    assert again.returncode == 0
    assert "already running, left alone: cpu0\n" in again.stdout
    after = box.status()
    assert after["cpu0"]["pid"] == before["cpu0"]["pid"]
    assert after["cpu1"]["state"] == "running"
    assert after["cpu1"]["pid"] != before["cpu1"]["pid"]


@pytest.mark.parametrize(
    ("script", "state", "status"),
    [("exit 0", "finished", 0), ("exit 3", "failed", 3), ("kill -9 $$", "failed", 137)],
)
def test_the_end_of_a_trainer_stays_visible(box: Box, script: str, state: str, status: int) -> None:
    box.session(command=["sh", "-c", f"echo 'last line'; {script}"], cpu_slots=1)
    box.cli("start")
    window = poll(lambda: (w := box.status()["cpu0"])["state"] == state and w)
    assert window["exit_status"] == status
    assert window["progress"] == "last line"
    assert "was over already" in box.cli("stop").stdout


def test_a_program_that_does_not_exist(box: Box) -> None:
    box.session(command=["no-such-program"])
    done = box.cli("start")
    assert done.returncode == 1
    assert "cannot run 'no-such-program': No such file or directory" in done.stdout
    window = box.status()["cpu0"]
    assert (window["state"], window["exit_status"]) == ("failed", 127)
    assert "cannot run" in window["reason"]
    assert "\ncpu0: cannot run 'no-such-program': No such file" in box.cli("status").stdout


def test_stagger_delays_the_second_window(box: Box) -> None:
    box.session(stagger="500s")
    started = {w["window"]: w for w in box.json("start")["windows"]}
    assert started["cpu0"]["state"] == "running"
    assert started["cpu1"]["state"] == "waiting"
    assert box.status()["cpu1"]["state"] == "waiting"
    stopped = {w["window"]: w for w in box.json("stop")}
    # The keeper and the worker; a third when a tmux is just being told something.
    assert stopped["cpu1"]["processes"] in {2, 3}
    assert box_processes(box) == []


def test_dry_run_runs_nothing_and_can_be_pasted(box: Box) -> None:
    box.session(command=["echo", "it's", "$HOME"], env={"A": "x y"}, cpu_slots=1)
    text = box.cli("start", "--dry-run").stdout
    assert not (box.root / "results").exists()
    assert box.cli("status").stdout == "no session is running\n"
    line = next(line for line in text.splitlines() if line.startswith("cd "))
    assert "CUDA_VISIBLE_DEVICES=-1" in line
    assert "'A=x y'" in line or "A='x y'" in line
    assert subprocess.check_output(["sh", "-c", line], text=True) == "it's $HOME\n"


def test_killing_a_window_by_hand_ends_its_trainer(box: Box) -> None:
    box.session()
    box.cli("start")
    pid = box.status()["cpu1"]["pid"]
    box.hands.close_window(1)
    poll(lambda: sorted(box.status()) == ["cpu0"])
    poll(lambda: not psutil.pid_exists(pid))


def test_killing_the_server_ends_the_trainers(box: Box) -> None:
    box.session()
    box.cli("start")
    box.hands.quit()
    poll(lambda: not box_processes(box))


def test_what_the_user_added_to_the_session_stays(box: Box) -> None:
    box.session()
    box.cli("start")
    box.hands.new_window(7, "sleep", "777")
    box.cli("stop")
    poll(lambda: [number for number, _ in box.hands.windows()] == [7])
    # and the session that is left can be started into again
    assert box.cli("start").returncode == 0
    assert sorted(box.status()) == ["cpu0", "cpu1"]


def test_stop_one_window(box: Box) -> None:
    box.session()
    box.cli("start")
    assert box.cli("stop", "1").returncode == 0
    assert sorted(box.status()) == ["cpu0"]
    missing = box.cli("stop", "1")
    assert missing.returncode == 4
    assert missing.stderr == "tmuxevolve: GPU 1 has no window; running: demo: cpu0\n"


def test_several_sessions_are_never_mixed_up(box: Box) -> None:
    native = {"evolve": {"mode": "native"}}
    entry = {"trainer": "command", "cpu_slots": 1, "gpus": {"use": "none"}, **native}
    sessions = {
        name: {**entry, "command": ["sleep", "1000"], "results": name} for name in ("one", "two")
    }
    box.write(json.dumps({"sessions": sessions}))
    nameless = box.cli("start")
    assert nameless.returncode == 2
    assert "one, two" in nameless.stderr
    for name in sessions:
        assert box.cli("start", name).returncode == 0
    ambiguous = box.cli("stop")
    assert ambiguous.returncode == 2
    assert "several sessions are running: one, two; name one with -s, or --all" in ambiguous.stderr
    assert "several sessions" in box.cli("attach").stderr
    assert box.cli("stop", "-s", "one").returncode == 0
    assert box.cli("status", "one").returncode == 4
    assert box.cli("status", "two").returncode == 0
    assert box.cli("stop", "--all").returncode == 0


def test_a_session_of_that_name_that_is_not_ours(box: Box) -> None:
    box.hands.new_session("demo", "sleep", "1000")
    box.session()
    done = box.cli("start")
    assert done.returncode == 2
    assert "was not started by tmuxevolve" in done.stderr
    assert [number for number, _ in box.hands.windows()] == [0]


@pytest.mark.tmux_only  # screen has no servers to name
def test_another_server_by_socket_name(box: Box) -> None:
    box.session()
    assert box.cli("start", "--socket-name", "mine").returncode == 0
    assert box.cli("status").stdout == "no session is running\n"
    assert "cpu0" in box.cli("status", "-L", "mine").stdout
    assert "cpu0" in box.cli("status", env={"TMUXEVOLVE_SOCKET_NAME": "mine"}).stdout
    assert box.cli("stop", "-L", "mine").returncode == 0


def test_attach_needs_something_running_and_a_terminal(box: Box) -> None:
    done = box.cli("attach")
    assert (done.returncode, done.stderr) == (4, "tmuxevolve: no session is running\n")
    box.session()
    box.cli("start")
    done = box.cli("attach", "5")
    assert (done.returncode, done.stderr) == (
        4,
        "tmuxevolve: GPU 5 has no window; running: demo: cpu0 cpu1\n",
    )
    assert "needs a terminal" in box.cli("attach", "1").stderr


def test_results_directory_that_cannot_be_made(box: Box) -> None:
    (box.root / "file").write_text("")
    box.session(results=str(box.root / "file" / "results"))
    done = box.cli("start")
    assert done.returncode == 2
    assert "sessions.demo.results" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.tmux_only  # test_screen.py has its counterpart
def test_tmux_is_missing(box: Box, tmp_path: Path) -> None:
    box.session()
    empty = tmp_path / "empty"
    empty.mkdir()
    for command in ("start", "status", "stop", "attach"):
        done = box.cli(command, env={"PATH": str(empty)})
        assert (done.returncode, done.stderr) == (
            5,
            "tmuxevolve: tmux is not on the PATH: install it, e.g. apt install tmux\n",
        )


@pytest.mark.tmux_only  # a window of screen cannot be given another process
def test_an_interrupted_start_leaves_a_window_that_says_so(box: Box) -> None:
    """kill -9 of start between opening windows and handing out orders: run it again."""
    box.session(cpu_slots=1)
    entry = Path(tmuxevolve.__file__).with_name("worker_entry.py")
    box.cli("start")
    window = box.status()["cpu0"]
    os.kill(window["pid"], signal.SIGTERM)
    poll(lambda: box.status()["cpu0"]["state"] == "failed")
    argv = [sys.executable, "-I", str(entry), "tmuxevolve.start/nobody", "cpu0-x"]
    box.tmux("respawn-pane", "-k", "-t", "=demo:0", *argv)
    poll(lambda: "run it again" in box.tmux("capture-pane", "-pS", "-", "-t", "=demo:0"))
    assert box.cli("start").returncode == 0
    assert box.status()["cpu0"]["state"] == "running"


def test_two_starts_of_one_session_at_once_open_each_window_once(box: Box) -> None:
    box.session(cpu_slots=4)
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda _: box.cli("start"), range(6)))
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 6
    windows = box.status()
    assert [w["state"] for w in windows.values()] == ["running"] * 4
    assert len(box.hands.windows()) == 4


@pytest.mark.tmux_only  # screen takes another number
def test_a_window_of_the_users_at_that_index(box: Box) -> None:
    box.session()
    box.cli("start")
    box.cli("stop", "1")
    box.tmux("new-window", "-d", "-t", "=demo:1", "sleep", "1000")
    done = box.cli("start")
    assert done.returncode == 1
    assert "cpu1    cpu1  -    failed: its window index is in use by another window" in done.stdout
    assert sorted(box.status()) == ["cpu0"]


def test_start_right_after_stop(box: Box) -> None:
    """The server of the last session may still be about to exit."""
    box.session(cpu_slots=1)
    for _ in range(5):
        started = box.cli("start")
        assert started.returncode == 0, started
        assert box.cli("stop", "--now").returncode == 0
