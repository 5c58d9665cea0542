"""What the ultralytics trainer makes of a pasted command and of what a training wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import trainer_session

from tmuxevolve import trainers
from tmuxevolve.config import (
    FitnessSource,
    Interval,
    Session,
)
from tmuxevolve.errors import UsageError
from tmuxevolve.study import history, rows
from tmuxevolve.study.table import Tally
from tmuxevolve.trainers import NoResultError, Recipe, Training, ultralytics_results
from tmuxevolve.trainers.ultralytics import Ultralytics
from tmuxevolve.trainers.ultralytics_hyps import DEFAULTS, SPACE

CHEAP = ("val=False", "save=False", "plots=False")
HEADER = (
    "epoch,time,train/box_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),"
    "metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss"
)
FOLDER = Path("/runs/search/generations/0000")


def session(*words: str, workdir: Path = Path("/work"), **evolve: Any) -> Session:
    command = words if words[0].endswith("yolo") else ("/no/such/yolo", *words)
    return trainer_session(*command, workdir=workdir, **evolve)


def recipe(
    *words: str, on_gpu: bool = True, workdir: Path = Path("/work"), **evolve: Any
) -> Recipe:
    return Ultralytics().recipe(session(*words, workdir=workdir, **evolve), on_gpu=on_gpu)


def refusal(*words: str, on_gpu: bool = True, **evolve: Any) -> str:
    with pytest.raises(UsageError) as error:
        recipe(*words, on_gpu=on_gpu, **evolve)
    assert "\n" not in str(error.value)
    return str(error.value)


def training(folder: Path = FOLDER, **hyp: float) -> Training:
    return Training(0, hyp, folder / "hyp.yaml", folder, 7)


def wrote(folder: Path, *lines: str, arguments: str = "epochs: 2\ntime: null\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "args.yaml").write_text(f"task: detect\n{arguments}batch: 4\n")
    (folder / "results.csv").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["yolo", "train", "data=x.yaml"], "ultralytics"),
        (["yolo", "detect", "train"], "ultralytics"),
        (["/env/bin/yolo", "task=detect", "mode=train"], "ultralytics"),
        (["yolo", "mode", "=", "train"], "ultralytics"),
        (["ultralytics", "segment", "train"], "ultralytics"),
        (["conda", "run", "-n", "yolo", "yolo", "train"], "ultralytics"),
        (["python", "-m", "ultralytics.cfg.__init__", "train"], "ultralytics"),
        (["yolo", "val", "model=train"], "command"),
        (["yolo"], "command"),
        (["python", "fit.py", "--model", "yolo"], "command"),
        (["python", "train.py", "yolo", "train"], "yolov5"),
    ],
)
def test_detection(command: list[str], name: str) -> None:
    assert trainers.find(None, command).name == name
    assert trainers.find("ultralytics", command).name == "ultralytics"


def test_what_is_added_to_the_command() -> None:
    made = recipe("yolo", "detect", "train", "data=x.yaml", "lr0=0.005", "epochs=3", "seed=3")
    assert made.argv == ("yolo", "detect", "train", "data=x.yaml", "epochs=3", "seed=3", *CHEAP)
    assert Ultralytics().argv(made, training(lr0=1e-5, close_mosaic=3.0, box=7.5)) == (
        *made.argv,
        "lr0=1e-05",
        "close_mosaic=3",
        "box=7.5",
        "project=/runs/search",
        "name=generations/0000",
        "exist_ok=True",
    )
    assert made.generations == 300
    assert recipe("train", generations=7).generations == 7
    assert recipe("train", "val=True", "plots", "--save", "=", "True").argv[1:] == (
        "train",
        "val=True",
        "plots",
        "save=True",
    )


def test_a_timed_training_validates_every_epoch() -> None:
    assert recipe("train", "time=0.5").argv[1:] == ("train", "time=0.5", *CHEAP[1:])
    assert recipe("train", "time=None").argv[-3:] == CHEAP
    assert "leave val=False out" in refusal("train", "time=0.5", "val=False")


@given(st.floats(0.0, 100.0).map(rows.canonical))
def test_no_digit_of_a_hyp_is_lost(value: float) -> None:
    (word,) = Ultralytics().argv(
        Recipe(trainer="", argv=(), base={}, space={}), training(box=value)
    )[:-3]
    assert float(word.removeprefix("box=")) == value


def test_base_is_the_default_then_cfg_then_the_command_then_the_session(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("box: 5.0\ncls: 0.6\ndfl: 2\nepochs: 9\ncutmix: 0.1\n")
    (tmp_path / "hyp.yaml").write_text("dfl: 3.0\n")
    words = ("train", "cfg=my.yaml", "cls=0.7", "dfl", "=", "2.5")
    base = recipe(*words, workdir=tmp_path, hyp="hyp.yaml").base
    changed = {"box": 5.0, "cls": 0.7, "dfl": 3.0, "cutmix": 0.1}
    assert base == {**DEFAULTS, **changed}
    assert list(base) == [name for name in SPACE if name in base]
    assert recipe("train").base == DEFAULTS
    assert recipe("train", hyp={"lr0": 0.002}).base["lr0"] == 0.002


def test_space_is_the_tuners_and_reaches_where_the_user_begins() -> None:
    made = recipe("train", "optimizer=SGD", "lr0=0.05", "bgr=0.5")
    assert (made.space["lr0"].lower, made.space["lr0"].upper) == (1e-5, 0.05)
    assert made.space["bgr"] == SPACE["bgr"]
    assert made.space.keys() == made.base.keys()
    assert not made.notes[:-1]


def test_an_automatic_optimizer_chooses_lr0_and_momentum(tmp_path: Path) -> None:
    made = recipe("train")
    assert made.base.keys() - made.space.keys() == {"lr0", "momentum"}
    assert "optimizer=AdamW" in made.notes[0]
    (tmp_path / "my.yaml").write_text("optimizer: SGD\n")
    assert "lr0" in recipe("train", "cfg=my.yaml", workdir=tmp_path).space


def test_further_hyps_take_part_when_they_are_given_bounds() -> None:
    bounds = Interval(min=1.0, max=20.0)
    made = recipe("train", "pose=12", space={"pose": bounds, "cutmix": Interval(max=0.5)})
    assert (made.base["pose"], made.base["cutmix"]) == (12.0, 0.0)
    assert "pose=12" not in made.argv
    assert "pose=12" in recipe("train", "pose=12").argv


def test_a_pair_stays_in_the_command() -> None:
    made = recipe("train", "scale=(0.5,1.5)")
    assert "scale" not in made.base
    assert "scale=(0.5,1.5)" in made.argv


def test_device() -> None:
    made = recipe("train", "device=0")
    assert "device=0" not in made.argv
    assert "overwrite CUDA_VISIBLE_DEVICES" in made.notes[0]
    assert "device=cpu" in recipe("train", "device=cpu", on_gpu=False).argv
    assert recipe("train", "device=None").argv == recipe("train").argv


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "project=/other"), "but results is /runs/search"),
        (("train", "name=other"), "but results is /runs/search"),
        (("train", "data=~/x.yaml"), "data=~/x.yaml: write $HOME/x.yaml"),
        (("train", "save_dir=/other"), "leave save_dir out"),
        (("train", "resume", "model=last.pt"), "resume continues a training"),
        (("train", "resume=last.pt"), "resume continues a training"),
        (("train", "device=0,1"), "asks for several GPUs"),
        (("train", "device=[0,", "1]"), "asks for several GPUs"),
        (("train", "device=cpu"), "would leave the GPU idle"),
        (("train", "lr0=fast"), "lr0=fast: expected a number"),
        (("train", "lr0=nan"), "lr0=nan: expected a number"),
        (("train", "cfg=no.yaml"), "cfg=no.yaml: no such file"),
        (("train", "model=yolo26n-sem.pt"), "the task 'semantic' cannot be evolved"),
        (("depth", "train"), "the task 'depth' cannot be evolved"),
        (("detect", "val"), "yolo val trains nothing"),
    ],
)
def test_contradictions_are_refused_with_a_reason(words: tuple[str, ...], message: str) -> None:
    said = refusal("yolo", *words)
    assert said.startswith("sessions.yaml: sessions.demo.command: ")
    assert message in said


def test_contradictions_in_the_session() -> None:
    assert "evolve.fitness: leave it out" in refusal("train", fitness=FitnessSource())
    assert "evolve.hyp: lr: there is no such hyp; did you mean 'lr" in refusal(
        "train", hyp={"lr": 1.0}
    )
    assert "evolve.hyp: nbs: it is not tuned" in refusal("train", hyp={"nbs": 1.0})
    bounds = {"pose": Interval(min=1, max=2)}
    assert "space.pose: it has no value to begin with" in refusal("train", space=bounds)
    with pytest.raises(UsageError, match=r"evolve\.mode: yolo has no evolution of its own"):
        Ultralytics().native(session("train", mode="native"), on_gpu=True)
    wrapped = msgspec.structs.replace(session("train"), command=("./train.sh",))
    with pytest.raises(UsageError, match="command: expected yolo"):
        Ultralytics().recipe(wrapped, on_gpu=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("device: 0\n", "sets device"), ("resume: true\n", "resume"), ("lr0: 1e-3\n", "1.0e-5")],
)
def test_contradictions_in_the_cfg_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        recipe("train", "cfg=my.yaml", workdir=tmp_path)


def test_results_said_twice_is_no_contradiction() -> None:
    words = ("train", "project=/runs", "name=search", "exist_ok", "resume=False")
    assert recipe(*words).argv == recipe("train").argv


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (("train",), "mAP50-95(B)"),
        (("segment", "train"), "mAP50-95(M)"),
        (("task=pose", "train"), "mAP50-95(P)"),
        (("train", "model=yolo11n-seg.pt"), "mAP50-95(M)"),
        (("detect", "train", "model=/x/yolov8-pose-p6.yaml"), "mAP50-95(P)"),
        (("train", "model=yolo11n-obb.yaml"), "mAP50-95(B)"),
        (("segment", "train", "model=my-pose.pt"), "mAP50-95(M)"),
        (("classify", "train"), "accuracy_top5"),
    ],
)
def test_layout_follows_the_task(words: tuple[str, ...], last: str) -> None:
    layout = recipe(*words).layout
    weighted = [n for n, w in zip(layout.metrics, layout.weights, strict=True) if w]
    assert weighted[-1] == f"metrics/{last}"


def test_fitness_follows_the_release(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    program = tmp_path / "bin" / "yolo"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for release, mean in (("8.3.197", 0.1 * 0.5 + 0.9 * 0.25), ("8.3.198", 0.25)):
        (packages / f"ultralytics-{release}.dist-info").mkdir(parents=True)
        (packages / "ultralytics_thop-9.9.9.dist-info").mkdir(exist_ok=True)
        made = recipe(str(program), "train", "optimizer=SGD")
        assert made.layout.fitness((0, 0, 0.5, 0.25, 1, 1)) == pytest.approx(mean)
        assert made.notes == ()
    link = tmp_path / "elsewhere" / "yolo"
    link.parent.mkdir()
    link.write_text(f"#!{tmp_path}/bin/python3.11\n")
    assert recipe(str(link), "train", "optimizer=SGD").notes == ()
    unknown = recipe("nice", "yolo", "train", "optimizer=SGD")
    assert "fitness is mAP50-95" in unknown.notes[0]
    assert recipe("yolo", "classify", "train", "optimizer=SGD").notes == ()


def test_the_sum_of_both_kinds_and_the_mean_of_accuracies() -> None:
    segment = ultralytics_results.layout("segment", (8, 4, 190))
    assert segment.fitness((0, 0, 0, 0.5, 0, 0, 0, 0.25, 1, 1, 1)) == 0.75
    assert ultralytics_results.layout("classify").fitness((0.5, 1.0, 9.0)) == 0.75


def test_the_only_validated_epoch_counts(tmp_path: Path) -> None:
    wrote(tmp_path, HEADER, "1,0.5,1.8,0,0,0,0,0,0,0", "2,0.9,2.9,0,0,0,0,2.18,1.88,1.28")
    made = recipe("train")
    assert Ultralytics().metrics(made, training(tmp_path), "") == (0, 0, 0, 0, 2.18, 1.88)
    assert Ultralytics().completed(made, training(tmp_path)) == (0, 0, 0, 0, 2.18, 1.88)


def test_the_best_epoch_counts_whatever_the_padding(tmp_path: Path) -> None:
    lines = (HEADER, "1,1,1,.1,.2,.6,.5,3,4,5", "2,1,1,.1,.2,.3,.4,1,1,1", "3,1,1,1,1,1,nan,1,1,1")
    padded = (",".join(f"{cell:>23}" for cell in line.split(",")) for line in lines)
    wrote(tmp_path, *padded)
    assert Ultralytics().metrics(recipe("train"), training(tmp_path), "")[:4] == (
        0.1,
        0.2,
        0.6,
        0.5,
    )


def test_a_model_with_other_losses(tmp_path: Path) -> None:
    wrote(tmp_path, HEADER.replace("box_loss", "giou_loss"), "1,1,1,.1,.2,.3,.4,3,4,5")
    found = Ultralytics().metrics(recipe("train"), training(tmp_path), "")
    assert math.isnan(found[4])
    assert recipe("train").layout.fitness(found) == 0.4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "it is empty"),
        ((HEADER,), "it has no row"),
        ((HEADER, "1,2,3"), "a row has not all its numbers"),
        ((HEADER, "1,1,1,x,x,x,x,x,x,x"), "a row has not all its numbers"),
        (("epoch,metrics/mAP50(B)", "1,0.5"), "it has no column metrics/mAP50-95(B)"),
    ],
)
def test_no_result(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    folder = wrote(tmp_path / "0007", *lines)
    with pytest.raises(NoResultError) as error:
        Ultralytics().metrics(recipe("train"), training(folder), "")
    assert str(error.value).startswith("no result: 0007/results.csv: ")
    assert message in str(error.value)
    assert Ultralytics().completed(recipe("train"), training(folder)) is None


def test_a_missing_file_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(NoResultError, match="No such file"):
        Ultralytics().metrics(recipe("train"), training(tmp_path / "0007"), "")


@pytest.mark.parametrize(
    ("arguments", "tail"),
    [
        ("epochs: 3\ntime: null\n", ""),
        ("epochs: 2\ntime: 0.5\n", ""),
        ("epochs: 2\ntime: null\n", "3,1"),
        ("", ""),
    ],
)
def test_what_does_not_prove_the_end(tmp_path: Path, arguments: str, tail: str) -> None:
    row = "1,1,1,.1,.2,.3,.4,3,4,5"
    wrote(tmp_path, HEADER, row, row, arguments=arguments)
    with (tmp_path / "results.csv").open("a") as file:
        file.write(tail)
    assert Ultralytics().completed(recipe("train"), training(tmp_path)) is None


@given(data=st.data())
def test_any_prefix_of_a_results_file_proves_nothing(data: Any, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("generation")
    row = "1,1,1,.1,.2,.3,.4,3,4,5"
    wrote(folder, HEADER, row, row)
    text = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    assert Ultralytics().completed(recipe("train"), training(folder)) is None


def test_tidy_leaves_everything_but_weights(tmp_path: Path) -> None:
    wrote(tmp_path, HEADER)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "best.pt").write_text("")
    (tmp_path / "events.out.tfevents.1").write_text("")
    Ultralytics().tidy(training(tmp_path))
    Ultralytics().tidy(training(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["args.yaml", "results.csv"]


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "classify"])
def test_a_tally_knows_the_task_by_its_columns(tmp_path: Path, task: str) -> None:
    layout = ultralytics_results.layout(task)
    metrics = [0.5] * len(layout.metrics)
    history.append(tmp_path / "evolve.csv", metrics, {"lr0": 0.01}, layout)
    found = Ultralytics().tally(tmp_path)
    assert found
    assert found.best
    assert found.best.hyp == {"lr0": 0.01}
    assert found.best.fitness == layout.fitness(metrics)


def test_no_generation_yet(tmp_path: Path) -> None:
    assert Ultralytics().tally(tmp_path) == Tally()
