"""What one generation of Ultralytics costs: as tmuxevolve runs it, by hand, and in its own tuner.

    python benchmarks/ultralytics_generation.py VENV DATA_YAML [ROUNDS] [EPOCHS]

VENV holds Ultralytics. Each way is a process of its own, all on the CPU, one after another, with
the ways in turn; the median of each counts. The floor is a process that imports torch and
Ultralytics and ends.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import trainer_session

from tmuxevolve.trainers import Training
from tmuxevolve.trainers.ultralytics import Ultralytics

MODEL = "yolo11n.yaml"
OURS, PLAIN, TUNE, FLOOR = (
    "tmuxevolve",
    "`yolo train`",
    "`model.tune(iterations=1)`",
    "imports only",
)


def commands(venv: Path, data: str, epochs: str, folder: Path) -> dict[str, Sequence[str]]:
    """Return the command of each way."""
    arguments = (f"data={data}", f"epochs={epochs}", "imgsz=64", "batch=4", "device=cpu")
    words = (f"{venv}/bin/yolo", "detect", "train", f"model={MODEL}", *arguments)
    settings = ", ".join(
        f"{name}={value if value.isdigit() else repr(value)}"
        for name, _, value in (argument.partition("=") for argument in arguments)
    )
    cheap = "plots=False, save=False, val=False"
    place = f"project={str(folder / 'tune')!r}, name='tune'"
    tune = f"YOLO({MODEL!r}).tune({settings}, iterations=1, {cheap}, {place})"
    python = f"{venv}/bin/python"
    imports = "from ultralytics import YOLO; import ultralytics.models.yolo.detect"
    return {
        OURS: ours(words, folder / "ours"),
        PLAIN: (*words, f"project={folder}", "name=plain"),
        TUNE: (python, "-c", f"from ultralytics import YOLO; {tune}"),
        FLOOR: (python, "-c", imports),
    }


def ours(words: Sequence[str], results: Path) -> tuple[str, ...]:
    """Return what a worker runs."""
    session = trainer_session(*words, workdir=Path.cwd(), results=results, trainer="ultralytics")
    trainer = Ultralytics()
    recipe = trainer.recipe(session, on_gpu=False)
    generation = results / "generations" / "0000"
    return trainer.argv(recipe, Training(0, recipe.base, generation / "hyp.yaml", generation, 0))


def measure(command: Sequence[str], folder: Path, environ: dict[str, str]) -> tuple[float, int]:
    """Return the seconds that a command took, and how many validations it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-2000:]
    return seconds, len(re.findall(r"^ +all +\d+ +\d+ ", printed, re.MULTILINE))


def left(folder: Path) -> str:
    """Return how many files, and how much, a way has left behind."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 2**20
    return f"{len(files)} files, {megabytes:.1f} MB"


def main() -> None:
    venv, data = Path(sys.argv[1]).absolute(), sys.argv[2]
    rounds, epochs = int((sys.argv[3:] or ["3"])[0]), (sys.argv[4:] or ["3"])[0]
    environ = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "OMP_NUM_THREADS": "1"}
    environ |= os.environ | {"PATH": f"{venv}/bin:{os.environ['PATH']}"}
    folders = {OURS: "ours", PLAIN: "plain", TUNE: "tune", FLOOR: "none"}
    seconds: dict[str, list[float]] = {way: [] for way in folders}
    validations, remains = {}, {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for way, command in commands(venv, data, epochs, folder).items():
                took, validations[way] = measure(command, folder, environ)
                seconds[way].append(took)
                if way == OURS:
                    generation = folder / "ours" / "generations" / "0000"
                    Ultralytics().tidy(Training(0, {}, generation / "hyp.yaml", generation, 0))
                remains[way] = left(folder / folders[way])
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"{rounds} rounds, {epochs} epochs\n")
    print("| one generation | median | to by hand | to its tuner | validations | leaves behind |")
    print("|---|---|---|---|---|---|")
    for way, median in medians.items():
        ratios = " | ".join(f"{median / medians[other]:.2f}" for other in (PLAIN, TUNE))
        times = f"{median:.1f} s ({min(seconds[way]):.1f} to {max(seconds[way]):.1f})"
        print(f"| {way} | {times} | {ratios} | {validations[way]} | {remains[way]} |")


if __name__ == "__main__":
    main()
