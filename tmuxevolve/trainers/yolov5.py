"""YOLOv5's train.py, and programs that keep its contract."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError
from tmuxevolve.study.mutation import META
from tmuxevolve.study.rows import METRICS, YOLOV5
from tmuxevolve.study.table import Tally, tally
from tmuxevolve.trainers import Native, NoResultError, Recipe, Training, hyps, leftovers

if TYPE_CHECKING:
    from tmuxevolve.trainers.yolov5_command import YoloCommand

_SCRIPT = "train.py"
_MODULE = "yolov5.train"
_RUNNER = Path(__file__).with_name("yolov5_runner.py")
_SAFE = Path(__file__).with_name("yolov5_native.py")
_RESULT = "result.json"
# train.py's own number, with which evolution begins where the yaml has none (v7.0, function main).
_ANCHORS = 3.0


class YoloV5:
    """YOLOv5: its own ``--evolve`` on a shared directory, or one plain training after another."""

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
        from tmuxevolve.trainers.yolov5_command import YoloCommand

        command, results = YoloCommand(session), session.results
        device, notes = command.device(on_gpu=on_gpu)
        shared = ("--project", str(results.parent), "--name", results.name)
        evolve = ("--exist-ok", "--resume", "--evolve", str(command.generations()))
        if command.is_genetic():
            notes = (
                *notes,
                "this YOLOv5's --evolve is the genetic algorithm of December 2023: every window"
                " evolves a population of its own and does not learn from the others; each of its"
                " generations is 50 trainings (evolve.mode: cooperative shares them all)",
            )
        words = _through(_SAFE, command) or command.words
        return Native((*words, *device, *shared, *evolve), notes, _columns(command))

    def recipe(self, session: Session, *, on_gpu: bool) -> Recipe:
        """Return the command without what evolution adds, and the hyps of its ``--hyp``."""
        from tmuxevolve.trainers.yolov5_command import YoloCommand

        if session.evolve.hyp is not None:
            raise hyps.refused(session, "hyp", "leave it out: --hyp in the command says it")
        if session.evolve.fitness is not None:
            raise hyps.refused(session, "fitness", "leave it out: it is YOLOv5's own")
        command = YoloCommand(session, also=("--hyp",))
        device, notes = command.device(on_gpu=on_gpu)
        base = _base(command)
        return Recipe(
            trainer=self.name,
            argv=(*_single(command), *device),
            base=base,
            space={name: META[name] for name in base if name in META},
            generations=command.generations(),
            notes=notes,
        )

    def argv(self, recipe: Recipe, training: Training) -> tuple[str, ...]:
        """Return the command that trains this generation, into a folder of its own."""
        words, folder = list(recipe.argv), training.folder
        if _is_run_by_us(recipe):
            words.insert(words.index(str(_RUNNER)) + 1, str(folder / _RESULT))
        place = ("--project", str(folder.parent), "--name", folder.name, "--exist-ok")
        return (*words, "--hyp", str(training.hyp_file), *place)

    def by_hand(self, session: Session, training: Training) -> tuple[str, ...]:
        """Return the command as it was written, but for its ``--hyp`` and what evolves."""
        from tmuxevolve.trainers.yolov5_command import YoloCommand

        command = YoloCommand(session, also=("--hyp",))
        device = getattr(command.known, "device", None)
        words = (*command.words, *(("--device", device) if device else ()))
        return (*session.shown(words), "--hyp", str(training.hyp_file))

    def loaded(self, recipe: Recipe, descriptor: int) -> tuple[str, ...] | None:
        """Return the runner's command that imports train.py and waits; None without the runner."""
        if not _is_run_by_us(recipe):
            return None
        after = recipe.argv.index(str(_RUNNER)) + 1
        module = 2 if recipe.argv[after] == "-m" else 1
        script = recipe.argv[after : after + module]
        return (*recipe.argv[:after], "--loaded", str(descriptor), *script)

    def metrics(self, recipe: Recipe, training: Training, log: str) -> tuple[float, ...]:
        """Read the runner's result, or the last row of the trainer's results.csv."""
        del log
        # A train.py that the runner did not know was run as it is.
        if not (training.folder / _RESULT).exists():
            return _last_row(training.folder / "results.csv")
        return self.completed(recipe, training) or _nothing(training.folder / _RESULT, "no numbers")

    def completed(self, recipe: Recipe, training: Training) -> tuple[float, ...] | None:
        """Return the metrics of a training whose files prove that it came to its end."""
        del recipe
        try:
            data = (training.folder / _RESULT).read_bytes()
            values = msgspec.json.decode(data, type=dict[str, list[float | None]])["metrics"]
        except (OSError, msgspec.DecodeError, KeyError):
            return None
        metrics = tuple(math.nan if value is None else value for value in values)
        return metrics if len(metrics) == len(METRICS) else None

    def tidy(self, training: Training) -> None:
        """Remove weights, which a plain training writes in spite of ``--nosave``."""
        leftovers.remove(training.folder)

    def tally(self, results: Path) -> Tally | None:
        """Count the shared evolve.csv's generations."""
        return tally(results / "evolve.csv", YOLOV5)


def _is_run_by_us(recipe: Recipe) -> bool:
    return str(_RUNNER) in recipe.argv


def _through(script: Path, command: YoloCommand) -> tuple[str, ...]:
    """Return the words with a script of ours before train.py; none where no Python is seen."""
    at = command.interpreted()
    return () if at is None else (*command.words[:at], str(script), *command.words[at:])


def _single(command: YoloCommand) -> tuple[str, ...]:
    """Return the words that train once, as cheaply as in an evolution where that can be had."""
    words = _through(_RUNNER, command)
    if words:
        return words
    # v6.1 and older have no --noplots.
    plots = ("--noplots",) if command.says("--noplots") or not command.is_yolov5() else ()
    return (*command.words, "--noval", "--nosave", *plots)


def _columns(command: YoloCommand) -> tuple[str, ...]:
    """Return what YOLOv5 writes to evolve.csv; nothing when its hyps are not to be found."""
    try:
        return (*METRICS, *_base(command)) if command.is_yolov5() else ()
    except UsageError:
        return ()


def _base(command: YoloCommand) -> dict[str, float]:
    """Read the hyps to begin with, and anchors as v7.0's evolution does."""
    base = hyps.read(command.hyp_file())
    if not command.is_yolov5():
        return base
    base.setdefault("anchors", _ANCHORS)
    if "--noautoanchor" in command.words:
        del base["anchors"]
    return base


def _last_row(path: Path) -> tuple[float, ...]:
    """Return the metrics in the last row of a results.csv, whose names are padded with blanks."""
    import csv

    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except OSError as error:
        return _nothing(path, error.strerror or "cannot be read")
    except ValueError:
        return _nothing(path, "it is empty")
    if not rows:
        return _nothing(path, "it has no row")
    found = dict(zip(header, rows[-1], strict=False))
    try:
        return tuple(float(found[name]) for name in METRICS)
    except (KeyError, ValueError):
        return _nothing(path, "its last row has not all metrics")


def _nothing(path: Path, why: str) -> tuple[float, ...]:
    raise NoResultError(f"no result: {path.parent.name}/{path.name}: {why}")
