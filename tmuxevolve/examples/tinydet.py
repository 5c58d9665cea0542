"""tinydet: a small real trainer with YOLOv5's command line and results, in pure Python.

``python -m tmuxevolve.examples.tinydet --evolve 30`` evolves the hyps of a tiny object detector.
Any number of these share one results directory when started with the same ``--project`` and
``--name`` and with ``--resume``, which is how YOLOv5 v7.0's evolution is shared.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from random import Random
from typing import Any

from tmuxevolve.errors import ExitStatus, UsageError
from tmuxevolve.examples.tinydet_train import HYPS, Epoch, Settings, say, train
from tmuxevolve.study import history, mutation
from tmuxevolve.study.rows import METRICS

_BUNDLED = Path(__file__).with_name("hyp.tinydet.yaml")
_MODULE = "tmuxevolve.examples.tinydet"
_GENERATIONS = 300
_EPOCHS = 20
_BATCH_SIZE = 16
_RESULT_COLUMNS = (
    "epoch",
    "train/box_loss",
    "train/obj_loss",
    "train/cls_loss",
    *METRICS,
    "x/lr0",
    "x/lr1",
    "x/lr2",
)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, with what its options mean for each other settled."""

    hyp: Path
    evolve: int
    project: Path
    name: str
    exist_ok: bool
    settings: Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or evolve; return the exit status."""
    options = parse(argv)
    try:
        hyp = load_hyp(options.hyp)
        directory = results_directory(options.project, options.name, exist_ok=options.exist_ok)
        if options.evolve:
            _evolve(directory, hyp, options)
        else:
            _train(directory, hyp, options)
    except UsageError as error:
        say(f"tinydet: {error}")
        return ExitStatus.USAGE
    except OSError as error:
        say(f"tinydet: {error}")
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        say("\ntinydet: interrupted; the training it was at is not recorded")
        return ExitStatus.INTERRUPTED
    return ExitStatus.OK


def parse(argv: Sequence[str] | None = None) -> Options:
    """Read YOLOv5's options."""
    parser = _parser()
    known = parser.parse_args(argv)
    if known.resume and not known.evolve:
        parser.error("--resume goes with --evolve only: there are no weights to resume from")
    default = "runs/evolve" if known.evolve else "runs/train"
    settings = Settings(
        known.epochs, known.batch_size, known.seed, known.noval or bool(known.evolve)
    )
    return Options(
        hyp=known.hyp,
        evolve=known.evolve,
        project=Path(known.project or default),
        name=known.name,
        # YOLOv5 lets --resume decide this in an evolution, and --exist-ok nothing.
        exist_ok=bool(known.resume) if known.evolve else known.exist_ok,
        settings=settings,
    )


def load_hyp(path: Path) -> dict[str, float]:
    """Read hyps from YAML, within the bounds of evolution."""
    import yaml

    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        hyp = {str(name): _finite(value) for name, value in read.items()}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise UsageError(f"{path} is not a list of hyps, one `name: number` a line") from None
    missing = [name for name in HYPS if name not in hyp]
    if missing:
        raise UsageError(f"{path} lacks {', '.join(missing)}")
    return mutation.constrain(hyp, mutation.META)


