"""Real YOLOv5 v7.0 on the CPU: how much of its trainings is new, and how long nothing trains.

    python benchmarks/yolov5.py VENV [distinct|standby|all]

VENV is what `make test-yolov5` makes. The first table compares what four workers do together with
what they do with their own --evolve on one directory. The second one is of a single worker: what
passes from the end of one training to the end of the next one's first epoch, which takes a quarter
of a second, with the next process standing by and without, and with trainings of about 20 s.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from measure import HEAD, run
from support import Box, new_box
from yolo_settings import session

WORKERS, BUDGET = 4, 12
ALONE = 6
EPOCHS = "60"
MINUTES = (1, 5, 30)


def distinct(venv: Path) -> None:
    """Print how many of twelve trainings were of different hyps."""
    native = {"mode": "native", "generations": BUDGET // WORKERS}
    together = {"mode": "cooperative", "generations": BUDGET}
    ways = (
        ("native, all started at once", native, {"stagger": 0}),
        ("native, started 3 s apart", native, {}),
        ("cooperative", together, {}),
        ("cooperative, `standby: true`", {**together, "standby": True}, {}),
    )
    print(HEAD)
    for name, evolve, keys in ways:
        with tempfile.TemporaryDirectory() as folder, new_box(Path(folder)) as box:
            results = session(box, venv, "run", evolve, cpu_slots=WORKERS, **keys)
            print(run(box, results).row(name), flush=True)


def standby(venv: Path) -> None:
    """Print what the start of each training costs."""
    shares = " | ".join(f"of {minutes} min" for minutes in MINUTES)
    print(
        "\n| standby | trainings | from an end to the next first epoch, median | range"
        f" | a generation | {shares} |"
    )
    print("|---|---:|---:|---:|---:|" + "---:|" * len(MINUTES))
    for on in (False, True):
        with tempfile.TemporaryDirectory() as folder, new_box(Path(folder)) as box:
            evolve = {"mode": "cooperative", "generations": ALONE, "standby": on}
            results = session(box, venv, "run", evolve, "--epochs", EPOCHS, cpu_slots=1)
            times = trainings(box, results)
        between = sorted(after[0] - before[1] for before, after in pairwise(times[1:]))
        gap = statistics.median(between)
        whole = (times[-1][1] - times[1][1]) / (len(times) - 2)
        cells = [f"{gap / (gap + 60 * minutes):.1%}" for minutes in MINUTES]
        print(
            f"| {'on' if on else 'off'} | {len(times)} | {gap:.1f} s"
            f" | {between[0]:.1f} to {between[-1]:.1f} s | {whole:.1f} s | {' | '.join(cells)} |",
            flush=True,
        )


def trainings(box: Box, results: Path) -> list[tuple[float, float]]:
    """Return when each training had its first epoch behind it, and when it ended."""
    done = box.cli("start")
    assert done.returncode == 0, done
    begun: dict[Path, float] = {}
    while len(begun) < ALONE or not (max(begun) / "result.json").exists():
        for path in results.glob("generations/*/results.csv"):
            begun.setdefault(path.parent, time.time())
        time.sleep(0.02)
    box.cli("stop")
    return [(begun[path], (path / "result.json").stat().st_mtime) for path in sorted(begun)]


def main() -> None:
    venv, part = Path(sys.argv[1]).absolute(), (*sys.argv[2:], "all")[0]
    if part in {"distinct", "all"}:
        distinct(venv)
    if part in {"standby", "all"}:
        standby(venv)


if __name__ == "__main__":
    main()
