"""What a look at a session's command tells before it runs: the trainer's version, its data.

One module for each kind of trainer of which something is known. Nothing is run or imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError

_PYTHON = r"python[0-9.]*"
# Flags of Python with a word of their own behind them.
_WITH_WORD = ("-X", "-W", "--check-hash-based-pycs")


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """What the command says of its data, and where the trainer would look for it.

    ``root`` is what ``path:`` in the file means there. ``splits`` maps "train" and "val" to their
    paths; ``downloads`` says that the trainer would fetch what is missing. ``problem`` is why
    nothing more is known.
    """

    written: str
    file: Path | None = None
    root: Path | None = None
    splits: Mapping[str, tuple[Path, ...]] = {}
    downloads: bool = False
    problem: str | None = None


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """The weights that a training begins with; ``downloads`` that the trainer would fetch them."""

    written: str
    there: bool
    downloads: bool = False


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a session's trainer.

    ``python`` are the words that run its Python, to be followed by ``-c``; None when it cannot be
    seen. ``problem`` is why it cannot train, ``doubt`` what may be wrong.
    """

    what: str
    problem: str | None = None
    doubt: str | None = None
    python: tuple[str, ...] | None = None
    needs_torch: bool = False
    dataset: Dataset | None = None
    weights: Weights | None = None


def inspect(session: Session, trainer: str, environ: Mapping[str, str]) -> Inspection:
    """Look at a session's command. Raises UsageError when it contradicts itself."""
    if trainer == "yolov5":
        from tmuxevolve.trainers import yolov5_inspection

        return yolov5_inspection.inspect(session)
    if trainer == "ultralytics":
        from tmuxevolve.trainers import ultralytics_inspection

        return ultralytics_inspection.inspect(session, environ)
    return Inspection(what=Path(session.command[0]).name, python=python_of(session.command))


def python_of(command: Sequence[str]) -> tuple[str, ...] | None:
    """Return the Python that a command begins with, and its flags; None when it is another."""
    if not re.fullmatch(_PYTHON, Path(command[0]).name):
        return None
    words = [command[0]]
    for word in command[1:]:
        if words[-1] not in _WITH_WORD and (not word.startswith("-") or word in {"-m", "-c"}):
            break
        words.append(word)
    return tuple(words)


def dataset(written: str, file: Path, root_of: Callable[[str], Path]) -> Dataset:
    """Read a data file; ``root_of`` returns where its paths begin, from its ``path:``."""
    from tmuxevolve import yamlfile

    try:
        data = yamlfile.load(file).data
    except UsageError as error:
        return Dataset(written=written, file=file, problem=str(error))
    if not isinstance(data, dict):
        return Dataset(written=written, file=file, problem=f"{file}: no `train:` and `val:` in it")
    root = root_of(str(data.get("path") or "")).resolve()
    return Dataset(
        written=written,
        file=file,
        root=root,
        splits=_splits(data, root),
        downloads=bool(data.get("download")),
    )


def _splits(data: Mapping[str, Any], root: Path) -> dict[str, tuple[Path, ...]]:
    """Return where the images of each split are looked for, as YOLOv5 and Ultralytics do."""
    named = {"train": data.get("train"), "val": data.get("val") or data.get("validation")}
    found = {name: _paths(value, root) for name, value in named.items()}
    return {name: paths for name, paths in found.items() if paths}


def _paths(value: Any, root: Path) -> tuple[Path, ...]:
    if not isinstance(value, str):
        return tuple(root / str(part) for part in value) if isinstance(value, list) else ()
    if not value:
        return ()
    path = root / value
    # What Roboflow exports: relative to a folder below.
    return (root / value[3:],) if value.startswith("../") and not path.exists() else (path,)
