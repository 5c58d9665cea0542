"""Real YOLOv5 v7.0 on the CPU, from start to stop. `make test-yolov5` installs it.

TMUXEVOLVE_TEST_CHECKOUT=FOLDER runs a checkout's train.py in place of the PyPI package's module
(the same trainer, but the package's --evolve fails with more than one epoch: map50s is not set).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Box, Viewer, box_processes, poll
from yolo_settings import offline

from tmuxevolve.study import history

HERE = Path(__file__).parent
pytestmark = [pytest.mark.yolov5, pytest.mark.timeout(900)]
MINUTES = 60


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter with YOLOv5 in it."""
    folder = os.environ.get("TMUXEVOLVE_TEST_YOLOV5")
    if not folder:
        pytest.skip("make test-yolov5 installs YOLOv5 and says where it is")
    return Path(folder) / "bin" / "python"


@pytest.fixture(scope="module")
def trainer(python: Path) -> str:
    """Return the start of the command: the checkout's script, or the package's module."""
    checkout = os.environ.get("TMUXEVOLVE_TEST_CHECKOUT")
    return f"{python} {checkout}/train.py" if checkout else f"{python} -m yolov5.train"


@pytest.fixture
def yolo(box: Box, python: Path, trainer: str) -> Iterator[Any]:
    """Return a function that writes a session of real YOLOv5 with two CPU slots."""
    env = offline(box, python.parents[1])

    def write(images: int, generations: int) -> None:
        data = box.root / "dataset"
        subprocess.run([python, HERE / "tiny_dataset.py", data, str(images)], check=True)
        command = (
            f"{trainer} --weights '' --cfg yolov5n.yaml --data {data}/data.yaml --imgsz 64"
            " --epochs 1 --batch-size 4 --workers 2 --noautoanchor"
        )
        box.session(
            "yolo",
            command=command,
            trainer=None,
            results=str(box.root / "runs" / "search"),
            evolve={"mode": "native", "generations": generations},
            env=env,
            gpus={"use": "free"},
        )

    yield write
    keep = os.environ.get("TMUXEVOLVE_KEEP_SCREENS")
    if keep and (box.root / "screens").exists():
        shutil.copytree(box.root / "screens", keep, dirs_exist_ok=True)


def test_two_workers_to_the_end_of_their_evolution(box: Box, yolo: Any) -> None:
    yolo(images=8, generations=2)
    started = box.cli("start")
    assert started.returncode == 0, started
    assert "using 2 CPU slots" in started.stdout
    windows = poll(
        lambda: (w := box.status()) and all(i["exit_status"] is not None for i in w.values()) and w,
        timeout=5 * MINUTES,
    )
    print(box.tmux("capture-pane", "-pt", "=yolo:0"))
    assert [w["exit_status"] for w in windows.values()] == [0, 0]
    folder = box.root / "runs" / "search"
    lines = (folder / "evolve.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2
    assert lines[0].split(",")[0].strip() == "metrics/precision"
    assert not (box.root / "runs" / "search2").exists()
    found = history.read(folder / "evolve.csv")
    assert len(found.generations) == 4
    (session,) = box.json("status")
    assert session["generations"] == 4
    assert session["trainer"] == "yolov5"
    assert session["best_fitness"] == pytest.approx(max(g.fitness for g in found.generations))
    print(box.cli("status").stdout)
    box.cli("stop")


def test_attach_shows_the_bar_and_stop_ends_it_in_the_middle(box: Box, yolo: Any) -> None:
    yolo(images=1000, generations=5)
    viewer = Viewer(box)
    viewer.run("tmuxevolve start")
    viewer.see(r"^cpu1 .*waiting")
    viewer.keep("start.txt")
    viewer.run("tmuxevolve attach 0")
    viewer.see(r"^\s+0/0 .* [1-9]\d*%\|.*\| \d+/250 ", timeout=3 * MINUTES)
    screen = viewer.see(r" 0/0 .* [3-9]\d/250 ", timeout=2 * MINUTES)
    drawn = [line for line in screen.splitlines() if "/250 " in line]
    assert len(drawn) == 1, "the bar redraws in place, on one line"
    viewer.keep("attach.txt")
    viewer.type("C-b", "d")
    viewer.see("detached")
    assert box.status()["cpu0"]["state"] == "running"
    poll(lambda: "/250" in box.status()["cpu1"]["progress"], timeout=3 * MINUTES)
    viewer.run("tmuxevolve status")
    viewer.see(r"^cpu1 .*running")
    viewer.keep("status.txt")
    viewer.run("time tmuxevolve stop")
    viewer.see(r"cpu1 ended by SIGINT", timeout=2 * MINUTES)
    viewer.see("real")
    viewer.keep("stop.txt")
    viewer.close()
    poll(lambda: not box_processes(box))
    assert not (box.root / "runs" / "search" / "evolve.csv").exists()


def test_detected_without_being_named(box: Box, yolo: Any) -> None:
    yolo(images=1, generations=7)
    (run, _) = json.loads(box.cli("start", "--dry-run", "--json").stdout)
    results = box.root / "runs" / "search"
    tail = ["--project", str(results.parent), "--name", "search", "--exist-ok", "--resume"]
    assert run["argv"][-8:] == [*tail, "--evolve", "7"]
