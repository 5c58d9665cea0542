"""YOLOv5, one generation at a time: command, hyps, and the runner on a train.py of that kind."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from support import trainer_session

from tmuxevolve.config import Evolve, Session
from tmuxevolve.errors import UsageError
from tmuxevolve.study import files
from tmuxevolve.trainers import NoResultError, Recipe, Training
from tmuxevolve.trainers.yolov5 import YoloV5

HYPS = "lr0: 0.01\nmomentum: 0.937\nfliplr: 0.5\n"

# The parts of v7.0's train.py that matter: its main() asks for a plain training.
TRAIN = """
import argparse, json, pathlib, sys
def parse_opt():
    p = argparse.ArgumentParser()
    p.add_argument("--hyp"); p.add_argument("--project"); p.add_argument("--name")
    p.add_argument("--exist-ok", action="store_true"); p.add_argument("--epochs", type=int)
    p.add_argument("--evolve", type=int); p.add_argument("--nosave", action="store_true")
    p.add_argument("--noval", action="store_true"); p.add_argument("--noplots", action="store_true")
    p.add_argument("--how", default="")
    return p.parse_args()
def check_git_status(): raise SystemExit("asked the network")
def check_requirements(*a): raise SystemExit("read every package")
def train(hyp, opt, device=None, callbacks=None):
    folder = pathlib.Path(opt.project) / opt.name
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    if not opt.nosave: (folder / "weights" / "last.pt").write_text("weights")
    said = {k: getattr(opt, k) for k in ("evolve", "nosave", "noval", "noplots", "epochs")}
    (folder / "said.json").write_text(json.dumps(said))
    if opt.how == "die": raise RuntimeError("died")
    if opt.how == "nan": return (float("nan"),) * 7
    return (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
def main(opt):
    check_git_status(); check_requirements()
    train(opt.hyp, opt, "cpu", None)
if __name__ == "__main__":
    main(parse_opt())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "data" / "hyps").mkdir(parents=True)
    (tmp_path / "data" / "hyps" / "hyp.scratch-low.yaml").write_text(HYPS)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def session(checkout: Path, *words: str, python: str = "python", **evolve: Any) -> Session:
    results = checkout / "runs" / "search"
    return trainer_session(python, "train.py", *words, workdir=checkout, results=results, **evolve)


def training(checkout: Path) -> Training:
    folder = checkout / "runs" / "search" / "generations" / "0007"
    folder.mkdir(parents=True)
    hyp_file = folder / "hyp.yaml"
    hyp_file.write_text(files.yaml_lines({"lr0": 0.01}))
    return Training(7, {"lr0": 0.01}, hyp_file, folder, 1)


def recipe(checkout: Path, *words: str, **keys: Any) -> Recipe:
    return YoloV5().recipe(session(checkout, *words, **keys), on_gpu=True)


def test_what_evolution_adds_is_taken_out_of_the_command(checkout: Path) -> None:
    made = recipe(checkout, "--data", "x.yaml", "--evolve", "60", "--resume", "--device", "0")
    assert made.generations == 60
    assert made.argv[0] == "python"
    assert made.argv[1].endswith("yolov5_runner.py")
    assert made.argv[2:] == ("train.py", "--data", "x.yaml")
    assert "--device 0 is left out" in made.notes[0]
    argv = YoloV5().argv(made, training(checkout))
    folder = checkout / "runs" / "search" / "generations"
    assert argv[2] == str(folder / "0007" / "result.json")
    assert argv[-7:] == (
        *("--hyp", str(folder / "0007" / "hyp.yaml"), "--project", str(folder)),
        *("--name", "0007", "--exist-ok"),
    )


def test_the_base_is_that_of_hyp_and_anchors(checkout: Path) -> None:
    made = recipe(checkout)
    assert made.base == {"lr0": 0.01, "momentum": 0.937, "fliplr": 0.5, "anchors": 3.0}
    assert list(made.space) == list(made.base)
    assert "anchors" not in recipe(checkout, "--noautoanchor").base
    (checkout / "my.yaml").write_text("lr0: 0.002\n")
    assert recipe(checkout, "--hyp", "my.yaml").base["lr0"] == 0.002


