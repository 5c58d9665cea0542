"""Optuna's RDB storage, reduced to the steps that a study takes. Nothing else knows the database.

A reservation is an Optuna trial: RUNNING while its worker trains, COMPLETE by a tell, FAIL when it
was given up, given back or taken over. Optuna lets a trial end once, whoever tries at the same
moment: that, and the trial's number, are all that the study's exactness stands on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tmuxevolve.errors import MissingError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

T = TypeVar("T")
# Optuna leaves the choice to SQLAlchemy, whose own are older, or need a compiler.
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
}
_NOTE = "tmuxevolve"


class DatabaseAwayError(OSError):
    """The database does not answer; it may do so later. The text has no URL in it."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a trial holds for us: ``owner`` is "" when anybody may take its generation over.

    ``told`` is when a training's metrics are known, and only the end of the trial is missing.
    """

    generation: int
    owner: str
    hyp: dict[str, float] | None = None
    failures: int = 0
    notes: dict[str, Any] = {}
    told: Told | None = None


class Told(msgspec.Struct, frozen=True):
    """A training's result, and its times since the epoch; a metric that is no number is None."""

    metrics: tuple[float | None, ...]
    started: float
    ended: float

    @property
    def values(self) -> tuple[float, ...]:
        """Return the metrics as numbers again."""
        return tuple(math.nan if value is None else value for value in self.metrics)


class Trial(msgspec.Struct, frozen=True):
    """A trial: ``id`` is the database's, ``number`` counts from 0 in the study."""

    id: int
    number: int
    state: str
    note: Note

    @property
    def is_running(self) -> bool:
        """Say whether it is a reservation."""
        return self.state == "RUNNING"

    @property
    def is_complete(self) -> bool:
        """Say whether it is a finished generation."""
        return self.state == "COMPLETE"


class Database:
    """One study in a database."""

    def __init__(self, url: str, name: str) -> None:
        """Connect, and make what is missing.

        Raises DatabaseAwayError, and MissingError when a library is not installed.
        """
        try:
            import optuna
            import sqlalchemy
        except ImportError:
            raise _missing("Optuna") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._away = (
            optuna.exceptions.StorageInternalError,
            sqlalchemy.exc.DBAPIError,
            sqlalchemy.exc.TimeoutError,
        )
        try:
            self._storage: Any = self._call(lambda: optuna.storages.get_storage(_with_driver(url)))
        except ImportError as error:
            raise _missing(str(getattr(error, "name", None) or "its driver")) from None
        made = self._call(
            lambda: optuna.create_study(
                storage=self._storage, study_name=name, direction="maximize", load_if_exists=True
            )
        )
        self._study: int = made._study_id
        self._known: dict[int, Trial] = {}

    def trials(self) -> list[Trial]:
        """Return every trial, in the order of their numbers. Raises DatabaseAwayError."""
        found: list[FrozenTrial] = self._call(
            lambda: self._storage.get_all_trials(self._study, deepcopy=False)
        )
        return [self._trial(trial) for trial in found]

    def reserve(self, note: Note) -> Trial:
        """Begin a trial that holds this note. Raises DatabaseAwayError."""
        return self._made(note, self._optuna.trial.TrialState.RUNNING, None)

    def add(self, note: Note, rank: float) -> Trial:
        """Add a finished generation that was trained before there was a database."""
        return self._made(note, self._optuna.trial.TrialState.COMPLETE, rank)

    def write(self, trial: Trial, note: Note) -> bool:
        """Change a trial's note; False when the trial has ended. Raises DatabaseAwayError."""
        value = msgspec.to_builtins(note)
        return self._unless_ended(lambda: self._storage.set_trial_user_attr(trial.id, _NOTE, value))

    def complete(self, trial: Trial, rank: float) -> bool:
        """End a trial as a finished generation; False when it has ended already."""
        state = self._optuna.trial.TrialState.COMPLETE
        return self._unless_ended(
            lambda: self._storage.set_trial_state_values(trial.id, state, values=[_value(rank)])
        )

    def fail(self, trial: Trial) -> bool:
        """End a trial that is no generation; False when it has ended already."""
        state = self._optuna.trial.TrialState.FAIL
        return self._unless_ended(lambda: self._storage.set_trial_state_values(trial.id, state))

    def close(self) -> None:
        """Give the connections back."""
        backend = getattr(self._storage, "_backend", self._storage)
        with suppress(Exception):
            backend.scoped_session.remove()
            backend.engine.dispose()

    def _made(self, note: Note, state: Any, rank: float | None) -> Trial:
        from datetime import datetime

        done = rank is not None
        template = self._optuna.trial.FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=[_value(rank)] if rank is not None else None,
            datetime_start=datetime.now(),
            datetime_complete=datetime.now() if done else None,
            params={},
            distributions={},
            user_attrs={_NOTE: msgspec.to_builtins(note)},
            system_attrs={},
            intermediate_values={},
        )
        made: int = self._call(
            lambda: self._storage.create_new_trial(self._study, template_trial=template)
        )
        number: int = self._call(lambda: self._storage.get_trial_number_from_id(made))
        return Trial(made, number, state.name, note)

    def _trial(self, trial: FrozenTrial) -> Trial:
        known = self._known.get(trial.number)
        if known and known.state == trial.state.name and not known.is_running:
            return known
        note = msgspec.convert(trial.user_attrs[_NOTE], Note)
        found = Trial(trial._trial_id, trial.number, trial.state.name, note)
        self._known[trial.number] = found
        return found

    def _unless_ended(self, step: Callable[[], object]) -> bool:
        try:
            return self._call(step) is not False
        except self._optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _call(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except self._away as error:
            # The driver's own text may hold the URL, with its password.
            what = type(getattr(error, "orig", None) or error).__name__
            raise DatabaseAwayError(f"the database does not answer ({what})") from None


def finished(trials: Sequence[Trial]) -> list[tuple[dict[str, float], Told, Note]]:
    """Return the finished generations' hyps, results and notes, in the order of their tells."""
    notes = (trial.note for trial in trials if trial.is_complete)
    found = [(note.hyp, note.told, note) for note in notes if note.hyp and note.told]
    return sorted(found, key=lambda each: each[1].ended)


def _value(rank: float) -> float:
    return rank if math.isfinite(rank) else -math.inf


def _with_driver(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{_DRIVERS.get(scheme, scheme)}{mark}{rest}"


def _missing(what: str) -> MissingError:
    return MissingError(f"evolve.storage: {what} is missing: pip install 'tmuxevolve[storage]'")


def as_told(metrics: Sequence[float]) -> tuple[float | None, ...]:
    """Return metrics as a database takes them: JSON knows no NaN."""
    return tuple(value if math.isfinite(value) else None for value in metrics)
