"""What the yolov5 trainer makes of a pasted command, without running it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import trainer_session

from tmuxevolve import trainers
from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError
from tmuxevolve.trainers.yolov5 import YoloV5

ADDED = ("--project", "/runs", "--name", "search", "--exist-ok", "--resume")


def session(*words: str, workdir: str = "/yolo", generations: int | None = None) -> Session:
    command = ("python", "train.py", *words)
    native = {"mode": "native", "generations": generations}
    return trainer_session(*command, workdir=Path(workdir), **native)


def argv(*words: str, on_gpu: bool = True, generations: int | None = None) -> tuple[str, ...]:
    native = YoloV5().native(session(*words, generations=generations), on_gpu=on_gpu)
    python, runner, script, *rest = native.argv
    assert (python, Path(runner).name, script) == ("python", "yolov5_native.py", "train.py")
    return tuple(rest)


def refusal(*words: str, on_gpu: bool = True, generations: int | None = None) -> str:
    with pytest.raises(UsageError) as error:
        argv(*words, on_gpu=on_gpu, generations=generations)
    assert str(error.value).startswith("sessions.yaml: sessions.demo.command: ")
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "generations", "evolve"),
    [
        ((), None, "300"),
        (("--evolve",), None, "300"),
        (("--evolve", "60"), None, "60"),
        (("--evolve=60",), None, "60"),
        (("--evo", "60"), None, "60"),
        ((), 7, "7"),
        (("--evolve", "7"), 7, "7"),
        (("--resume", "--exist-ok"), 7, "7"),
        (("--project", "/runs", "--name", "search"), 7, "7"),
        (("--project=../runs", "--name", "search"), 7, "7"),
    ],
)
def test_shared_directory_and_evolve(
    words: tuple[str, ...], generations: int | None, evolve: str
) -> None:
    expected = (*ADDED, "--evolve", evolve)
    assert argv("--data", "x.yaml", *words, "--img", "64", generations=generations) == (
        "--data",
        "x.yaml",
        "--img",
        "64",
        *expected,
    )


def test_device_is_left_out_and_explained() -> None:
    native = YoloV5().native(session("--device", "0", "--data", "x"), on_gpu=True)
    assert "--device" not in native.argv
    assert "overwrite CUDA_VISIBLE_DEVICES" in native.notes[0]
    assert argv("--device", "cpu", on_gpu=False)[:2] == ("--device", "cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--project", "/other"), "but results is /runs/search"),
        (("--name", "other"), "but results is /runs/search"),
        (("--evolve", "60"), "--evolve 60, but evolve.generations is 5"),
        (("--evolve", "many"), "invalid int value: 'many'"),
        (("--resume", "last.pt"), "--resume last.pt continues a training"),
        (("--device", "0,1"), "asks for several GPUs"),
        (("--device", "cpu"), "would leave the GPU idle"),
    ],
)
def test_contradictions_are_refused_with_a_reason(words: tuple[str, ...], message: str) -> None:
    assert message in refusal(*words, generations=5)


def test_results_named_cfg() -> None:
    hostile = msgspec.structs.replace(session(), results=Path("/runs/cfg"))
    with pytest.raises(UsageError, match="YOLOv5 replaces the name 'cfg'"):
        YoloV5().native(hostile, on_gpu=True)


def test_genetic_evolve_is_warned_about(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text('parser.add_argument("--evolve")')
    quiet = session(workdir=str(tmp_path))
    assert YoloV5().native(quiet, on_gpu=True).notes == ()
    script.write_text('parser.add_argument("--evolve_population")')
    (note,) = YoloV5().native(quiet, on_gpu=True).notes
    assert "does not learn from the others" in note


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["python", "train.py"], "yolov5"),
        (["/env/bin/python", "-u", "/src/yolov5/train.py", "--x"], "yolov5"),
        (["python", "-m", "yolov5.train"], "yolov5"),
        (["python", "mytrain.py"], "command"),
    ],
)
def test_detection(command: list[str], name: str) -> None:
    assert trainers.find(None, command).name == name
    assert trainers.find("command", command).name == "command"


WORDS = st.sampled_from(
    [
        "--data",
        "x.yaml",
        "--imgsz",
        "640",
        "-1",
        "--workers=8",
        "",
        "a b",
        "--noautoanchor",
        "--hyp",
    ]
)


@given(st.lists(WORDS))
def test_all_other_words_stay_in_their_order(words: list[str]) -> None:
    assert argv(*words, generations=3) == (*words, *ADDED, "--evolve", "3")
