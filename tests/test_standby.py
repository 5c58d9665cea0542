"""The next trainer's process: it loads while the last one trains, and waits for its words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from support import Box, Viewer, box_processes, command_line, poll, trainer_session

from tmuxevolve import spawn, standby
from tmuxevolve.session import evolve as session_evolve
from tmuxevolve.spawn import Program
from tmuxevolve.standby import Standby
from tmuxevolve.study import history
from tmuxevolve.trainers import yolov5
from tmuxevolve.trainers.yolov5 import YoloV5

RUNNER = str(yolov5._RUNNER)
# Of v7.0's train.py what the runner needs; says when it was imported and when it trained.
TRAIN = """
import argparse, os, pathlib, sys, time
print("importing ONE", flush=True)
print("a warning", file=sys.stderr, flush=True)
ROOT = pathlib.Path(__file__).parent
# PyTorch has such modules.
import types
sys.modules["pseudo"] = types.ModuleType("pseudo"); sys.modules["pseudo"].__file__ = "_ops.py"
(ROOT / f"imported.{os.getpid()}").write_text(f"{time.time()} {sys.argv[1:]}")
def parse_opt():
    p = argparse.ArgumentParser()
    p.add_argument("--hyp"); p.add_argument("--project"); p.add_argument("--name")
    p.add_argument("--exist-ok", action="store_true"); p.add_argument("--evolve_population")
    p.add_argument("--seconds", type=float, default=0)
    return p.parse_args()
def train(hyp, opt, device=None, callbacks=None):
    begun = time.time()
    print("training ONE", sys.argv[1:], flush=True)
    time.sleep(opt.seconds)
    with (ROOT / "trained").open("a") as file: file.write(f"{os.getpid()} {begun} {time.time()}\\n")
    return (0.1, 0.2, 0.3, begun % 1000 / 1e4, 0.5, 0.6, 0.7)
def main(opt):
    train(opt.hyp, opt)
if __name__ == "__main__":
    main(parse_opt())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    past = time.time() - 100
    os.utime(tmp_path / "train.py", (past, past))
    return tmp_path


