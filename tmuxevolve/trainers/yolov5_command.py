"""What a pasted YOLOv5 command says, as far as it concerns tmuxevolve.

Facts about YOLOv5 are from its train.py at v6.0, v7.0 and at master (5081342, August 2026).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError
from tmuxevolve.trainers import GENERATIONS

SCRIPT = "train.py"
MODULE = "yolov5.train"
# The option that came with the genetic algorithm in December 2023, whose population is private to
# each process.
_GENETIC = "--evolve_population"
# The names of train.py's own default, newest first.
_DEFAULT_HYPS = ("hyp.scratch-low.yaml", "hyp.scratch.yaml")
_PYTHON = r"python[0-9.]*"


class _Parser(argparse.ArgumentParser):
    """Reads YOLOv5's options as YOLOv5 does, abbreviations included."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class YoloCommand:
    """A session's command: what it says about results and hyps, and the rest of its words."""

    def __init__(self, session: Session, *, also: tuple[str, ...] = ()) -> None:
        """Take the command apart; ``also`` are further options to take out of it.

        Raises UsageError when an option is not what YOLOv5 takes.
        """
        parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
        for option in ("--project", "--name", "--device", *also):
            parser.add_argument(option)
        parser.add_argument("--exist-ok", action="store_true")
        parser.add_argument("--resume", nargs="?", const=None)
        parser.add_argument("--evolve", nargs="?", type=int, const=GENERATIONS)
        self.session = session
        try:
            self.known, rest = parser.parse_known_args(session.command[1:])
        except UsageError as error:
            raise self.conflict(str(error)) from None
        self.words = (*session.command[:1], *rest)
        self._check_directory()

    def conflict(self, what: str) -> UsageError:
        """Return an error about the session's command."""
        return UsageError(f"{self.session.source}: sessions.{self.session.name}.command: {what}")

    def generations(self) -> int:
        """Return how many generations the session wants, here or there."""
        wanted = self.session.evolve.generations
        written: int | None = getattr(self.known, "evolve", None)
        if wanted and written and wanted != written:
            raise self.conflict(
                f"--evolve {written}, but evolve.generations is {wanted}: leave one of them out"
            )
        return wanted or written or GENERATIONS

    def device(self, *, on_gpu: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what stays of ``--device``, and notes.

        It would overwrite CUDA_VISIBLE_DEVICES in the trainer.
        """
        device: str = getattr(self.known, "device", "")
        if device == "cpu" and not on_gpu:
            return ("--device", device), ()
        if device == "cpu":
            raise self.conflict("--device cpu would leave the GPU idle: use gpus.use: none instead")
        if "," in device:
            raise self.conflict(
                f"--device {device} asks for several GPUs, but every window has one of its own:"
                " leave it out and name GPUs in gpus.use",
            )
        if not device:
            return (), ()
        note = (
            f"--device {device} is left out of the command: it would overwrite"
            " CUDA_VISIBLE_DEVICES and put every window on that GPU"
        )
        return (), (note,)

    def hyp_file(self) -> Path:
        """Return the file that ``--hyp`` names, looked for as YOLOv5's check_yaml() does."""
        written: str | None = getattr(self.known, "hyp", None)
        names = (written,) if written else _DEFAULT_HYPS
        found = next(
            (path for name in names for path in self._places(name) if path.is_file()), None
        )
        if found is None and written:
            raise self.conflict(f"--hyp {written}: no such file")
        if found is None:
            raise self.conflict("name the hyps to begin with: --hyp FILE")
        return found

    def is_yolov5(self) -> bool:
        """Say whether this is YOLOv5 itself, not another program that keeps its contract."""
        return self.script() is not None or MODULE in self.words

    def script(self) -> Path | None:
        """Return the train.py of the command, if it has one."""
        name = next((word for word in self.words if Path(word).name == SCRIPT), None)
        return self.session.workdir / name if name else None

    def says(self, text: str) -> bool:
        """Say whether the checkout's train.py contains this."""
        script = self.script()
        try:
            return script is not None and text in script.read_text(errors="replace")
        except OSError:
            return False

    def is_genetic(self) -> bool:
        """Say whether ``--evolve`` is the genetic algorithm of December 2023."""
        return self.says(_GENETIC)

    def interpreted(self) -> int | None:
        """Return where, in the words, a Python begins to run YOLOv5; None when none is to be seen.

        The words there are ``train.py`` or ``-m yolov5.train``, right after a Python and its flags.
        """
        words = self.words
        for at, word in enumerate(words):
            module = word == "-m" and words[at + 1 : at + 2] == (MODULE,)
            if (module or Path(word).name == SCRIPT) and self._follows_python(at):
                return at
        return None

    def _follows_python(self, at: int) -> bool:
        for word in reversed(self.words[:at]):
            if re.fullmatch(_PYTHON, Path(word).name):
                return True
            if not word.startswith("-") or word in {"-m", "-c"}:
                return False
        return False

    def _places(self, name: str) -> Iterator[Path]:
        yield self.session.workdir / name
        script = self.script()
        if script:
            yield script.parent / name
            yield from sorted(script.parent.glob(f"data/**/{Path(name).name}"))

    def _check_directory(self) -> None:
        known, results = self.known, self.session.results
        if getattr(known, "resume", None):
            raise self.conflict(f"--resume {known.resume} continues a training, not an evolution")
        if "project" in known or "name" in known:
            project = self.session.workdir / getattr(known, "project", "runs/evolve")
            written = project / getattr(known, "name", "exp")
            if written.resolve() != results.resolve():
                raise self.conflict(
                    f"--project and --name lead to {written}, but results is {results}:"
                    " leave both out, results sets them",
                )
        if results.name == "cfg":
            raise self.conflict("YOLOv5 replaces the name 'cfg': call the results otherwise")
