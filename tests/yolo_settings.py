"""What real YOLOs need to run offline and quietly, in settings of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

from support import Box

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
