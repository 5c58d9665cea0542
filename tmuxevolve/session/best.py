"""The best generations of a run, and the command that trains with the hyps of the best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from tmuxevolve import trainers
from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError
from tmuxevolve.session.results import Point, Run
from tmuxevolve.study import rows
from tmuxevolve.study.files import Files, yaml_lines
from tmuxevolve.study.values import training_seed
from tmuxevolve.trainers import Training, hyps

_FILE = "hyp.best.yaml"
_FOLDER = "best"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One generation; ``hyp_file`` is a YAML file that holds its hyps, if there is one.

    Where they are not known, ``window`` and the times (in seconds since the epoch) are None.
    """

    number: int
    fitness: float
    metrics: Mapping[str, float]
    hyp: Mapping[str, float]
    hyp_file: str | None
    window: str | None
    started: float | None
    ended: float | None
    duration: float | None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The session's own command with the best hyps, to be run in ``workdir``.

    Before it, ``hyp_file`` is to be written and ``folder`` to be made where they are not None.
    ``env`` are the names of the variables that the session sets.
    """

    workdir: str
    argv: tuple[str, ...]
    hyp_file: str | None
    folder: str | None
    env: tuple[str, ...]


class Best(msgspec.Struct, frozen=True, kw_only=True):
    """The best generations of a run, the best one first; ``command`` is None without a session."""

    results: str
    generations: int
    budget: int | None
    problem: str | None
    base: Mapping[str, float]
    top: tuple[Entry, ...]
    command: Command | None


def best(run: Run, session: Session | None, count: int = 1) -> Best:
    """Return the ``count`` best generations of a run.

    Raises NothingFoundError when none can be ranked, and UsageError when the session's command
    contradicts it.
    """
    run.check()
    top = tuple(_entry(run, point) for point in run.ranked[:count])
    return Best(
        results=str(run.results),
        generations=len(run.points),
        budget=run.budget,
        problem=run.problem,
        base=run.base,
        top=top,
        command=_command(run, session, run.ranked[0], top[0].hyp_file) if session else None,
    )


def as_yaml(found: Best) -> str:
    """Return the best hyps as a YAML file that YOLOv5's ``--hyp`` takes."""
    entry = found.top[0]
    head = f"# Generation {entry.number}, the best of {found.generations}"
    return f"{head}: fitness {entry.fitness:.5g}\n{yaml_lines(entry.hyp)}"


def _entry(run: Run, point: Point) -> Entry:
    file = _hyp_file(Files(run.results), point)
    return Entry(
        number=point.number,
        fitness=point.fitness,
        metrics=dict(zip(run.layout.metrics, point.metrics, strict=True)),
        hyp=point.hyp,
        hyp_file=str(file) if file else None,
        window=point.window,
        started=point.started,
        ended=point.ended,
        duration=point.duration,
    )


def _hyp_file(where: Files, point: Point) -> Path | None:
    """Return the file that has these hyps: the generation's own, or the best one's."""
    places = (where.generation(point.number) / "hyp.yaml", where.best)
    return next((path for path in places if _holds(path, point.hyp)), None)


def _holds(path: Path, hyp: Mapping[str, float]) -> bool:
    try:
        found = hyps.read(path)
    except UsageError:
        return False
    return {name: rows.canonical(value) for name, value in found.items()} == hyp


def _command(run: Run, session: Session, point: Point, hyp_file: str | None) -> Command:
    file = Path(hyp_file) if hyp_file else run.results / _FILE
    # Not the generation's own folder: a training there would replace what it has left.
    folder = run.results / _FOLDER
    seed = training_seed(session.evolve.seed, point.number)
    training = Training(point.number, point.hyp, file, folder, seed)
    argv = trainers.find(session.trainer, session.command).by_hand(session, training)
    return Command(
        workdir=str(session.workdir),
        argv=argv,
        hyp_file=None if hyp_file or not _names(argv, file) else str(file),
        folder=str(folder) if _names(argv, folder) else None,
        env=tuple(session.env),
    )


def _names(argv: tuple[str, ...], path: Path) -> bool:
    return any(str(path) in word for word in argv)
