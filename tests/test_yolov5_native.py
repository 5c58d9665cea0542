"""YOLOv5's own evolution on a shared evolve.csv: no header race, and what one left is mended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import poll, trainer_session

from tmuxevolve.study import history, repair, rows
from tmuxevolve.trainers.yolov5 import YoloV5

COLUMNS = (*rows.METRICS, "lr0", "momentum")
HEADER = rows.header(COLUMNS)

# print_mutation() of v7.0 in short, with its race held open; main() evolves once.
TRAIN = """
import argparse, os, pathlib, time
def parse_opt():
    p = argparse.ArgumentParser()
    for o in ("--hyp", "--project", "--name", "--evolve", "--go"): p.add_argument(o)
    for o in ("--exist-ok", "--resume"): p.add_argument(o, action="store_true")
    return p.parse_args()
def print_mutation(keys, results, hyp, save_dir, bucket, prefix=""):
    table = save_dir / "evolve.csv"
    keys = tuple(keys) + tuple(hyp)
    vals = results + tuple(hyp.values())
    n = len(keys)
    s = "" if table.exists() else (("%20s," * n % keys).rstrip(",") + "\\n")
    time.sleep(0.1)
    with open(table, "a") as f:
        time.sleep(0.05)
        f.write(s + ("%20.5g," * n % vals).rstrip(",") + "\\n")
    (save_dir / "hyp_evolve.yaml").write_text("lr0: 1\\n")
def main(opt):
    save_dir = pathlib.Path(opt.project) / opt.name
    save_dir.mkdir(parents=True, exist_ok=True)
    (save_dir / ("ready-%d" % os.getpid())).touch()
    while not os.path.exists(opt.go): time.sleep(0.001)
    keys = ("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95",
            "val/box_loss", "val/obj_loss", "val/cls_loss")
    hyp = {"lr0": os.getpid() / 1e7, "momentum": 0.9}
    print_mutation(keys, (0.1,) * 7, hyp, save_dir, "")
if __name__ == "__main__":
    main(parse_opt())
"""


def test_workers_that_write_their_first_row_together(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    results, go = tmp_path / "runs" / "search", tmp_path / "go"
    native = YoloV5().native(
        trainer_session(
            sys.executable,
            "train.py",
            *("--go", str(go)),
            workdir=tmp_path,
            results=results,
            mode="native",
        ),
        on_gpu=False,
    )
    trainers = [subprocess.Popen(native.argv, cwd=tmp_path) for _ in range(4)]
    poll(lambda: len(list(results.glob("ready-*"))) == 4)
    go.touch()
    sizes = {0}
    while any(trainer.poll() is None for trainer in trainers):
        if (results / "evolve.csv").exists():
            sizes.add((results / "evolve.csv").read_bytes().count(b"\n"))
    assert [trainer.returncode for trainer in trainers] == [0] * 4
    text = (results / "evolve.csv").read_text()
    assert text.count("momentum") == 1
    assert len(text.splitlines()) == 5
    # Neither an empty file nor a header alone was ever to be seen.
    assert sizes <= {0, 2, 3, 4, 5}
    assert not (results / ".first").exists()
    assert (results / "hyp_evolve.yaml").exists()


def table(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "evolve.csv"
    path.write_bytes(data)
    return path


def row(lr: float) -> bytes:
    return rows.row([0.1] * 7 + [lr, 0.9])


@pytest.mark.parametrize(
    ("damaged", "mended"),
    [
        (HEADER + HEADER + row(1) + row(2), HEADER + row(1) + row(2)),
        (HEADER + row(1) + HEADER + row(2), HEADER + row(1) + row(2)),
        (row(1) + row(2), HEADER + row(1) + row(2)),
        (row(1) + HEADER + row(2), HEADER + row(1) + row(2)),
        (HEADER + row(1) + row(2)[:90], HEADER + row(1)),
        (HEADER + row(1) + b"\n\n" + row(2), HEADER + row(1) + row(2)),
        (HEADER + row(1) + row(2)[:-1], HEADER + row(1) + row(2)),
        (HEADER, None),
        (b"", None),
        (HEADER[:30], None),
    ],
)
def test_a_damaged_table_is_mended(tmp_path: Path, damaged: bytes, mended: bytes | None) -> None:
    path = table(tmp_path, damaged)
    message = repair.mend(path, COLUMNS)
    assert message
    assert (path.read_bytes() if path.exists() else None) == mended
    assert (tmp_path / "evolve.csv.damaged").read_bytes() == damaged
    assert repair.mend(path, COLUMNS) is None


@pytest.mark.parametrize(
    "other",
    [
        HEADER + row(1) + row(2),
        rows.header((*rows.METRICS, "momentum", "lr0")) + row(1),
        rows.header((*rows.METRICS, "lr0")) + rows.row([0.1] * 8),
        b"a,b\n1,2\n",
        b"something else\n",
    ],
)
def test_a_good_table_and_one_of_others_stay_as_they_are(tmp_path: Path, other: bytes) -> None:
    path = table(tmp_path, other)
    assert repair.mend(path, COLUMNS) is None
    assert path.read_bytes() == other
    assert [p.name for p in tmp_path.iterdir()] == ["evolve.csv"]


def test_every_original_is_kept(tmp_path: Path) -> None:
    for _ in range(3):
        repair.mend(table(tmp_path, HEADER + HEADER + row(1)), COLUMNS)
    assert sorted(p.name for p in tmp_path.glob("*.damaged*")) == [
        "evolve.csv.damaged",
        "evolve.csv.damaged1",
        "evolve.csv.damaged2",
    ]


@given(st.lists(st.sampled_from([HEADER, row(1), row(2), row(3)[:60] + b"\n", b"\n"]), max_size=12))
def test_no_whole_row_is_lost(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = table(tmp_path_factory.mktemp("t"), b"".join(parts))
    repair.mend(path, COLUMNS)
    found = history.read(path)
    assert found.problem is None
    whole = [part for part in parts if part in {row(1), row(2)}]
    assert [g.hyp["lr0"] for g in found.generations] == [float(p.split(b",")[7]) for p in whole]


def test_json_is_not_needed() -> None:
    """The scripts that run in the trainer's interpreter import nothing of ours."""
    folder = Path(repair.__file__).parents[1] / "trainers"
    code = "import sys, json; import yolov5_native; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert not [name for name in json.loads(done.stdout) if name.startswith("tmuxevolve")]
