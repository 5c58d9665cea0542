"""What real YOLOs need to run offline and quietly, in settings of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import Box

DATASET = Path(__file__).parent / "yolov5" / "tiny_dataset.py"

FONT = "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"


def offline(box: Box, venv: Path) -> dict[str, object]:
    """Return the variables; the trainers are installed in ``venv``."""
    settings = box.root / "settings"
    settings.mkdir(exist_ok=True)
    # Without a font the trainer tries to download one.
    shutil.copy(next(venv.glob(f"lib/*/site-packages/{FONT}")), settings / "Arial.ttf")
    return {
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": 1,
        "WANDB_MODE": "disabled",
        "YOLOV5_CONFIG_DIR": str(settings),
        "YOLO_CONFIG_DIR": str(settings),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLOv5_AUTOINSTALL": "false",
        "OMP_NUM_THREADS": 1,
        # Newer torch warns about v7.0's autocast in the middle of the bar, at every batch.
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }


def session(
    box: Box, venv: Path, name: str, evolve: Mapping[str, Any], *words: str, **keys: Any
) -> Path:
    """Write a session that trains YOLOv5 v7.0 on CPU slots; return its results directory.

    It trains eight images for one epoch, unless the words say otherwise.
    """
    python = venv / "bin" / "python"
    data, results = box.root / "dataset", box.root / name / "search"
    subprocess.run([python, DATASET, data, "8"], check=True)
    # A checkout of tag v7.0 in place of the PyPI package.
    checkout = os.environ.get("TMUXEVOLVE_TEST_CHECKOUT")
    trainer = [f"{checkout}/train.py"] if checkout else ["-m", "yolov5.train"]
    package = checkout or next(venv.glob("lib/*/site-packages/yolov5"))
    command = [str(python), *trainer, "--weights", "", "--cfg", "yolov5n.yaml"]
    command += ["--data", f"{data}/data.yaml", "--imgsz", "64", "--batch-size", "4"]
    command += ["--workers", "0", "--hyp", f"{package}/data/hyps/hyp.scratch-low.yaml"]
    box.session(
        "yolo",
        command=[*command, *(words or ("--epochs", "1"))],
        trainer=None,
        results=str(results),
        evolve=evolve,
        env=offline(box, venv),
        **{"gpus": {"use": "free"}, **keys},
    )
    return results