class Waiting:
    """A runner that has loaded, and our end of its pipe."""

    def __init__(self, checkout: Path) -> None:
        reading, self.pipe = os.pipe()
        argv = [sys.executable, RUNNER, "--loaded", str(reading), "train.py"]
        self.checkout = checkout
        self.process = subprocess.Popen(
            argv,
            cwd=checkout,
            pass_fds=[reading],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(reading)
        if (checkout / "train.py").read_text().startswith("\nimport argparse"):
            poll((checkout / f"imported.{self.process.pid}").exists)

    def go(self, *words: str) -> str:
        """Send a command; return all that was printed."""
        command = (sys.executable, RUNNER, "result.json", "train.py", *words)
        os.write(self.pipe, b"\0".join(map(os.fsencode, command)))
        return self.end()

    def end(self) -> str:
        os.close(self.pipe)
        return self.process.communicate(timeout=20)[0]


@contextmanager
def waiting(checkout: Path) -> Iterator[Waiting]:
    runner = Waiting(checkout)
    yield runner
    runner.process.kill()


def test_it_trains_what_it_is_told(checkout: Path) -> None:
    with waiting(checkout) as runner:
        printed = runner.go("--hyp", "a b", "--seconds", "0")
        assert runner.process.returncode == 0
    assert printed.splitlines() == [
        "importing ONE",
        "a warning",
        "training ONE ['--hyp', 'a b', '--seconds', '0']",
    ]
    assert json.loads((checkout / "result.json").read_text())["metrics"][0] == 0.1
    imported = (checkout / f"imported.{runner.process.pid}").read_text()
    assert imported.endswith(" []"), "once, before there were words"


def test_without_words_it_ends_and_says_nothing(checkout: Path) -> None:
    with waiting(checkout) as runner:
        assert runner.end() == ""
        assert runner.process.returncode == 0
    assert not (checkout / "result.json").exists()


def test_ctrl_c_ends_it_without_a_word(checkout: Path) -> None:
    with waiting(checkout) as runner:
        runner.process.send_signal(signal.SIGINT)
        assert runner.process.communicate(timeout=20)[0] == ""
        assert runner.process.returncode == -signal.SIGINT
        os.close(runner.pipe)


def test_ctrl_c_is_the_trainers_own_afterwards(checkout: Path) -> None:
    with waiting(checkout) as runner:
        command = (sys.executable, RUNNER, "r.json", "train.py", "--seconds", "100")
        os.write(runner.pipe, b"\0".join(map(os.fsencode, command)))
        os.close(runner.pipe)
        assert runner.process.stdout
        while "training" not in runner.process.stdout.readline():
            pass
        runner.process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in runner.process.communicate(timeout=20)[0]


def test_a_source_that_was_changed_meanwhile_is_loaded_again(checkout: Path) -> None:
    with waiting(checkout) as runner:
        (checkout / "train.py").write_text(TRAIN.replace("ONE", "TWO"))
        printed = runner.go()
    assert "training TWO" in printed
    assert "ONE" not in printed


def test_what_cannot_be_loaded_fails_as_it_does_without(checkout: Path) -> None:
    (checkout / "train.py").write_text("import no_such_module")
    with waiting(checkout) as runner:
        assert "No module named 'no_such_module'" in runner.go()
        assert runner.process.returncode == 1


def start(argv: tuple[str, ...], descriptor: int) -> spawn.Child:
    return spawn.spawn(Program(argv, "/", dict(os.environ), lambda: None, descriptor))


def test_a_process_gets_its_descriptor_and_no_other() -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    code = "import os, sys; print(*os.listdir('/proc/self/fd'), file=open(sys.argv[2], 'w'))"
    out = f"/tmp/fds.{os.getpid()}"
    holder = Standby(start)
    descriptors: list[int] = []

    def command(descriptor: int) -> tuple[str, ...]:
        descriptors.append(descriptor)
        return (sys.executable, "-c", code, str(descriptor), out)

    holder.load(command)
    child = holder._child
    assert child
    poll(lambda: child.poll() is not None)
    os.close(inherited)
    shown = {*Path(out).read_text().split()} - {"0", "1", "2"}
    Path(out).unlink()
    # One more is the folder being listed.
    assert str(descriptors[0]) in shown
    assert str(inherited) not in shown
    assert holder.take(("x",)) is None, "it has ended"


def test_nothing_waits_where_nothing_can() -> None:
    holder = Standby(start)
    holder.load(lambda descriptor: None)
    assert holder.take(("x",)) is None


def test_words_reach_the_process_that_waits(tmp_path: Path) -> None:
    holder = Standby(start)
    code = "import sys; open(sys.argv[2], 'wb').write(open(int(sys.argv[1]), 'rb').read())"
    out = tmp_path / "out"
    holder.load(lambda d: (sys.executable, "-c", code, str(d), str(out)))
    first = holder._child
    holder.load(lambda d: ("no-such-program",))
    child = holder.take(("a b", "\udcff", ""))
    assert child is first
    assert child
    poll(lambda: child.poll() is not None)
    assert out.read_bytes() == b"a b\0\xff\0"


def test_when_it_is_due() -> None:
    assert standby.due(0, None) == standby.LEAD
    assert standby.due(standby.LEAD + 1, None) == 0
    assert standby.due(10, 300) == 300 - standby.LEAD - 10
    assert standby.due(280, 300) == 0
    assert standby.due(0, 8) == 2, "a short training has three quarters of its time for that"
    assert standby.due(3, 8) == 0


def evolve(box: Box, seconds: float, generations: int, **evolve: object) -> Path:
    (box.root / "train.py").write_text(TRAIN)
    (box.root / "hyp.yaml").write_text("lr0: 0.01\nmomentum: 0.9\n")
    box.session(
        command=[sys.executable, "train.py", "--hyp", "hyp.yaml", "--seconds", str(seconds)],
        trainer="yolov5",
        cpu_slots=1,
        evolve={"generations": generations, "standby": True, **evolve},
    )
    return box.root / "results"


def trained(box: Box) -> list[tuple[int, float, float]]:
    path = box.root / "trained"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(a), float(b), float(c)) for a, b, c in map(str.split, lines)]


