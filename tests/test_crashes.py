"""Whatever is killed: no trainer lives on alone, no generation is lost, and it goes on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from nvml_stub import NvmlStub
from support import Box, box_processes, is_alive, poll

from tmuxevolve import claims
from tmuxevolve.study import history
from tmuxevolve.study.rows import Layout

LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))
# Waits in the middle of a generation for as long as "hold" is there.
TRAINER = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
lr, output, generation = sys.argv[1:]
root = pathlib.Path(__file__).parent
print("training", generation, flush=True)
(root / "begun").mkdir(exist_ok=True)
(root / "begun" / f"{generation}-{os.getpid()}").touch()
while (root / "hold").exists():
    time.sleep(0.02)
(pathlib.Path(output) / "r.json").write_text(json.dumps({"map": float(lr)}))
"""


@pytest.fixture
def study(box: Box) -> Any:
    """Return a function that writes a cooperative session whose trainings can be held."""

    def write(**keys: Any) -> None:
        (box.root / "trainer.py").write_text(TRAINER)
        trainer = (sys.executable, str(box.root / "trainer.py"))
        evolve = {
            "generations": 6,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "map"},
        }
        box.session(
            command=[*trainer, "{hyp.lr}", "{output}", "{generation}"],
            evolve=evolve,
            **{"restart": {"backoff": 0}, **keys},
        )

    return write


@pytest.fixture
def stub(box: Box) -> NvmlStub:
    """Give the box a free GPU of its own."""
    made = NvmlStub(box.root)
    box.env |= made.env
    made.uuids = [f"GPU-crash-{box.root.parent.name}-{box.root.name}"]
    made.write([f"gpu uuid={made.uuids[0]}"])
    return made


def hold(box: Box) -> None:
    (box.root / "hold").touch()


def release(box: Box) -> None:
    (box.root / "hold").unlink()


def begun(box: Box) -> int:
    return len(list((box.root / "begun").glob("*")))


def finished(box: Box) -> list[float]:
    """Wait for the budget's end; return the hyps of all generations."""
    poll(lambda: all(w["exit_status"] is not None for w in box.status().values()), 60)
    return rows(box)


def rows(box: Box) -> list[float]:
    found = history.read(box.root / "results" / "evolve.csv", LAYOUT)
    assert found.problem is None
    return [generation.hyp["lr"] for generation in found.generations]


def trainers(box: Box) -> list[psutil.Process]:
    return [process for process in box_processes(box) if is_trainer(process)]


def is_trainer(process: psutil.Process) -> bool:
    with suppress(psutil.Error, OSError):
        return "TMUXEVOLVE_WORKER" in process.environ()
    return False


def test_a_killed_worker_takes_its_trainer_along_and_is_followed_by_another(
    box: Box, study: Any
) -> None:
    study()
    hold(box)
    box.cli("start")
    poll(lambda: begun(box) == 2)
    trainer = psutil.Process(box.status()["cpu0"]["pid"])
    killed = box.worker("cpu0")
    killed.kill()
    poll(lambda: not is_alive(trainer), 5)
    again = poll(lambda: begun(box) == 3 and box.status()["cpu0"])
    assert again["state"] == "running"
    assert again["pid"] != trainer.pid
    assert box.worker("cpu0").pid != killed.pid
    release(box)
    assert len(set(finished(box))) == len(rows(box)) == 6


@pytest.mark.parametrize("mode", ["cooperative", "native"])
def test_never_means_that_a_killed_worker_stays_away(box: Box, study: Any, mode: str) -> None:
    study(restart={"on": "never"}, cpu_slots=1)
    if mode == "native":
        box.session(cpu_slots=1)
    hold(box)
    box.cli("start")
    poll(lambda: box.status()["cpu0"]["pid"])
    box.worker("cpu0").kill()
    ended = poll(lambda: (w := box.status()["cpu0"])["exit_status"] and w)
    assert (ended["state"], ended["reason"]) == ("failed", "the worker was ended by SIGKILL")
    poll(lambda: trainers(box) == [])


