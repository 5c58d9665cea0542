"""What a look at a YOLOv5 checkout tells: which version, which options, where the data would be.

Facts are from train.py, utils/general.py and utils/downloads.py at v6.0, v6.1, v6.2, v7.0 and at
master (5081342, August 2026).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tmuxevolve.config import Session
from tmuxevolve.trainers.inspection import Dataset, Inspection, Weights, dataset, python_of
from tmuxevolve.trainers.yolov5_command import MODULE, YoloCommand

NAME = "YOLOv5"
# What came into train.py with a version, newest first.
_MARKS = (
    ("--evolve_population", "master (since December 2023)"),
    ("TQDM_BAR_FORMAT", "v7.0"),
    ("--noplots", "v6.2"),
    ("--cos-lr", "v6.1"),
    ("--linear-lr", "v6.0"),
)
_OPTION = r"""["'](--[A-Za-z][\w-]*)["']"""
# Its own data files, by name; coco8 is the one of Ultralytics' first steps.
_SHIPPED = (
    r"coco(8|128)?(-seg|-pose)?|Argoverse|GlobalWheat2020|ImageNet(10|100|1000)?|Objects365"
    r"|SKU-110K|VisDrone|VOC|xView"
)
_RELEASED = r"yolov5[nsmlx]6?(-seg|-cls)?\.pt"
_LIBRARY = ("utils", "general.py")


def version(script: Path) -> str | None:
    """Return which YOLOv5 a train.py is of; "" for an unknown one, None when it is none."""
    text = _text(script)
    if NAME not in text[:2000] or "parse_opt" not in text:
        return None
    return next((name for mark, name in _MARKS if mark in text), "")


def options(script: Path) -> frozenset[str]:
    """Return the options that a train.py has."""
    return frozenset(re.findall(_OPTION, _text(script)))


def is_shipped(path: Path) -> bool:
    """Say whether a data file is one that comes with YOLOv5 or Ultralytics."""
    return re.fullmatch(_SHIPPED, path.stem) is not None


def inspect(session: Session) -> Inspection:
    """Look at what a session's command would run."""
    command = YoloCommand(session, also=("--data", "--weights"))
    script, at = command.script(), command.interpreted()
    python = python_of(session.command) if at is None else command.words[:at]
    if script is None and MODULE not in command.words:
        # Another program that keeps YOLOv5's contract.
        return Inspection(what="a program with YOLOv5's options and files", python=python)
    if script is None:
        return Inspection(what=f"{NAME}, the package", python=python, needs_torch=True)
    if not script.is_file():
        problem = f"{script}: no such file; workdir is where the command runs"
        return Inspection(what=NAME, problem=problem, python=python, needs_torch=True)
    found = version(script)
    is_classify = script.parent.name == "classify"
    return Inspection(
        what=f"{NAME} {found}" if found else f"{script.name} of an unknown version",
        doubt=_doubt(found),
        python=python,
        needs_torch=True,
        dataset=None if is_classify or found is None else _dataset(command, _root(script)),
        weights=None if found is None else _weights(command, _root(script)),
    )


def _doubt(found: str | None) -> str | None:
    if found is None:
        return "nothing in it says that it is YOLOv5's; for another program: trainer: command"
    return None if found else "it is none of v6.0 to v7.0 nor master"


def _root(script: Path) -> Path:
    """Return the checkout's folder, which is also that of segment/train.py."""
    folders = (script.parent, script.parent.parent)
    return next((f for f in folders if f.joinpath(*_LIBRARY).exists()), folders[0])


def _dataset(command: YoloCommand, root: Path) -> Dataset:
    written: str = getattr(command.known, "data", str(root / "data" / "coco128.yaml"))
    if "://" in written or written.endswith((".zip", ".tar", ".gz")):
        return Dataset(written=written, problem="an archive or an address, which YOLOv5 unpacks")
    found = [path for path in _places(command.session.workdir, root, written) if path.is_file()]
    if not found:
        return Dataset(written=written)
    return dataset(written, found[0], lambda path: root / path)


def _places(workdir: Path, root: Path, written: str) -> Iterator[Path]:
    """Yield where check_file() looks."""
    yield workdir / written
    if not Path(written).is_absolute():
        for folder in ("data", "models", "utils"):
            yield from sorted(root.joinpath(folder).glob(f"**/{_literal(written)}"))


def _literal(written: str) -> str:
    """Return a pattern for one file: `[` and `*` in a name are themselves."""
    import glob

    return glob.escape(written.removeprefix("./")) or "-"


def _weights(command: YoloCommand, root: Path) -> Weights | None:
    written: str | None = getattr(command.known, "weights", None)
    if written == "":
        return None
    default = root / "yolov5s.pt"
    path = default if written is None else command.session.workdir / written
    downloads = re.fullmatch(_RELEASED, path.name) is not None or "://" in (written or "")
    return Weights(written=written or default.name, there=path.exists(), downloads=downloads)


def _text(script: Path) -> str:
    try:
        return script.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
