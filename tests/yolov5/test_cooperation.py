"""Real YOLOv5 v7.0, four workers, twelve generations: together, and each with its own --evolve.

Prints the table that docs/cooperation.md shows (pytest -s).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import Box, box_processes

from tmuxevolve.study import history, rows

HERE = Path(__file__).parent
FONT = "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"
pytestmark = [pytest.mark.yolov5, pytest.mark.timeout(900)]
WORKERS, BUDGET = 4, 12


@dataclass(frozen=True)
class Outcome:
    rows: int
    distinct: int
    wall: float
    idle: float


def session(box: Box, name: str, evolve: dict[str, Any], **keys: Any) -> Path:
    """Write a session of four CPU slots; return its results directory."""
    folder = os.environ.get("TMUXEVOLVE_TEST_YOLOV5")
    if not folder:
        pytest.skip("make test-yolov5 installs YOLOv5 and says where it is")
    python, settings = Path(folder) / "bin" / "python", box.root / "settings"
    settings.mkdir(exist_ok=True)
    shutil.copy(next(Path(folder).glob(f"lib/*/site-packages/{FONT}")), settings / "Arial.ttf")
    data, results = box.root / "dataset", box.root / name / "search"
    subprocess.run([python, HERE / "tiny_dataset.py", data, "8"], check=True)
    checkout = os.environ.get("TMUXEVOLVE_TEST_CHECKOUT")
    trainer = f"{python} {checkout}/train.py" if checkout else f"{python} -m yolov5.train"
    package = next(Path(folder).glob("lib/*/site-packages/yolov5"))
    box.session(
        "yolo",
        command=f"{trainer} --weights '' --cfg yolov5n.yaml --data {data}/data.yaml --imgsz 64"
        " --epochs 1 --batch-size 4 --workers 0"
        f" --hyp {checkout or package}/data/hyps/hyp.scratch-low.yaml",
        trainer=None,
        results=str(results),
        evolve=evolve,
        env={
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": 1,
            "WANDB_MODE": "disabled",
            "YOLOV5_CONFIG_DIR": str(settings),
            "YOLO_CONFIG_DIR": str(settings),
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLOv5_AUTOINSTALL": "false",
            "OMP_NUM_THREADS": 1,
            "PYTHONWARNINGS": "ignore::FutureWarning",
        },
        gpus={"use": "free"},
        cpu_slots=WORKERS,
        **keys,
    )
    return results


def training(box: Box) -> int:
    """Return how many windows have a trainer in them now: a worker's own child."""
    workers, children = set(), []
    for process in box_processes(box):
        try:
            if any("worker_entry" in word for word in process.cmdline()[:4]):
                workers.add(process.pid)
            else:
                children.append(process.ppid())
        except psutil.Error:
            continue
    return len(workers & set(children))


def run(box: Box, results: Path) -> Outcome:
    """Start, wait for the end of all workers, and add up the time that windows had no trainer."""
    begun = last = time.monotonic()
    assert box.cli("start").returncode == 0
    idle = 0.0
    while True:
        busy = training(box)
        now = time.monotonic()
        idle, last = idle + (now - last) * (WORKERS - busy), now
        if not busy and all(w["exit_status"] is not None for w in box.status().values()):
            break
        assert now - begun < 600
        time.sleep(0.1)
    assert {w["exit_status"] for w in box.status().values()} == {0}, box.status()
    box.cli("stop")
    found = history.read(results / "evolve.csv").generations
    keys = {rows.key(g.hyp, tuple(g.hyp)) for g in found}
    return Outcome(len(found), len(keys), now - begun, idle)


def test_twelve_generations_together_are_twelve_points(box: Box) -> None:
    each = {"mode": "native", "generations": BUDGET // WORKERS}
    native = run(box, session(box, "native", each))
    at_once = run(box, session(box, "at-once", each, stagger=0))
    results = session(box, "cooperative", {"mode": "cooperative", "generations": BUDGET})
    together = run(box, results)
    print("\n| mode | generations | distinct | wall time | distinct per minute | idle |")
    print("|---|---|---|---|---|---|")
    for mode, got in (
        ("native, all started at once", at_once),
        ("native, started 3 s apart", native),
        ("cooperative", together),
    ):
        rate, idle = got.distinct * 60 / got.wall, got.idle / got.wall / WORKERS
        print(
            f"| {mode} | {got.rows} | {got.distinct} | {got.wall:.0f} s | {rate:.1f}"
            f" | {got.idle:.0f} s of {WORKERS} x {got.wall:.0f} s ({idle:.0%}) |"
        )
    assert (together.rows, together.distinct) == (BUDGET, BUDGET)
    assert native.rows == BUDGET
    assert sorted(p.name for p in (results / "generations").iterdir()) == [
        f"{n:04}" for n in range(BUDGET)
    ]
    for folder in (results / "generations").iterdir():
        names = {path.name for path in folder.iterdir()}
        assert {"hyp.yaml", "results.csv", "train.log"} <= names, names
        assert "weights" not in names
    plotted(results)


def plotted(results: Path) -> None:
    """YOLOv5's own plot_evolve() takes the file as it is."""
    python = Path(os.environ["TMUXEVOLVE_TEST_YOLOV5"]) / "bin" / "python"
    code = "import sys; from yolov5.utils.plots import plot_evolve; plot_evolve(sys.argv[1])"
    done = subprocess.run(
        [python, "-c", code, results / "evolve.csv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (results / "evolve.png").stat().st_size > 10_000
