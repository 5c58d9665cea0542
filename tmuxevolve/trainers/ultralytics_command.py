"""What a pasted `yolo` command says, as far as it concerns tmuxevolve.

Facts about Ultralytics are from its cfg/__init__.py and utils/torch_utils.py at 8.0.239, 8.1.47,
8.2.103, 8.3.0, 8.3.253, 8.4.0 and 8.4.190.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError

PROGRAMS = ("yolo", "ultralytics")
MODULE = "ultralytics.cfg.__init__"
_TASKS = ("detect", "segment", "classify", "pose", "obb")
_OTHER_TASKS = ("semantic", "depth")
_MODES = ("train", "val", "predict", "export", "track", "benchmark")
# The model decides what the task is, whatever the command says, and a model's name says it too.
_MODEL = r"yolo.*-(seg|cls|pose|obb|sem|depth)\b.*"
_OF_MODEL = {"seg": "segment", "cls": "classify", "sem": "semantic"}
# Bare words that mean name=True, of those that are of interest here.
_FLAGS = ("resume", "exist_ok", "plots", "save", "val")
# What sets the results, and is written anew for every generation.
_PLACE = ("project", "name", "exist_ok", "resume")
_NO = ("", "none", "false", "0")
_RELEASE = r"ultralytics-(\d+)\.(\d+)\.(\d+)\b.*"


class UltralyticsCommand:
    """A session's command: the words before its arguments, and the arguments, some by name."""

    def __init__(self, session: Session) -> None:
        """Take the command apart. Raises UsageError when it does not train, or contradicts."""
        self.session = session
        self._begin = _program(session.command)
        if self._begin is None:
            raise self.conflict("expected yolo, or python -m ultralytics.cfg.__init__")
        self.program = session.command[: self._begin + 1]
        parts = tuple(_parts(session.command[self._begin + 1 :]))
        self.arguments = tuple(map(_merged, parts))
        shown = (_merged(session.shown(part)) for part in parts)
        self._shown = dict(zip(self.arguments, shown, strict=True))
        self.values = dict(_named(self.arguments))
        self._check_mode()
        self._check_paths()
        self._check_directory()

    def conflict(self, what: str) -> UsageError:
        """Return an error about the session's command."""
        return UsageError(f"{self.session.source}: sessions.{self.session.name}.command: {what}")

    def says(self, name: str) -> bool:
        """Say whether the command itself sets this."""
        return name in self.values

    @property
    def optimizer(self) -> str:
        """Return the optimizer's name; `auto` is the default."""
        return self.setting("optimizer") or "auto"

    @property
    def is_timed(self) -> bool:
        """Say whether the training ends after some hours, and not after some epochs."""
        return self.setting("time").lower() not in _NO[:2]

    @property
    def task(self) -> str:
        """Return the task: the model's name says it, or else the command; the default is detect."""
        model = re.fullmatch(_MODEL, Path(self.setting("model")).stem.lower())
        by_model = _OF_MODEL.get(model[1], model[1]) if model else None
        bare = next((w for w in self.arguments if w in (*_TASKS, *_OTHER_TASKS)), None)
        task = by_model or bare or self.setting("task") or "detect"
        if task not in _TASKS:
            raise self.conflict(f"the task {task!r} cannot be evolved: {', '.join(_TASKS)} can")
        return task

    def without(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the command without these arguments, and without those that set the results."""
        out = {*names, *_PLACE, "device"}
        left = (word for word in self.arguments if (_name(word) or word) not in out)
        return (*self.program, *left)

    def shown(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return words of this command for people to see: values of ``env`` may be secrets."""
        return tuple(self._shown.get(word, word) for word in self.session.shown(words))

    def device(self, *, on_gpu: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what stays of ``device=``, and notes.

        Up to 8.4.0 at least it overwrites CUDA_VISIBLE_DEVICES in the trainer; in 8.4.190 it counts
        the visible ones, and the window sees one.
        """
        device = self.values.get("device", "").strip("[]()'\" ").lower()
        if device in {"", "none"}:
            return (), ()
        if device == "cpu" and not on_gpu:
            return ("device=cpu",), ()
        if device == "cpu":
            raise self.conflict("device=cpu would leave the GPU idle: use gpus.use: none instead")
        if "," in device:
            raise self.conflict(
                f"device={device} asks for several GPUs, but every window has one of its own:"
                " leave it out and name GPUs in gpus.use",
            )
        note = (
            f"device={device} is left out of the command: most versions of Ultralytics would"
            " overwrite CUDA_VISIBLE_DEVICES with it and put every window on that GPU"
        )
        return (), (note,)

    def cfg_file(self) -> Path | None:
        """Return the file that ``cfg=`` names; None when the command has none."""
        written = self.values.get("cfg")
        if not written or written.lower() == "none":
            return None
        path = self.session.workdir / written
        if not path.is_file():
            raise self.conflict(f"cfg={written}: no such file; give its full path")
        return path

    def release(self) -> tuple[int, ...] | None:
        """Return the version that the command would run, such as (8, 4, 190); None if unknown.

        It is looked up beside the program, and nothing is run or imported.
        """
        executable = self.executable()
        folders = set(_prefixes(executable)) if executable else set()
        places = (f.glob("lib*/python3*/*-packages/ultralytics-*.dist-info") for f in folders)
        found = (re.fullmatch(_RELEASE, path.name) for place in places for path in place)
        return max((tuple(map(int, match.groups())) for match in found if match), default=None)

    def executable(self) -> Path | None:
        """Return the program's file, or its interpreter's. Behind another program it is unknown."""
        import shutil

        word = self.program[-1]
        if word == MODULE:
            word = next((w for w in self.program[::-1] if Path(w).name.startswith("python")), word)
        if "/" in word:
            return self.session.workdir / word
        path = self.session.env.get("PATH", os.environ.get("PATH"))
        found = shutil.which(word, path=path) if word == self.program[0] else None
        return Path(found) if found else None

    def setting(self, name: str) -> str:
        """Return what the command says, or else its cfg= file; nothing when neither does."""
        return self.values.get(name) or self._in_cfg(name)

    def _in_cfg(self, name: str) -> str:
        from tmuxevolve import yamlfile

        path = self.cfg_file()
        data = yamlfile.load(path).data if path else None
        value = data.get(name) if isinstance(data, dict) else None
        return "" if value is None else str(value)

    def _check_mode(self) -> None:
        bare = next((word for word in self.arguments if word in _MODES), "train")
        mode = self.values.get("mode", bare)
        if mode != "train":
            raise self.conflict(f"yolo {mode} trains nothing: write yolo train")

    def _check_paths(self) -> None:
        """Refuse what bash fills in behind a `=`: nobody does here, Ultralytics neither."""
        for name, value in self.values.items():
            if value.startswith("~/"):
                raise self.conflict(f"{name}={value}: write $HOME{value[1:]}, or the whole path")

    def _check_directory(self) -> None:
        values, results = self.values, self.session.results
        if self.setting("resume").lower() not in _NO:
            raise self.conflict("resume continues a training, not an evolution: leave it out")
        if self.setting("save_dir"):
            raise self.conflict("leave save_dir out: results sets it")
        if self._in_cfg("device").lower() not in _NO[:2]:
            raise self.conflict(f"cfg={values['cfg']} sets device: leave it out there")
        if not {"project", "name"} & values.keys():
            return
        project = self.session.workdir / values.get("project", "runs")
        written = project / values.get("name", "train")
        if written.resolve() != results.resolve():
            raise self.conflict(
                f"project and name lead to {written}, but results is {results}:"
                " leave both out, results sets them",
            )


def trains(command: Sequence[str]) -> bool:
    """Say whether a command runs Ultralytics' training."""
    begin = _program(command)
    if begin is None:
        return False
    words = {_merged(parts).lstrip("-") for parts in _parts(command[begin + 1 :])}
    return bool(words & {"train", "mode=train"})


def _program(command: Sequence[str]) -> int | None:
    """Return where the program's name is: the last one, as in `conda run -n yolo yolo train`."""
    names = (
        at
        for at, word in enumerate(command)
        if (Path(word).name in PROGRAMS and "=" not in word)
        or (word == MODULE and command[at - 1] == "-m")
    )
    return max(names, default=None)


def _parts(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the words of each argument: `name = value` is one, as Ultralytics takes it (see its
    merge_equals_args)."""
    left = list(words)
    while left:
        parts = [left.pop(0)]
        if left and left[0].startswith("=") and "=" not in parts[0]:
            parts.append(left.pop(0))
        if left and parts[-1].endswith("=") and "=" not in left[0]:
            parts.append(left.pop(0))
        while left and _is_open(parts):
            parts.append(left.pop(0))
        yield tuple(parts)


def _is_open(parts: Sequence[str]) -> bool:
    text = "".join(parts)
    return text.count("[") > text.count("]")


def _merged(parts: Sequence[str]) -> str:
    """Return an argument as one word, without dashes in front and a comma behind."""
    return "".join(parts).removeprefix("--").removesuffix(",")


def _named(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in arguments:
        name = _name(word)
        if name:
            yield name, word.partition("=")[2].strip()
        elif word in _FLAGS:
            yield word, "true"


def _name(word: str) -> str | None:
    name, equals, _ = word.partition("=")
    return name.strip() if equals else None


def _prefixes(executable: Path) -> Iterator[Path]:
    """Yield where the packages of a program may be: beside it, or beside its interpreter."""
    for file in (executable, executable.resolve()):
        yield file.parent.parent
        try:
            with file.open("rb") as stream:
                first = stream.readline(256)
        except OSError:
            continue
        if first.startswith(b"#!/"):
            yield Path(os.fsdecode(first[2:].split()[0])).parent.parent
