"""Look around in a folder: data, weights, environments. Nothing is run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from tmuxevolve import yamlfile
from tmuxevolve.errors import UsageError
from tmuxevolve.trainers.proposals import Folder
from tmuxevolve.trainers.yolov5_command import SCRIPT

_BESIDE = (".venv", "venv", "env")
_ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")
# Where data files are, and at most so many of them are looked into.
_DATA = ((".", "*"), ("data", "*"), ("datasets", "*"), ("datasets", "*/*"), (".", "*/data"))
_DATA_BESIDE = (("../datasets", "*"), ("../datasets", "*/*"))
_MOST = 200
_LARGEST = 256 << 10


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment of Python: its words in a command, and what is installed in it."""

    python: str
    yolo: str | None
    has_torch: bool
    beside: bool


def look(folder: Path, environ: Mapping[str, str], workers: int) -> Folder:
    """Return what is there for this many workers of a session."""
    script = folder / SCRIPT
    found = list(environments(folder, environ))
    return Folder(
        script=script if script.is_file() else None,
        python=_python(found),
        yolo=next((env.yolo for env in found if env.yolo), None) or _on_path(environ),
        data=list(_data_files(folder)),
        weights=sorted(filter(_writable, (path.name for path in _glob(folder, "*.pt")))),
        loaders=max(1, (os.cpu_count() or 1) // max(1, workers)),
    )


def environments(folder: Path, environ: Mapping[str, str]) -> Iterator[Environment]:
    """Yield the environments that belong to a folder, and those that are active."""
    active = [environ[name] for name in _ACTIVE if environ.get(name)]
    for prefix in (*_BESIDE, *active):
        path, beside = folder / prefix, prefix in _BESIDE
        if not _writable(prefix) or not os.access(path / "bin" / "python", os.X_OK):
            continue
        programs = Path(prefix) / "bin"
        yolo = programs / "yolo"
        yield Environment(
            python=str(programs / "python"),
            yolo=str(yolo) if os.access(folder / yolo, os.X_OK) else None,
            has_torch=any(_glob(path, "lib*/python3*/site-packages/torch")),
            beside=beside,
        )


def _python(found: list[Environment]) -> str | None:
    """Return the Python that has PyTorch, or else that of the folder's own environment."""
    ranked = sorted(found, key=lambda env: (not env.has_torch, not env.beside))
    best = ranked[0] if ranked else None
    return best.python if best and (best.has_torch or best.beside) else None


def _on_path(environ: Mapping[str, str]) -> str | None:
    import shutil

    found = shutil.which("yolo", path=environ.get("PATH"))
    return found if found and _writable(found) else None


def _data_files(folder: Path) -> Iterator[str]:
    """Yield the files that name images to train with, the nearest first."""
    seen: set[str] = set()
    for place, pattern in (*_DATA, *_DATA_BESIDE):
        for path in sorted(
            (*_glob(folder / place, f"{pattern}.yaml"), *_glob(folder / place, f"{pattern}.yml"))
        ):
            written = os.path.relpath(path, folder)
            if written in seen or len(seen) >= _MOST or not _writable(written):
                continue
            seen.add(written)
            if _names_images(path):
                yield written


def _names_images(path: Path) -> bool:
    try:
        if path.stat().st_size > _LARGEST:
            return False
        data = yamlfile.load(path).data
    except (OSError, UsageError):
        return False
    return isinstance(data, dict) and {"train", "names"} <= data.keys() | _counted(data)


def _counted(data: Mapping[str, object]) -> set[str]:
    """Let a number of classes do for their names, as v6.2 and older do."""
    return {"names"} if "nc" in data else set()


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from folder.glob(pattern)
    except OSError:
        return


def _writable(text: str) -> bool:
    """Say whether a name can be in a file in UTF-8: one of other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
