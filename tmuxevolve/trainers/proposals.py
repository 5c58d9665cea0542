"""The command that a folder seems to be made for: what `init` writes where nobody says one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve.trainers import yolov5_inspection
from tmuxevolve.trainers.yolov5_command import SCRIPT

EPOCHS = 10
_BATCH = 16
_SIZE = 640
_YOLOV5 = r"yolov5[nsmlx]6?\.pt"
_USUAL = frozenset({"--data", "--weights", "--epochs", "--batch-size", "--imgsz", "--workers"})
_TRIAL_DATA = "data/coco128.yaml"


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: paths as they are to be written, the best of each first.

    ``python`` and ``yolo`` are None where no environment has them; ``loaders`` is how many
    processes one worker has cores for.
    """

    script: Path | None
    python: str | None
    yolo: str | None
    data: Sequence[str]
    weights: Sequence[str]
    loaders: int


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A session's beginning: ``todo`` is what to change, by the word of the command or key.

    ``also`` is what else was found for a word, ``added`` what the command must not say itself.
    ``evolve`` are its keys beyond the budget, as YAML.
    """

    trainer: str
    what: str
    words: tuple[str, ...]
    added: str | None = None
    data: str | None = None
    weights: str | None = None
    todo: Mapping[str, str] = {}
    also: Mapping[str, str] = {}
    evolve: Mapping[str, str] = {}


def propose(folder: Folder) -> Proposal:
    """Return what to write for this folder."""
    version = yolov5_inspection.version(folder.script) if folder.script else None
    if folder.script and version is not None:
        what = f"YOLOv5 {version or '(of an unknown version)'}: {SCRIPT} in this folder"
        return _yolov5(folder, what, yolov5_inspection.options(folder.script), {})
    if folder.script:
        return _program(folder)
    if folder.yolo:
        return _ultralytics(folder, folder.yolo)
    todo = {"workdir": f"there is no {SCRIPT} in this folder: add workdir: with YOLOv5's folder"}
    return _yolov5(folder, "nothing to train with in this folder", _USUAL, todo)


def _yolov5(
    folder: Folder, what: str, options: frozenset[str], todo: Mapping[str, str]
) -> Proposal:
    weights = sorted(folder.weights, key=lambda name: not re.fullmatch(_YOLOV5, name))
    data = _own(folder.data)
    wanted = {
        "--data": _first(data, _TRIAL_DATA),
        "--weights": _first(weights, "yolov5s.pt"),
        "--epochs": str(EPOCHS),
        "--batch-size": str(_BATCH),
        "--imgsz": str(_SIZE),
        **_loaders("--workers", folder.loaders),
    }
    words = [word for name, value in wanted.items() if name in options for word in (name, value)]
    return Proposal(
        trainer="yolov5",
        what=what,
        words=(folder.python or "python", SCRIPT, *words),
        added="--project, --name and --device",
        data=wanted["--data"],
        weights=wanted["--weights"],
        todo={
            **todo,
            **_python_unknown(folder),
            **_lacking("--data", data, "with this one YOLOv5 fetches 128 images of COCO"),
            **_lacking("--weights", weights, "YOLOv5 fetches these, in every window"),
        },
        also={**_others("--data", data), **_others("--weights", weights)},
    )


def _ultralytics(folder: Folder, yolo: str) -> Proposal:
    data = _own(folder.data)
    wanted = {
        "model=": _first(folder.weights, "yolo11n.pt"),
        "data=": _first(data, "coco8.yaml"),
        "epochs=": str(EPOCHS),
        "imgsz=": str(_SIZE),
        **_loaders("workers=", folder.loaders),
    }
    return Proposal(
        trainer="ultralytics",
        what=f"Ultralytics: {yolo}",
        words=(yolo, "train", *(f"{name}{value}" for name, value in wanted.items())),
        added="project=, name= and device=",
        data=wanted["data="],
        weights=wanted["model="],
        todo={
            **_lacking("data=", data, "with this one Ultralytics fetches 8 images of COCO"),
            **_lacking("model=", folder.weights, "Ultralytics fetches these, in every window"),
        },
        also={**_others("data=", data), **_others("model=", folder.weights)},
    )


def _program(folder: Folder) -> Proposal:
    """Return what any program needs: hyps to begin with, and where its fitness is."""
    return Proposal(
        trainer="command",
        what=f"{SCRIPT} in this folder, which is not YOLOv5's",
        words=(folder.python or "python", SCRIPT, "--lr", "{hyp.lr}"),
        todo={
            **_python_unknown(folder),
            "{hyp.lr}": "give each hyp to the program as it reads it; {hyp} is a YAML file of all",
            "hyp, space": "the hyps to begin with, and how far each may go",
            "fitness": "where the program says how good its hyps were; here in what it prints",
        },
        evolve={
            "hyp": "{lr: 0.01}",
            "space": "{lr: {gain: 1, min: 0.0001, max: 0.1}}",
            "fitness": "{pattern: 'fitness: ([0-9.]+)', direction: maximize}",
        },
    )


def _first(found: Sequence[str], default: str) -> str:
    return found[0] if found else default


def _loaders(name: str, loaders: int) -> dict[str, str]:
    """Return how many processes load images, where their own number is too many: 8 a worker."""
    return {name: str(loaders)} if loaders < 8 else {}


def _own(data: Sequence[str]) -> list[str]:
    """Return the data files that are the user's own."""
    return [name for name in data if not yolov5_inspection.is_shipped(Path(name))]


def _lacking(name: str, found: Sequence[str], default: str) -> dict[str, str]:
    return {} if found else {name: f"none of yours was found; {default}"}


def _others(name: str, found: Sequence[str]) -> dict[str, str]:
    others = ", ".join(found[1:4]) + (", ..." if found[4:] else "")
    return {name: f"also found: {others}"} if others else {}


def _python_unknown(folder: Folder) -> dict[str, str]:
    if folder.python:
        return {}
    return {"python": "no environment with PyTorch was found: give the path of its python"}
