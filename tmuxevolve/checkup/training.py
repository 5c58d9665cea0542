"""What is to be trained: the trainer, its command, its data and weights."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tmuxevolve import trainers
from tmuxevolve.checkup import Check, Scene, failed, passed, warned
from tmuxevolve.configfile import exists
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.session import evolve
from tmuxevolve.trainers import inspection
from tmuxevolve.trainers.inspection import Dataset

_ONCE = "fetch it once before: every window would do so, at the same time"


def trainer(scene: Scene) -> Check:
    """Say which trainer it is, and of which version."""
    name = "trainer"
    try:
        seen = scene.inspection or inspection.inspect(scene.session, scene.trainer, scene.environ)
    except TmuxEvolveError as error:
        return failed(name, str(error), "correct the command")
    if seen.problem:
        return failed(name, seen.problem, "correct workdir or command")
    if seen.doubt:
        return warned(name, f"{seen.what}: {seen.doubt}", "nothing, if that is meant")
    return passed(name, seen.what)


def command(scene: Scene) -> Check:
    """Make of the command what the windows would run, with its hyps and their bounds."""
    name, session = "command", scene.session
    try:
        job = evolve.job(
            session,
            trainers.find(session.trainer, session.command),
            None,
            on_gpu=scene.on_gpu is not False,
        )
    except TmuxEvolveError as error:
        return failed(name, str(error), "correct it in the sessions file")
    hyps = f", {len(job.evolution.search.base)} hyps" if job.evolution else ""
    budget = f", {job.budget} generations" if job.evolution else ""
    done = f", {job.found.finished} finished" if job.found else ""
    found = f"{job.mode}{budget}{done}{hyps}"
    if job.notes:
        return warned(name, "; ".join((found, *job.notes)), "nothing, if that is meant")
    return passed(name, found)


def data(scene: Scene) -> Check | None:
    """Look for the data file and the images that it names; None when nothing is known of them."""
    dataset = scene.inspection.dataset if scene.inspection else None
    if dataset is None:
        return None
    name, shown = "data", os.path.normpath(dataset.file or dataset.written)
    if dataset.problem and dataset.file:
        return failed(name, dataset.problem, "correct the file")
    if dataset.problem:
        return warned(name, f"{shown}: not looked into: {dataset.problem}", _ONCE)
    if dataset.file is None and not dataset.downloads:
        where = f"give its path, in full or from {scene.session.workdir}"
        return failed(name, f"{shown}: no such file", where)
    wanted = ("train",) if dataset.file and dataset.file.is_dir() else ("train", "val")
    lacking = [split for split in wanted if split not in dataset.splits]
    if dataset.file and lacking:
        return failed(
            name, f"{shown}: no `{lacking[0]}:` in it", f"name the images under {lacking[0]}:"
        )
    return _images(name, dataset, shown)


def _images(name: str, dataset: Dataset, shown: str) -> Check:
    missing = list(_missing(dataset))
    if not missing and dataset.file:
        paths = ", ".join(f"{split} {paths[0]}" for split, paths in dataset.splits.items())
        return passed(name, f"{shown}: {paths}")
    found = f"{shown}: {missing[0] if missing else 'it'} is not there"
    if dataset.downloads:
        return warned(name, f"{found} and would be downloaded", _ONCE)
    return failed(name, found, f"correct the file; paths in it begin at {dataset.root}")


def _missing(dataset: Dataset) -> Iterator[str]:
    for split, paths in dataset.splits.items():
        yield from (f"{split} {path}" for path in paths if not exists(path))


def weights(scene: Scene) -> Check | None:
    """Look for the weights to begin with; None when there are none."""
    found = scene.inspection.weights if scene.inspection else None
    if found is None:
        return None
    name = "weights"
    if found.there:
        return passed(name, found.written)
    if found.downloads:
        return warned(name, f"{found.written} is not there and would be downloaded", _ONCE)
    where = f"give its path, in full or from {scene.session.workdir}"
    return failed(name, f"{found.written}: no such file", where)
