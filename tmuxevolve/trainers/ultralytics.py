"""Ultralytics' `yolo train`: YOLOv8, YOLO11, YOLO26 and their relatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmuxevolve.config import Session
from tmuxevolve.study import history
from tmuxevolve.study.table import Tally, tally
from tmuxevolve.trainers import (
    GENERATIONS,
    Native,
    Recipe,
    Training,
    hyps,
    leftovers,
    ultralytics_results,
)
from tmuxevolve.trainers.ultralytics_command import UltralyticsCommand, trains

# Only the last epoch is validated, and fewer checkpoints are written. What the user says stays.
_CHEAP = {"val": "False", "save": "False", "plots": "False"}


class Ultralytics:
    """One plain `yolo train` after another: its own tuner is not to be had from a command."""

    name = "ultralytics"
    stagger = 0.0

    def detects(self, command: Sequence[str]) -> bool:
        """Recognise `yolo ... train`, its other name `ultralytics`, and the module."""
        return trains(command)

    def native(self, session: Session, *, on_gpu: bool) -> Native:
        """Refuse: model.tune() is Python only, and each of its processes evolves by itself."""
        del on_gpu
        raise hyps.refused(
            session, "mode", "yolo has no evolution of its own to share: use cooperative"
        )

    def recipe(self, session: Session, *, on_gpu: bool) -> Recipe:
        """Return the command without its hyps, and those: its own, its cfg=, evolve.hyp."""
        from tmuxevolve.trainers import ultralytics_hyps

        if session.evolve.fitness is not None:
            raise hyps.refused(session, "fitness", "leave it out: it is Ultralytics' own")
        command = UltralyticsCommand(session)
        device, notes = command.device(on_gpu=on_gpu)
        base = ultralytics_hyps.base(session, command)
        task, release = command.task, command.release()
        return Recipe(
            trainer=self.name,
            argv=(*command.without(tuple(base)), *device, *_cheap(command)),
            base=base,
            space=ultralytics_hyps.space(base, command),
            generations=session.evolve.generations or GENERATIONS,
            layout=ultralytics_results.layout(task, release),
            notes=(*notes, *ultralytics_hyps.notes(command), *_about(task, release)),
        )

    def argv(self, recipe: Recipe, training: Training) -> tuple[str, ...]:
        """Return the command that trains this generation, into a folder of its own.

        All that is added stands at the end: up to 8.4.0 at least, cfg= makes Ultralytics forget
        what stands in front of it.
        """
        from tmuxevolve.trainers import ultralytics_hyps

        folder = training.folder
        # Ultralytics takes a name like 0042 for a number, and 0000 for none.
        name = f"{folder.parent.name}/{folder.name}"
        place = (f"project={folder.parent.parent}", f"name={name}", "exist_ok=True")
        return (*recipe.argv, *ultralytics_hyps.words(training.hyp), *place)

    def by_hand(self, session: Session, training: Training) -> tuple[str, ...]:
        """Return the command as it was written, but for its hyps and where its results go."""
        from tmuxevolve.trainers import ultralytics_hyps

        command = UltralyticsCommand(session)
        device = tuple(word for word in command.arguments if word.startswith("device="))
        words = (*command.without(tuple(training.hyp)), *device)
        return (*command.shown(words), *ultralytics_hyps.words(training.hyp))

    def loaded(self, recipe: Recipe, descriptor: int) -> tuple[str, ...] | None:
        """Return None: what is run is not ours."""
        del recipe, descriptor
        return None

    def metrics(self, recipe: Recipe, training: Training, log: str) -> tuple[float, ...]:
        """Read the best epoch in the trainer's results.csv."""
        del log
        return ultralytics_results.best(training.folder, recipe.layout)

    def completed(self, recipe: Recipe, training: Training) -> tuple[float, ...] | None:
        """Return the metrics of a training that has written all its epochs."""
        return ultralytics_results.at_the_end(training.folder, recipe.layout)

    def tidy(self, training: Training) -> None:
        """Remove the weights, which are written in spite of ``save=False``."""
        leftovers.remove(training.folder)

    def tally(self, results: Path) -> Tally | None:
        """Count the generations in evolve.csv, whose columns say which task it is of."""
        path = results / "evolve.csv"
        layout = ultralytics_results.layout_of(history.columns(path))
        return tally(path, layout) if layout else Tally()


def _cheap(command: UltralyticsCommand) -> tuple[str, ...]:
    # Most versions look at the clock after an epoch's validation, so that none of it is the last.
    unwanted = {"val"} if command.is_timed else set()
    if command.is_timed and command.values.get("val", "").lower() == "false":
        raise command.conflict("with time= no epoch may be validated: leave val=False out")
    return tuple(
        f"{name}={value}"
        for name, value in _CHEAP.items()
        if name not in unwanted and not command.says(name)
    )


def _about(task: str, release: tuple[int, ...] | None) -> tuple[str, ...]:
    if release or not ultralytics_results.depends_on_release(task):
        return ()
    return (
        "which Ultralytics this is could not be seen: fitness is mAP50-95, as in its versions"
        " since 8.3.198",
    )