def test_a_worker_that_is_killed_again_and_again_is_given_up(box: Box) -> None:
    box.session(cpu_slots=1, restart={"backoff": 0, "max_consecutive_failures": 3})
    box.cli("start")
    killed: set[int] = set()
    while len(killed) < 3:
        poll(lambda: box.status()["cpu0"]["pid"])
        worker = box.worker("cpu0")
        killed.add(worker.pid)
        worker.kill()
        poll(lambda worker=worker: not is_alive(worker))  # type: ignore[misc]
    assert poll(lambda: box.status()["cpu0"]["exit_status"]) == 1


@pytest.mark.parametrize("who", ["keeper", "both"])
def test_a_killed_keeper_leaves_nothing_behind(box: Box, study: Any, who: str) -> None:
    study(cpu_slots=1)
    hold(box)
    box.cli("start")
    poll(lambda: begun(box) == 1)
    keeper, worker = box.keeper("cpu0"), box.worker("cpu0")
    trainer = psutil.Process(box.status()["cpu0"]["pid"])
    keeper.kill()
    if who == "both":
        worker.kill()
    poll(lambda: not is_alive(trainer) and not is_alive(worker), 10)
    release(box)
    assert box.cli("start").returncode == 0
    assert len(set(finished(box))) == len(rows(box)) == 6


def test_a_killed_tmux_server_leaves_no_orphan_and_start_continues(
    box: Box, study: Any, stub: NvmlStub
) -> None:
    study(gpus={"use": "free"}, cpu_slots=0)
    box.cli("start")
    poll(lambda: len(rows(box)) >= 1)
    hold(box)
    server = int(box.tmux("display-message", "-p", "#{pid}"))
    psutil.Process(server).kill()
    poll(lambda: trainers(box) == [], 10)
    poll(lambda: stub.uuids[0] not in claims.held(), 10)
    before = rows(box)
    release(box)
    assert box.cli("start").returncode == 0
    after = finished(box)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) == 6


FAILS = "import os, sys; open(sys.argv[1], 'a').write('x'); sys.exit(int(sys.argv[2]))"


def runs(box: Box) -> int:
    path = box.root / "runs"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize(
    ("restart", "status", "times"),
    [
        ({"on": "never"}, 3, 1),
        ({"attempts": 2, "backoff": 0}, 3, 3),
        ({"attempts": 9, "backoff": 0, "max_consecutive_failures": 4}, 3, 4),
        ({"attempts": 9, "backoff": 0}, 0, 1),
    ],
)
def test_a_failed_trainer_runs_again_in_native_mode(
    box: Box, restart: dict[str, Any], status: int, times: int
) -> None:
    command = [sys.executable, "-c", FAILS, str(box.root / "runs"), str(status)]
    box.session(command=command, restart=restart, cpu_slots=1)
    box.cli("start")
    assert poll(lambda: box.status()["cpu0"]["exit_status"]) == status if status else True
    poll(lambda: box.status()["cpu0"]["exit_status"] is not None)
    assert runs(box) == times


def test_always_runs_it_again_and_stop_ends_that(box: Box) -> None:
    command = [sys.executable, "-c", FAILS, str(box.root / "runs"), "0"]
    box.session(command=command, restart={"on": "always", "backoff": 0}, cpu_slots=1)
    box.cli("start")
    poll(lambda: runs(box) >= 4)
    assert box.cli("stop").returncode == 0
    assert box_processes(box) == []


def test_a_trainer_stopped_in_native_mode_is_not_run_again(box: Box) -> None:
    code = "import signal, sys; open(sys.argv[1], 'a').write('x'); signal.pause()"
    command = [sys.executable, "-c", code, str(box.root / "runs")]
    box.session(command=command, restart={"attempts": 9, "backoff": 0}, cpu_slots=1)
    box.cli("start")
    poll(lambda: runs(box) == 1)
    assert box.cli("stop").returncode == 0
    assert runs(box) == 1
    assert box_processes(box) == []


def test_the_gpu_must_be_free_again_before_another_run(box: Box, stub: NvmlStub) -> None:
    # The trainer leaves the GPU's memory in use, as a driver that is slow to clean up does.
    code = (
        "import pathlib, sys; runs, state, uuid = sys.argv[1:]; open(runs, 'a').write('x');"
        "pathlib.Path(state).write_text(f'gpu uuid={uuid} used=9000\\n'); sys.exit(3)"
    )
    paths = [str(box.root / "runs"), str(stub.state), stub.uuids[0]]
    box.session(
        command=[sys.executable, "-c", code, *paths],
        gpus={"use": "free"},
        restart={"attempts": 1, "backoff": 0},
    )
    box.cli("start")
    poll(lambda: "runs again" in box.tmux("capture-pane", "-pt", "=demo:0"))
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert runs(box) == 1
        time.sleep(0.05)
    stub.write([f"gpu uuid={stub.uuids[0]}"])
    poll(lambda: runs(box) == 2)