@pytest.mark.parametrize(
    ("words", "evolve", "message"),
    [
        (("--hyp", "none.yaml"), {}, "command: --hyp none.yaml: no such file"),
        ((), {"hyp": {"lr0": 1.0}}, "evolve.hyp: leave it out"),
        ((), {"fitness": {"key": "x"}}, "evolve.fitness: leave it out"),
        (("--evolve", "5"), {"generations": 6}, "--evolve 5, but evolve.generations is 6"),
        (("--hyp", "odd.yaml"), {}, "odd.yaml:1: lr0: '1e-3': expected a number"),
        (("--hyp", "empty.yaml"), {}, "expected hyps, one `name: number` a line"),
    ],
)
def test_contradictions(
    checkout: Path, words: tuple[str, ...], evolve: dict[str, Any], message: str
) -> None:
    (checkout / "odd.yaml").write_text("lr0: 1e-3\n")
    (checkout / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(UsageError) as error:
        recipe(checkout, *words, **msgspec.to_builtins(msgspec.convert(evolve, Evolve)) | evolve)
    assert message in str(error.value)


def run(checkout: Path, *words: str, interpreter: bool = True) -> tuple[Recipe, Training, int]:
    python = sys.executable if interpreter else "./launch"
    made = recipe(checkout, "--epochs", "3", *words, python=python)
    one = training(checkout)
    argv = YoloV5().argv(made, one)
    done = subprocess.run(argv, cwd=checkout, capture_output=True, text=True, check=False)
    return made, one, done.returncode


def test_the_runner_trains_as_in_an_evolution(checkout: Path) -> None:
    made, one, status = run(checkout)
    assert status == 0
    assert YoloV5().metrics(made, one, "") == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    said = json.loads((one.folder / "said.json").read_text())
    assert said == {"evolve": 1, "nosave": True, "noval": True, "noplots": True, "epochs": 3}
    assert YoloV5().completed(made, one) is not None
    YoloV5().tidy(one)
    assert not (one.folder / "weights").exists()


def test_a_training_that_died_has_no_result(checkout: Path) -> None:
    made, one, status = run(checkout, "--how", "die")
    assert status == 1
    assert YoloV5().completed(made, one) is None
    with pytest.raises(NoResultError, match="no result"):
        YoloV5().metrics(made, one, "")


def test_a_diverged_training_has_a_result(checkout: Path) -> None:
    made, one, status = run(checkout, "--how", "nan")
    assert status == 0
    metrics = YoloV5().metrics(made, one, "")
    assert all(math.isnan(value) for value in metrics)


def test_a_launcher_gets_the_plain_options(checkout: Path) -> None:
    (checkout / "launch").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (checkout / "launch").chmod(0o755)
    text = TRAIN.replace('raise SystemExit("asked the network")', "pass")
    text = text.replace('raise SystemExit("read every package")', "pass")
    (checkout / "train.py").write_text(text)
    made, one, status = run(checkout, interpreter=False)
    assert status == 0
    assert "yolov5_runner.py" not in " ".join(made.argv)
    said = json.loads((one.folder / "said.json").read_text())
    assert (said["noval"], said["nosave"], said["evolve"]) == (True, True, None)
    header = (
        "epoch, metrics/precision, metrics/recall, metrics/mAP_0.5, metrics/mAP_0.5:0.95,"
        " val/box_loss, val/obj_loss, val/cls_loss"
    )
    (one.folder / "results.csv").write_text(f"{header}\n0,1,1,1,1,1,1,1\n1, .1,.2,.3,.4,.5,.6,.7\n")
    assert YoloV5().metrics(made, one, "") == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    (one.folder / "results.csv").write_text(header)
    with pytest.raises(NoResultError, match="it has no row"):
        YoloV5().metrics(made, one, "")


def test_a_train_py_of_another_kind_is_run_as_it_is(checkout: Path) -> None:
    (checkout / "train.py").write_text("import sys; print(sys.argv); sys.exit(7)")
    assert run(checkout)[2] == 7


def test_hyps_are_written_so_that_pyyaml_reads_numbers() -> None:
    hyps = {"a": 1e-05, "b": 1e20, "c": 0.0, "on": 3.0, "d e": -2.5e-7, "f": 100000.0}
    assert yaml.safe_load(files.yaml_lines(hyps)) == hyps
