"""Pretended YOLOv5 checkouts and environments, for what only looks at them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# What tells YOLOv5's versions apart; see yolov5_inspection.py.
V7 = '''"""Train a YOLOv5 model."""
from utils.general import TQDM_BAR_FORMAT
def parse_opt():
    for option in ("--data", "--weights", "--hyp", "--epochs", "--imgsz", "--noplots"):
        parser.add_argument(option)
    parser.add_argument("--batch-size")
    parser.add_argument("--workers")
'''
_TORCH = """
import json, pathlib, time
said = json.loads((pathlib.Path(__file__).parent / "said.json").read_text())
time.sleep(said.get("sleep", 0))
__version__ = said["version"]
class version:
    cuda = said["cuda"]
class cuda:
    is_available = staticmethod(lambda: said["devices"] > 0)
    device_count = staticmethod(lambda: said["devices"])
"""


def checkout(folder: Path) -> Path:
    """Make a folder that looks like YOLOv5 v7.0 with a data set, hyps and weights of its user's."""
    for name in ("utils", "data/hyps", "images/train", "images/val"):
        (folder / name).mkdir(parents=True)
    (folder / "train.py").write_text(V7)
    (folder / "utils" / "general.py").write_text("")
    (folder / "data" / "hyps" / "hyp.scratch-low.yaml").write_text("lr0: 0.01\nmosaic: 1.0\n")
    (folder / "data" / "coco128.yaml").write_text("{path: ../coco, train: a, val: a, names: [x]}")
    (folder / "data" / "mine.yaml").write_text(
        "{path: ./images, train: train, val: [val], names: [cat]}"
    )
    (folder / "yolov5n.pt").touch()
    return folder


def environment(prefix: Path, torch: dict[str, Any] | None = None) -> Path:
    """Make a Python environment in which `import torch` says this; return its python."""
    base = Path(sys.base_prefix) / "bin" / "python3"
    packages = prefix / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(base)
    (prefix / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    if torch is not None:
        (packages / "torch").mkdir()
        (packages / "torch" / "__init__.py").write_text(_TORCH)
        said = {"version": "2.4.1", "cuda": "12.1", "devices": 0, **torch}
        (packages / "torch" / "said.json").write_text(json.dumps(said))
    return prefix / "bin" / "python"


def yolo(prefix: Path, release: str = "8.3.200") -> Path:
    """Install something like Ultralytics into an environment; return its program."""
    packages = next(prefix.glob("lib/python3*/site-packages"))
    (packages / f"ultralytics-{release}.dist-info").mkdir()
    program = prefix / "bin" / "yolo"
    program.write_text(f"#!{prefix}/bin/python\n")
    program.chmod(0o755)
    return program