def test_what_a_killed_worker_has_left_is_ended_even_without_an_environment(box: Box) -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "daemon = subprocess.Popen(['/bin/sleep', '1000'], env={}, start_new_session=True)\n"
        "open(sys.argv[1] + '.t', 'w').write(str(daemon.pid))\n"
        "os.rename(sys.argv[1] + '.t', sys.argv[1]); time.sleep(1000)"
    )
    pid_file = box.root / "daemon"
    box.session(command=[sys.executable, "-c", code, str(pid_file)], cpu_slots=1)
    box.cli("start")
    daemon = psutil.Process(int(poll(lambda: pid_file.exists() and pid_file.read_text())))
    box.worker("cpu0").kill()
    poll(lambda: not is_alive(daemon), 10)


def test_start_ends_what_a_killed_window_has_left(box: Box) -> None:
    """A shell between the worker and the training: the kernel ends the shell alone."""
    pid_file = box.root / "pid"
    code = (
        "import os, signal, sys, time; signal.signal(1, signal.SIG_IGN); pid = sys.argv[1];"
        "open(pid + '.t', 'w').write(str(os.getpid())); os.rename(pid + '.t', pid);"
        "time.sleep(1000)"
    )
    words = [sys.executable, "-c", code, str(pid_file)]
    box.session(command=["sh", "-c", '"$@"; true', "sh", *words], cpu_slots=1)
    box.cli("start")
    first = psutil.Process(int(poll(lambda: pid_file.exists() and pid_file.read_text())))
    pid_file.unlink()
    keeper, worker = box.keeper("cpu0"), box.worker("cpu0")
    keeper.kill()
    worker.kill()
    poll(lambda: not is_alive(keeper) and not is_alive(worker))
    box.cli("start", "--dry-run")
    assert is_alive(first)
    assert box.cli("start").returncode == 0
    assert not is_alive(first)
    assert int(poll(lambda: pid_file.exists() and pid_file.read_text())) != first.pid
    assert len(trainers(box)) == 2


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_a_killed_command_is_completed_by_running_it_again(
    box: Box, stub: NvmlStub, verb: str
) -> None:
    """At twelve moments, spread over what the command takes."""
    box.session(command=["sleep", "1000"], gpus={"use": "free"}, cpu_slots=0)
    rng = random.Random(f"killed {verb}")
    for _ in range(12):
        if verb == "stop":
            assert box.cli("start").returncode == 0
        argv = [sys.executable, "-m", "tmuxevolve", verb]
        command = subprocess.Popen(
            argv, env=box.env, cwd=box.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.05, 0.8))
        command.send_signal(signal.SIGKILL)
        command.wait()
        again = poll(lambda: (d := box.cli(verb)).returncode == 0 and d, 20)
        assert again.returncode == 0
        if verb == "start":
            assert len(trainers(box)) == 1
            assert len(claims.held()[stub.uuids[0]]) == 1
            assert box.cli("stop").returncode == 0
        poll(lambda: box_processes(box) == [])
        assert stub.uuids[0] not in claims.held()


def test_a_damaged_table_is_mended_at_start_and_the_original_kept(box: Box, study: Any) -> None:
    study()
    box.cli("start")
    finished(box)
    table = box.root / "results" / "evolve.csv"
    whole = table.read_bytes()
    header = whole.splitlines(keepends=True)[0]
    table.write_bytes(header + whole)
    done = box.cli("start", "--generations", "8")
    assert "note: evolve.csv was damaged: 6 rows kept, the original is evolve.csv.damaged" in (
        done.stdout
    )
    assert Path(f"{table}.damaged").read_bytes() == header + whole
    assert len(set(finished(box))) == len(rows(box)) == 8
    assert json.loads(box.cli("status", "--json").stdout)[0]["problem"] is None
