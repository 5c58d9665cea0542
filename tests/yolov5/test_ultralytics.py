"""Real Ultralytics (YOLO11 from scratch) on the CPU, in cooperative mode. `make test-yolov5`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from measure import HEAD, run
from support import Box, poll

from tmuxevolve.study import history
from tmuxevolve.trainers import ultralytics_results
from tmuxevolve.trainers.ultralytics_hyps import DEFAULTS

HERE = Path(__file__).parent
FONT = "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"
pytestmark = [pytest.mark.yolov5, pytest.mark.timeout(900)]
MINUTES = 60
BUDGET, WORKERS = 12, 4
LAYOUT = ultralytics_results.layout("detect")


@pytest.fixture(scope="module")
def venv() -> Path:
    """Return the environment with Ultralytics in it."""
    folder = os.environ.get("TMUXEVOLVE_TEST_YOLOV5")
    if not folder:
        pytest.skip("make test-yolov5 installs Ultralytics and says where it is")
    return Path(folder)


@pytest.fixture
def yolo(box: Box, venv: Path) -> Iterator[Any]:
    """Return a function that writes a session of real Ultralytics with four CPU slots."""
    settings = box.root / "settings"
    settings.mkdir()
    # Without a font the trainer tries to download one.
    shutil.copy(next(venv.glob(f"lib/*/site-packages/{FONT}")), settings / "Arial.ttf")
    env = {
        "YOLO_CONFIG_DIR": str(settings),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }
    data = box.root / "dataset"
    subprocess.run([venv / "bin" / "python", HERE / "tiny_dataset.py", data, "8"], check=True)

    def write(arguments: str, **evolve: Any) -> None:
        box.session(
            "yolo",
            command=f"{venv}/bin/yolo detect train model=yolo11n.yaml data={data}/data.yaml"
            f" imgsz=64 batch=4 workers=0 {arguments}",
            trainer=None,
            results=str(box.root / "runs" / "search"),
            evolve=evolve,
            env=env,
            gpus={"use": "free"},
            cpu_slots=WORKERS,
        )

    yield write
    keep = os.environ.get("TMUXEVOLVE_KEEP_SCREENS")
    if keep and (box.root / "screens").exists():
        shutil.copytree(box.root / "screens", keep, dirs_exist_ok=True)


def evolved(box: Box) -> Path:
    """Start the session, wait for its end, return its results."""
    started = box.cli("start")
    assert started.returncode == 0, started
    windows = poll(
        lambda: (w := box.status()) and all(i["exit_status"] is not None for i in w.values()) and w,
        timeout=8 * MINUTES,
    )
    assert [w["exit_status"] for w in windows.values()] == [0] * len(windows), windows
    return box.root / "runs" / "search"


def test_four_workers_share_twelve_generations(box: Box, yolo: Any) -> None:
    yolo("epochs=1 optimizer=AdamW lr0=0.002", generations=BUDGET, hyp={"degrees": 5.0})
    results = box.root / "runs" / "search"
    outcome = run(box, results, LAYOUT)
    print(HEAD, outcome.row("Ultralytics, cooperative"), sep="\n")
    found = history.read(results / "evolve.csv", LAYOUT)
    assert found.problem is None
    assert len(found.generations) == BUDGET
    assert len({tuple(g.hyp.items()) for g in found.generations}) == BUDGET
    assert {**DEFAULTS, "lr0": 0.002, "degrees": 5.0} in [g.hyp for g in found.generations]
    folders = sorted((results / "generations").iterdir())
    assert [folder.name for folder in folders] == [f"{n:04}" for n in range(BUDGET)]
    trained = [yaml.safe_load((folder / "args.yaml").read_text()) for folder in folders]
    for folder, arguments in zip(folders, trained, strict=True):
        hyp = yaml.safe_load((folder / "hyp.yaml").read_text())
        assert hyp.keys() == DEFAULTS.keys()
        assert {name: arguments[name] for name in hyp} == hyp
        assert hyp in [generation.hyp for generation in found.generations]
        assert Path(arguments["save_dir"]) == folder
        assert not (folder / "weights").exists()
        assert {p.name for p in folder.iterdir()} == {
            "args.yaml",
            "hyp.yaml",
            "results.csv",
            "train.log",
        }
    assert not list(results.rglob("*.pt"))


def test_only_the_last_epoch_is_validated(box: Box, yolo: Any) -> None:
    yolo("epochs=3", generations=1)
    results = evolved(box)
    (session,) = box.json("status")
    assert (session["trainer"], session["mode"]) == ("ultralytics", "cooperative")
    assert (session["generations"], session["failed"]) == (1, 0)
    with (results / "generations" / "0000" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val/box_loss"]) > 0 for row in rows] == [False, False, True]
    (only,) = history.read(results / "evolve.csv", LAYOUT).generations
    assert only.metrics[4] == pytest.approx(float(rows[-1]["val/box_loss"]), rel=1e-4)
    assert only.metrics[3] == pytest.approx(float(rows[-1]["metrics/mAP50-95(B)"]), rel=1e-4)


def test_the_best_hyps_train_by_hand(box: Box, yolo: Any) -> None:
    yolo("epochs=1 close_mosaic=10", generations=2)
    results = evolved(box)
    (entry,) = json.loads(box.config.read_text())["sessions"].values()
    command = box.json("best")["command"]
    done = subprocess.run(
        [*command["argv"], f"project={box.root}", "name=byhand"],
        env={**box.env, **entry["env"]},
        cwd=command["workdir"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    best = yaml.safe_load((results / "hyp_evolve.yaml").read_text())
    trained = yaml.safe_load((box.root / "byhand" / "args.yaml").read_text())
    assert "close_mosaic" in best
    assert {name: trained[name] for name in best} == best
    assert (box.root / "byhand" / "weights" / "best.pt").exists()
