"""What a look at an Ultralytics installation tells: its version, and where the data would be.

Facts are from data/utils.py and utils/__init__.py at 8.0.239 to 8.4.190.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tmuxevolve.config import Session
from tmuxevolve.trainers.inspection import Dataset, Inspection, Weights, dataset, python_of
from tmuxevolve.trainers.ultralytics_command import MODULE, UltralyticsCommand

NAME = "Ultralytics"
_RELEASED = r"(yolo|rtdetr|sam|mobile_sam|fastsam).*\.pt"
# What pip writes for an interpreter whose path a #! line cannot hold.
_LONG = r"""'''exec' ["']?(.+?)["']? "\$0" "\$@"\n"""


def inspect(session: Session, environ: Mapping[str, str]) -> Inspection:
    """Look at what a session's command would run."""
    command = UltralyticsCommand(session)
    executable, release = command.executable(), command.release()
    number = ".".join(map(str, release or ()))
    problem = None
    if executable is None and command.program[0] == command.program[-1]:
        problem = f"{command.program[0]}: not on the PATH; give the path of the environment's yolo"
    elif executable and not executable.is_file():
        problem = f"{executable}: no such file"
    return Inspection(
        what=f"{NAME} {number}".strip(),
        problem=problem,
        python=_python(command, executable),
        needs_torch=True,
        dataset=_dataset(command, {**environ, **session.env}),
        weights=_weights(command),
    )


def interpreter(program: Path) -> Path | None:
    """Return the Python that an installed program runs on; None when it does not say."""
    try:
        with program.open(encoding="utf-8", errors="surrogateescape") as file:
            first, second = file.readline(4096), file.readline(4096)
    except OSError:
        return None
    long = re.fullmatch(_LONG, second) if first.rstrip() == "#!/bin/sh" else None
    path = long[1] if long else first[2:].rstrip("\n") if first.startswith("#!/") else ""
    return Path(path) if Path(path).name.startswith("python") else None


def _python(command: UltralyticsCommand, executable: Path | None) -> tuple[str, ...] | None:
    if command.program[-1] == MODULE:
        return python_of(command.program)
    found = interpreter(executable) if executable else None
    return (str(found),) if found else None


def _dataset(command: UltralyticsCommand, environ: Mapping[str, str]) -> Dataset | None:
    written, workdir = command.setting("data"), command.session.workdir
    if not written:
        return None
    if "://" in written or written.startswith("["):
        return Dataset(written=written, problem="more than one file, or an address")
    if command.task == "classify":
        return _folder(written, workdir, environ)
    file = workdir / written
    if not file.is_file():
        # A name alone: one of its own, which are in the package.
        ours = "/" not in written
        return Dataset(written=written, problem="a data set of Ultralytics' own" if ours else None)
    return dataset(written, file, lambda path: _root(path, file, workdir, environ))


def _root(path: str, file: Path, workdir: Path, environ: Mapping[str, str]) -> Path:
    if not path:
        return file.parent
    there = workdir / path
    return there if there.exists() else _datasets(workdir, environ) / path


def _folder(written: str, workdir: Path, environ: Mapping[str, str]) -> Dataset:
    """Return a data set of images by class: a folder here, or in that of all data sets."""
    folders = (workdir / written, _datasets(workdir, environ) / written)
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        return Dataset(written=written, downloads="/" not in written)
    return Dataset(written=written, file=found, root=found, splits={"train": (found / "train",)})


def _datasets(workdir: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder of all data sets, as the user's settings of Ultralytics say."""
    home = Path(environ.get("HOME", "~")).expanduser()
    places = (environ.get("YOLO_CONFIG_DIR"), environ.get("XDG_CONFIG_HOME"), str(home / ".config"))
    found = (_in_settings(Path(place) / NAME / "settings.json") for place in places if place)
    return workdir / next(filter(None, found), "datasets")


def _in_settings(file: Path) -> str | None:
    try:
        return str(msgspec.json.decode(file.read_bytes())["datasets_dir"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None


def _weights(command: UltralyticsCommand) -> Weights | None:
    written = command.setting("model")
    if not written.endswith(".pt"):
        return None
    path = command.session.workdir / written
    released = "/" not in written and re.fullmatch(_RELEASED, written.lower()) is not None
    return Weights(written=written, there=path.exists(), downloads=released or "://" in written)
