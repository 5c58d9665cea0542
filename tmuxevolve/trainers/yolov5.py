"""YOLOv5's train.py, and programs that keep its contract.

Facts about YOLOv5 are from its train.py at v7.0 and at master (5081342, August 2026).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError
from tmuxevolve.study import history
from tmuxevolve.trainers import Native

_SCRIPT = "train.py"
_MODULE = "yolov5.train"
# The option that came with the genetic algorithm in December 2023, whose population is private to
# each process.
_GENETIC = "--evolve_population"
_GENERATIONS = 300


class YoloV5:
    """YOLOv5's own ``--evolve`` on a shared ``--project``/``--name``."""

    name = "yolov5"
    # v7.0 seeds each mutation with the whole second: workers must not draw in the same one.
    stagger = 3.0

    def detects(self, command: Sequence[str]) -> bool:
        """Recognise ``train.py`` by its name, and the PyPI package's module."""
        return any(Path(word).name == _SCRIPT or word == _MODULE for word in command)

    def native(self, session: Session, *, on_gpu: bool) -> Native:
        """Return the command with the shared directory and ``--evolve``.

        ``--resume`` is added because with ``--evolve`` it is what sets exist-ok.
        """
        known, rest = _parse(session)
        _check_directory(known, session)
        device, notes = _device(known, session, on_gpu=on_gpu)
        argv = (*session.command[:1], *rest, *device, *_directory(session.results))
        evolve = ("--evolve", str(_generations(known, session)))
        return Native((*argv, *evolve), (*notes, *_warnings(session)))

    def history(self, results: Path) -> history.History | None:
        """Read the shared evolve.csv."""
        return history.read(results / "evolve.csv")


class _Parser(argparse.ArgumentParser):
    """Reads YOLOv5's options as YOLOv5 does, abbreviations included."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parse(session: Session) -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for option in ("--project", "--name", "--device"):
        parser.add_argument(option)
    parser.add_argument("--exist-ok", action="store_true")
    parser.add_argument("--resume", nargs="?", const=None)
    parser.add_argument("--evolve", nargs="?", type=int, const=_GENERATIONS)
    try:
        return parser.parse_known_args(session.command[1:])
    except UsageError as error:
        raise _conflict(session, str(error)) from None


def _check_directory(known: argparse.Namespace, session: Session) -> None:
    if getattr(known, "resume", None):
        raise _conflict(session, f"--resume {known.resume} continues a training, not an evolution")
    if "project" in known or "name" in known:
        project = session.workdir / getattr(known, "project", "runs/evolve")
        written = project / getattr(known, "name", "exp")
        if written.resolve() != session.results.resolve():
            raise _conflict(
                session,
                f"--project and --name lead to {written}, but results is {session.results}:"
                " leave both out, results sets them",
            )
    if session.results.name == "cfg":
        raise _conflict(session, "YOLOv5 replaces the name 'cfg': call the results otherwise")


def _directory(results: Path) -> tuple[str, ...]:
    return ("--project", str(results.parent), "--name", results.name, "--exist-ok", "--resume")


def _generations(known: argparse.Namespace, session: Session) -> int:
    wanted = session.evolve.generations
    written: int | None = getattr(known, "evolve", None)
    if wanted and written and wanted != written:
        raise _conflict(
            session,
            f"--evolve {written}, but evolve.generations is {wanted}: leave one of them out",
        )
    return wanted or written or _GENERATIONS


def _device(
    known: argparse.Namespace, session: Session, *, on_gpu: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what stays of ``--device``: it would overwrite CUDA_VISIBLE_DEVICES in the trainer."""
    device: str = getattr(known, "device", "")
    if device == "cpu" and not on_gpu:
        return ("--device", device), ()
    if device == "cpu":
        raise _conflict(
            session, "--device cpu would leave the GPU idle: use gpus.use: none instead"
        )
    if "," in device:
        raise _conflict(
            session,
            f"--device {device} asks for several GPUs, but every window has one of its own:"
            " leave it out and name GPUs in gpus.use",
        )
    if device:
        note = (
            f"--device {device} is left out of the command: it would overwrite"
            " CUDA_VISIBLE_DEVICES and put every window on that GPU"
        )
        return (), (note,)
    return (), ()


def _warnings(session: Session) -> tuple[str, ...]:
    script = next((word for word in session.command if Path(word).name == _SCRIPT), None)
    if script and _mentions(session.workdir / script, _GENETIC):
        return (
            "this YOLOv5's --evolve is the genetic algorithm of December 2023: every window evolves"
            " a population of its own and does not learn from the others; each of its generations"
            " is 50 trainings (YOLOv5 v7.0 shares its results)",
        )
    return ()


def _mentions(script: Path, text: str) -> bool:
    try:
        return text in script.read_text(errors="replace")
    except OSError:
        return False


def _conflict(session: Session, what: str) -> UsageError:
    return UsageError(f"{session.source}: sessions.{session.name}.command: {what}")