def _finite(value: str | float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def results_directory(project: Path, name: str, *, exist_ok: bool) -> Path:
    """Make project/name, or when that is there already the first free of name2, name3, ..."""
    wanted = project / name
    if exist_ok:
        wanted.mkdir(parents=True, exist_ok=True)
        return wanted
    wanted.parent.mkdir(parents=True, exist_ok=True)
    numbered = (wanted.with_name(f"{wanted.name}{number}") for number in count(2))
    return next(directory for directory in chain((wanted,), numbered) if _made(directory))


def _made(directory: Path) -> bool:
    """Make a directory; of several workers that want it only one gets it."""
    try:
        directory.mkdir()
    except FileExistsError:
        return False
    return True


def _train(directory: Path, hyp: Mapping[str, float], options: Options) -> None:
    _write_yaml(directory / "hyp.yaml", dict(hyp))
    _write_yaml(directory / "opt.yaml", _plain(options))
    say(f"tinydet: {options.settings.epochs} epochs, results in {directory}")
    for epoch in train(hyp, options.settings):
        _add_result(directory / "results.csv", epoch)
    say(f"\ntinydet: results saved to {directory}")


def _evolve(directory: Path, base: Mapping[str, float], options: Options) -> None:
    table, best = directory / "evolve.csv", directory / "hyp_evolve.yaml"
    _check_columns(table, base)
    # From the system's entropy: no two workers may draw the same child, whatever their --seed.
    rng = Random()
    for _ in range(options.evolve):
        with _first_turn(directory) as mine:
            hyp = _draw(history.read(table).generations, base, rng, first_turn=mine)
            say("\nhyps: " + ", ".join(f"{name}={value:.5g}" for name, value in hyp.items()))
            *_, last = train(hyp, options.settings)
            found = history.record(table, best, last.metrics, hyp)
        say(_summary(found))
    say(
        f"\nevolve: finished {_generations(options.evolve)}, results saved to {directory}\n"
        f"evolve: usage: python -m {_MODULE} --hyp {best}"
    )


def _draw(
    generations: Sequence[history.Generation],
    base: Mapping[str, float],
    rng: Random,
    *,
    first_turn: bool,
) -> Mapping[str, float]:
    """Return the next hyps to train: the base's once, then children of what was found."""
    if first_turn and not generations:
        return base
    parent = mutation.select_parent(generations, rng)
    return mutation.mutate(parent.hyp if parent else base, mutation.META, rng)


@contextmanager
def _first_turn(directory: Path) -> Iterator[bool]:
    """Say whether this worker is the one to train the base hyps, should they be untrained.

    The turn is a lock on the directory: it leaves no file, and a killed worker gives it back.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Another has it, or this file system locks no directories: then nobody trains the base.
        return False
    return True


def _check_columns(table: Path, base: Mapping[str, float]) -> None:
    generations = history.read(table).generations
    if generations and generations[0].hyp.keys() != base.keys():
        raise UsageError(f"{table} holds other hyps than --hyp: use another --name")


def _summary(found: history.History) -> str:
    fitness = found.generations[-1].fitness
    best = "none" if found.best is None else f"{found.best.fitness:.3f}"
    number = _generations(len(found.generations))
    return f"evolve: {number} finished, fitness {fitness:.3f}, best {best}"


def _generations(number: int) -> str:
    return "1 generation" if number == 1 else f"{number} generations"


def _add_result(path: Path, epoch: Epoch) -> None:
    """Add an epoch to results.csv, padded as YOLOv5 does, the first time under a header."""
    rates = (epoch.rates.biases, epoch.rates.weights, epoch.rates.weights)
    values = (epoch.number, epoch.loss.box, epoch.loss.obj, 0.0, *epoch.metrics, *rates)
    header = "" if path.exists() else ",".join(f"{name:>20}" for name in _RESULT_COLUMNS) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(header + ",".join(f"{value:20.5g}" for value in values) + "\n")


def _plain(options: Options) -> dict[str, Any]:
    settings = options.settings
    return {
        "hyp": str(options.hyp),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "noval": settings.last_validation_only,
        "seed": settings.seed,
        "project": str(options.project),
        "name": options.name,
        "exist_ok": options.exist_ok,
    }


def _write_yaml(path: Path, values: dict[str, Any]) -> None:
    import yaml

    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    add = parser.add_argument
    add("--hyp", type=Path, default=_BUNDLED, help="hyps to train with, or to evolve from")
    add("--epochs", type=_at_least(1), default=_EPOCHS, help="default %(default)s")
    add("--batch-size", type=_at_least(1), default=_BATCH_SIZE, help="default %(default)s")
    add("--evolve", type=_at_least(0), nargs="?", const=_GENERATIONS, default=0, metavar="N",
        help="evolve the hyps for N generations (%(const)s)")  # fmt: skip
    add("--project", help="default runs/train, with --evolve runs/evolve")
    add("--name", default="exp", help="results go to project/name")
    add("--exist-ok", action="store_true", help="write to project/name even when it is there")
    add("--resume", nargs="?", const=True, default=False,
        help="with --evolve: join the evolution in project/name")  # fmt: skip
    add("--seed", type=int, default=0, help="of a training, not of mutation")
    add("--noval", action="store_true", help="validate after the last epoch only")
    add("--device", choices=("", "cpu"), default="", help="there is only the CPU")
    for ignored in ("--nosave", "--noplots"):
        add(ignored, action="store_true", help="accepted: there is nothing to leave out")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
