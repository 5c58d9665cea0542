"""Real YOLOv5 v7.0, four workers, twelve generations: together, and each with its own --evolve.

Prints the table that docs/cooperation.md shows (pytest -s).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
import yolo_settings
from measure import HEAD, run
from support import Box

pytestmark = [pytest.mark.yolov5, pytest.mark.timeout(900)]
WORKERS, BUDGET = 4, 12


def session(box: Box, name: str, evolve: dict[str, Any], **keys: Any) -> Path:
    """Write a session of four CPU slots; return its results directory."""
    folder = os.environ.get("TMUXEVOLVE_TEST_YOLOV5")
    if not folder:
        pytest.skip("make test-yolov5 installs YOLOv5 and says where it is")
    return yolo_settings.session(box, Path(folder), name, evolve, cpu_slots=WORKERS, **keys)


def test_twelve_generations_together_are_twelve_points(box: Box) -> None:
    each = {"mode": "native", "generations": BUDGET // WORKERS}
    native = run(box, session(box, "native", each))
    at_once = run(box, session(box, "at-once", each, stagger=0))
    results = session(box, "cooperative", {"mode": "cooperative", "generations": BUDGET})
    together = run(box, results)
    print(HEAD)
    for mode, got in (
        ("native, all started at once", at_once),
        ("native, started 3 s apart", native),
        ("cooperative", together),
    ):
        print(got.row(mode))
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
    trained_by_hand(box, results)
    again = session(box, "native", {"mode": "cooperative", "generations": BUDGET + 1})
    more = run(box, again)
    assert more.rows == BUDGET + 1, "what native mode wrote is history"
    assert more.distinct == native.distinct + 1


def trained_by_hand(box: Box, results: Path) -> None:
    """The command that `best` prints trains with the best hyps."""
    (entry,) = json.loads(box.config.read_text())["sessions"].values()
    command = box.json("best")["command"]
    done = subprocess.run(
        # Not where YOLOv5 is installed.
        [*command["argv"], "--project", str(box.root / "by-hand")],
        env={**box.env, **{name: str(value) for name, value in entry["env"].items()}},
        cwd=command["workdir"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    trained = yaml.safe_load((box.root / "by-hand" / "exp" / "hyp.yaml").read_text())
    best = yaml.safe_load((results / "hyp_evolve.yaml").read_text())
    assert {name: trained[name] for name in best} == best


def plotted(results: Path) -> None:
    """YOLOv5's own plot_evolve() takes the file as it is."""
    python = Path(os.environ["TMUXEVOLVE_TEST_YOLOV5"]) / "bin" / "python"
    code = "import sys; from yolov5.utils.plots import plot_evolve; plot_evolve(sys.argv[1])"
    done = subprocess.run(
        [python, "-c", code, results / "evolve.csv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (results / "evolve.png").stat().st_size > 10_000
