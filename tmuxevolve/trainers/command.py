"""Any other program: run as written, or once per generation with the hyps filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmuxevolve.config import Session
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.table import Tally
from tmuxevolve.trainers import GENERATIONS, Native, Recipe, Training

_FITNESS = "fitness"


class Command:
    """A program of which only that is known which the session says."""

    name = "command"
    stagger = 0.0

    def detects(self, command: Sequence[str]) -> bool:
        """Take every command: this is the last resort."""
        return bool(command)

    def native(self, session: Session, *, on_gpu: bool) -> Native:
        """Return the command as it is."""
        del on_gpu
        return Native(session.command)

    def recipe(self, session: Session, *, on_gpu: bool) -> Recipe:
        """Return the command with its placeholders, and what the session says of hyps."""
        del on_gpu
        from tmuxevolve.trainers import fitness, hyps

        source = session.evolve.fitness
        if not session.evolve.hyp or source is None:
            key = "fitness" if session.evolve.hyp else "hyp"
            what = "is missing; evolve.mode: native runs the command as it is in every window"
            raise hyps.refused(session, key, what)
        problem = fitness.problem(source)
        if problem:
            raise hyps.refused(session, "fitness", problem)
        base = hyps.given(session)
        if _FITNESS in base:
            raise hyps.refused(session, "hyp", f"a hyp cannot be called {_FITNESS}")
        _check_placeholders(session, base)
        return Recipe(
            trainer=self.name,
            argv=session.command,
            base=base,
            space={},
            generations=session.evolve.generations or GENERATIONS,
            layout=Layout(metrics=(_FITNESS,), weights=(1.0,), direction=source.direction),
            fitness=source,
        )

    def argv(self, recipe: Recipe, training: Training) -> tuple[str, ...]:
        """Return the command with its placeholders filled in."""
        from tmuxevolve.trainers import placeholders

        return placeholders.fill(recipe.argv, training)

    def by_hand(self, session: Session, training: Training) -> tuple[str, ...]:
        """Return the command with its placeholders filled in."""
        from tmuxevolve.trainers import placeholders

        return placeholders.fill(session.shown(session.command), training)

    def loaded(self, recipe: Recipe, descriptor: int) -> tuple[str, ...] | None:
        """Return None: what is run is not ours."""
        del recipe, descriptor
        return None

    def metrics(self, recipe: Recipe, training: Training, log: str) -> tuple[float, ...]:
        """Read the fitness from where the session says."""
        from tmuxevolve.trainers import fitness

        assert recipe.fitness  # noqa: S101  (recipe() has put it there)
        return (fitness.read(recipe.fitness, training.folder, log),)

    def completed(self, recipe: Recipe, training: Training) -> tuple[float, ...] | None:
        """Return None: a file may be one from the middle of a training."""
        del recipe, training
        return None

    def tidy(self, training: Training) -> None:
        """Leave everything: nothing is known about what the program wrote."""
        del training

    def tally(self, results: Path) -> Tally | None:
        """Return None: what such a program writes is its own affair."""
        del results
        return None


def _check_placeholders(session: Session, base: dict[str, float]) -> None:
    """Refuse a command that cannot take the hyps, or that asks for one which is not there."""
    from tmuxevolve.errors import UsageError
    from tmuxevolve.trainers import placeholders

    where = f"{session.source}: sessions.{session.name}.command"
    found = placeholders.used(session.command)
    names = [name.removeprefix("hyp.") for name in found if name.startswith("hyp.")]
    unknown = next((name for name in names if name not in base), None)
    if unknown is not None:
        known = ", ".join(base)
        raise UsageError(f"{where}: {{hyp.{unknown}}}: evolve.hyp has no {unknown!r}; has {known}")
    if not names and "hyp" not in found:
        raise UsageError(
            f"{where}: it takes no hyps: put {{hyp}}, the path of a YAML file,"
            f" or values such as {{hyp.{next(iter(base))}}} where the program reads them"
        )