def imported(box: Box, pid: int) -> float:
    return float((box.root / f"imported.{pid}").read_text().split()[0])


def over(box: Box) -> bool:
    return box.status()["cpu0"]["exit_status"] is not None


def test_each_training_but_the_first_was_loaded_during_the_one_before(box: Box) -> None:
    results = evolve(box, 1.5, 4)
    box.cli("start")
    poll(lambda: over(box), 60)
    found = trained(box)
    assert len(found) == 4 == len({pid for pid, _, _ in found})
    # The first training's length is not known before it has ended.
    for before, (pid, begun, _) in list(pairwise(found))[1:]:
        assert before[1] < imported(box, pid) < before[2] <= begun
    assert len(history.read(results / "evolve.csv").generations) == 4
    poll(lambda: not loading(box))
    pids = {int(path.suffix[1:]) for path in box.root.glob("imported.*")}
    assert pids == {pid for pid, _, _ in found}, "nothing loads when nothing is left to train"
    log = (results / "generations" / "0003" / "train.log").read_text()
    assert log.index("importing ONE") < log.index("training ONE")
    assert log.count("importing ONE") == 1, "what loads does not write into another's output"


@pytest.mark.parametrize(
    ("said", "on_gpu", "expected"),
    [(None, True, True), (None, False, False), (False, True, False), (True, False, True)],
)
def test_gpus_have_it_unless_somebody_says_otherwise(
    checkout: Path, said: bool | None, on_gpu: bool, expected: bool
) -> None:
    (checkout / "hyp.yaml").write_text("lr0: 0.01\n")
    words = ("python", "train.py", "--hyp", "hyp.yaml")
    session = trainer_session(*words, workdir=checkout, results=checkout / "r", standby=said)
    job = session_evolve.job(session, YoloV5(), None, on_gpu=on_gpu)
    assert job.evolution
    assert job.evolution.standby is expected


def test_standby_can_be_switched_off(box: Box) -> None:
    evolve(box, 0.7, 3, standby=False)
    box.cli("start")
    poll(lambda: over(box), 60)
    found = trained(box)
    assert all(imported(box, b[0]) >= a[2] for a, b in pairwise(found))


def loading(box: Box) -> list[psutil.Process]:
    return [p for p in box_processes(box) if "--loaded" in command_line(p)]


def stands_by(box: Box) -> psutil.Process:
    """Wait until the second training is under way, and the third one's process waits."""
    evolve(box, 4, 20)
    box.cli("start")
    (process,) = poll(lambda: loading(box) if len(trained(box)) == 1 else [], 60)
    poll((box.root / f"imported.{process.pid}").exists)
    return process


def test_stop_ends_what_stands_by(box: Box) -> None:
    stands_by(box)
    done = box.cli("stop")
    assert (done.returncode, box_processes(box)) == (0, [])


def test_closing_the_window_ends_what_stands_by(box: Box) -> None:
    stands_by(box)
    box.tmux("kill-window", "-t", "=demo:0")
    poll(lambda: box_processes(box) == [])


def test_status_shows_what_trains(box: Box) -> None:
    process = stands_by(box)
    (trainer,) = (child for child in box.worker("cpu0").children() if child != process)
    # At its end what stands by takes its place: not while status looks.
    trainer.suspend()
    assert box.status()["cpu0"]["pid"] not in {process.pid, None}
    trainer.resume()


def test_what_stands_by_may_be_killed(box: Box) -> None:
    process = stands_by(box)
    process.kill()
    poll(lambda: len(trained(box)) == 3, 60)
    assert history.read(box.root / "results" / "evolve.csv").problem is None


def test_ctrl_c_ends_both_without_a_second_trace(box: Box) -> None:
    stands_by(box)
    viewer = Viewer(box)
    viewer.run(f"{sys.executable} -m tmuxevolve attach 0")
    viewer.see("training ONE")
    viewer.type("C-c")
    poll(lambda: over(box))
    viewer.see("ended by Ctrl-C")
    screen = box.tmux("capture-pane", "-pt", "=demo:0", "-S", "-")
    assert screen.count("KeyboardInterrupt") == 1
