"""What one generation of YOLOv5 costs: as tmuxevolve runs it, by hand, and with `--evolve 1`.

    python benchmarks/yolov5_generation.py VENV DATA_YAML [ROUNDS] [EPOCHS] CHECKOUT...

VENV holds PyTorch and YOLOv5's other needs; each CHECKOUT is one of YOLOv5. Each way is a process
of its own on the CPU, with the ways in turn; the median of each counts. `--evolve 1` is native
mode's price: for v7.0 and older one training, and what evolution does around it. On master it would
be a population of 50 trainings and is left out.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import trainer_session

from tmuxevolve.study import files
from tmuxevolve.trainers import Training
from tmuxevolve.trainers.yolov5 import YoloV5

OURS, PLAIN, EVOLVE, FLOOR = "tmuxevolve", "`train.py`", "`train.py --evolve 1`", "imports only"


def commands(
    venv: Path, checkout: Path, data: str, epochs: str, folder: Path
) -> dict[str, Sequence[str]]:
    """Return the command of each way."""
    python = str(venv / "bin" / "python")
    words = (
        *(python, str(checkout / "train.py"), "--weights", "", "--cfg", "yolov5n.yaml"),
        *("--data", data, "--imgsz", "64", "--epochs", epochs, "--batch-size", "4"),
        *("--workers", "0", "--device", "cpu"),
    )
    place = ("--project", str(folder))
    code = f"import sys; sys.path.insert(0, {str(checkout)!r}); import train"
    ways: dict[str, Sequence[str]] = {
        OURS: ours(words, checkout, folder / "ours"),
        PLAIN: (*words, *place, "--name", "plain"),
        EVOLVE: (*words, *place, "--name", "evolve", "--evolve", "1"),
        FLOOR: (python, "-c", code),
    }
    if "--evolve_population" in (checkout / "train.py").read_text():
        del ways[EVOLVE]
    return ways


def ours(words: Sequence[str], checkout: Path, results: Path) -> tuple[str, ...]:
    """Return what a worker runs, with its hyps in place."""
    session = trainer_session(*words, workdir=checkout, results=results, trainer="yolov5")
    trainer = YoloV5()
    recipe = trainer.recipe(session, on_gpu=False)
    generation = results / "generations" / "0000"
    generation.mkdir(parents=True)
    hyp_file = generation / "hyp.yaml"
    hyp_file.write_text(files.yaml_lines(recipe.base))
    return trainer.argv(recipe, Training(0, recipe.base, hyp_file, generation, 0))


def measure(command: Sequence[str], folder: Path, environ: dict[str, str]) -> float:
    """Return the seconds that a command took."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return time.perf_counter() - began


def left(folder: Path) -> str:
    """Return how many files, and how much, a way has left behind."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in found) / 2**20
    return f"{len(found)} files, {megabytes:.1f} MB"


def compare(
    venv: Path, checkout: Path, data: str, rounds: int, epochs: str, environ: dict[str, str]
) -> None:
    """Print the rows of one checkout."""
    names = {OURS: "ours", PLAIN: "plain", EVOLVE: "evolve", FLOOR: "none"}
    seconds: dict[str, list[float]] = {}
    remains: dict[str, str] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for way, command in commands(venv, checkout, data, epochs, folder).items():
                seconds.setdefault(way, []).append(measure(command, folder, environ))
                if way == OURS:
                    generation = folder / "ours" / "generations" / "0000"
                    YoloV5().tidy(Training(0, {}, generation / "hyp.yaml", generation, 0))
                remains[way] = left(folder / names[way])
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    for way, median in medians.items():
        times = f"{median:.1f} s ({min(seconds[way]):.1f} to {max(seconds[way]):.1f})"
        to = [
            f"{median / medians[other]:.2f}" if other in medians else "-"
            for other in (PLAIN, EVOLVE)
        ]
        print(f"| {checkout.name} | {way} | {times} | {to[0]} | {to[1]} | {remains[way]} |")


def main() -> None:
    venv, data, rest = Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:]
    numbers = [rest.pop(0) for _ in range(2) if rest and rest[0].isdecimal()]
    rounds, epochs = [*numbers, "3", "3"][: len(numbers)] + ["3", "3"][len(numbers) :]
    environ = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"} | os.environ
    print(f"{rounds} rounds, {epochs} epochs\n")
    print("| YOLOv5 | one generation | median | to by hand | to --evolve 1 | leaves behind |")
    print("|---|---|---|---|---|---|")
    for checkout in rest:
        compare(venv, Path(checkout).absolute(), data, int(rounds), epochs, environ)


if __name__ == "__main__":
    main()
