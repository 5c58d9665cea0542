"""Optuna's TPE, CMA-ES and NSGA-II, asked over our own history.

Importing this needs Optuna, and loads NumPy with it: samplers.make does so when it is chosen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Mapping
from datetime import datetime
from importlib.util import find_spec
from random import Random
from typing import Any

from tmuxevolve.errors import MissingError
from tmuxevolve.study import rows
from tmuxevolve.study.history import Generation
from tmuxevolve.study.mutation import Bounds
from tmuxevolve.study.samplers import Drawn, View

try:
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, TPESampler
    from optuna.storages import InMemoryStorage
    from optuna.trial import FrozenTrial, TrialState
except ImportError:
    raise MissingError("evolve.sampler: needs Optuna: pip install 'tmuxevolve[optuna]'") from None

# Of a range this wide each order of magnitude deserves to be searched as well as the next.
_LOGARITHMIC = 100.0
# A value in a row has five significant digits, so rounding may take it this far beyond a bound.
_ROUNDING = 1e-4


class OptunaSampler:
    """Draws with one of Optuna's samplers, which sees every generation, finished and pending."""

    whole_history = True

    def __init__(self, name: str) -> None:
        """Take "tpe", "cmaes" or "nsgaii". Raises MissingError when cmaes is not installed."""
        if name == "cmaes" and find_spec("cmaes") is None:
            raise MissingError(
                "evolve.sampler: optuna-cmaes needs cmaes: pip install 'tmuxevolve[optuna]'"
            )
        # What it would say is about trials, and would run into a training's progress bar.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name = name
        self._mirror: _Mirror | None = None

    def draw(self, view: View, rng: Random) -> Drawn:
        """Return what Optuna suggests next; hyps that are not searched stay."""
        if self._mirror is None or not self._mirror.reflects(view):
            self._mirror = _Mirror(self._name, view)
        self._mirror.follow(view)
        trial = self._mirror.ask(view, rng.getrandbits(32))
        found = {name: view.space[name].settle(value) for name, value in trial.params.items()}
        return Drawn({**view.base, **found}, _numbers(trial.system_attrs))


class _Mirror:
    """An Optuna study in memory that says what a View says, and is kept up to date.

    What it suggests follows from the view alone, and not from what it was asked before, so that any
    worker would draw the same: an ask leaves no trace, and ``_turn`` depends on the history only.
    """

    def __init__(self, name: str, view: View) -> None:
        self._name = name
        self._space = dict(view.space)
        self._direction = view.layout.direction
        self._columns = tuple(view.base)
        self._searched: dict[str, BaseDistribution] = {
            hyp: _distribution(bounds)
            for hyp, bounds in view.space.items()
            if hyp in view.base and bounds.gain > 0 and bounds.lower < bounds.upper
        }
        self._trials = _Trials()
        self._study = optuna.create_study(storage=self._trials, direction=self._direction)
        self._last: Generation | None = None
        # What others drew, such as YOLOv5 itself, belongs to NSGA-II's first population.
        self._strange = _numbers(self._suggest(0).system_attrs)
        self._populations = {frozenset(self._strange.items())}
        self._bearer: FrozenTrial | None = None

    def reflects(self, view: View) -> bool:
        """Say whether all that was taken in is in this view too."""
        count = len(self._trials.finished)
        if count and (len(view.finished) < count or view.finished[count - 1] is not self._last):
            return False
        search = (view.space, view.layout.direction, tuple(view.base))
        return search == (self._space, self._direction, self._columns)

    def follow(self, view: View) -> None:
        """Take in the generations that were finished since the last time."""
        finished = self._trials.finished
        for generation in view.finished[len(finished) :]:
            notes = self._notes(view, generation.hyp)
            population = frozenset(notes.items())
            if population not in self._populations:
                self._populations.add(population)
                self._turn()
            finished.append(self._finished(generation, notes))
            self._last = generation

    def ask(self, view: View, seed: int) -> FrozenTrial:
        """Return a trial with new hyps, of which nothing is kept here."""
        first = len(self._trials.finished)
        self._trials.pending = [
            self._trial(number, found.hyp, self._notes(view, found.hyp))
            for number, found in enumerate(view.pending, first)
        ]
        before = dict(self._trials.attributes)
        trial = self._suggest(seed)
        self._trials.attributes = before
        return trial

    def _turn(self) -> None:
        """Let the sampler conclude a population, as the first result of the next one comes in.

        NSGA-II keeps a population's parents in its study. CMA-ES keeps its optimizer, some 20 kB of
        pickled text, in a trial that begins a population, and looks for the latest finished one.
        Both follow from the results until then. So a generation's notes are its population's number
        alone: the journal stays small, and no pickle from a shared directory is ever loaded.
        """
        self._trials.pending = []
        texts = {k: v for k, v in self._suggest(0).system_attrs.items() if isinstance(v, str)}
        finished = self._trials.finished
        latest = next((t for t in reversed(finished) if t.state == TrialState.COMPLETE), None)
        if texts and latest:
            if self._bearer:
                self._bearer.system_attrs = _numbers(self._bearer.system_attrs)
            latest.system_attrs = {**latest.system_attrs, **texts}
            self._bearer = latest

    def _suggest(self, seed: int) -> FrozenTrial:
        # There is no other way to seed a sampler than to make it.
        self._study.sampler = _sampler(self._name, seed)
        self._study.ask(self._searched)
        return self._trials.drawn

    def _notes(self, view: View, hyp: Mapping[str, float]) -> dict[str, int]:
        noted = view.notes.get(rows.key(hyp, self._columns), {})
        return {**self._strange, **_numbers(noted)}

    def _finished(self, generation: Generation, notes: Mapping[str, int]) -> FrozenTrial:
        trial = self._trial(len(self._trials.finished), generation.hyp, notes)
        trial.datetime_complete = trial.datetime_start
        # One beyond the bounds, from an earlier search, is no point of this one.
        if generation.counts and all(
            math.isclose(generation.hyp[name], value, rel_tol=_ROUNDING)
            for name, value in trial.params.items()
        ):
            trial.state = TrialState.COMPLETE
            trial.value = generation.fitness
        else:
            trial.state = TrialState.FAIL
        return trial

    def _trial(
        self, number: int, hyp: Mapping[str, float], notes: Mapping[str, int]
    ) -> FrozenTrial:
        trial = _running(number)
        trial.params = {name: self._space[name].clamp(hyp[name]) for name in self._searched}
        trial.distributions = self._searched
        trial.system_attrs = dict(notes)
        return trial


class _Trials(InMemoryStorage):
    """The trials of one study: the finished ones, the pending ones, and the one being drawn.

    Optuna's own storages only ever grow; here the last two kinds are taken back. A trial's number
    and id are its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[FrozenTrial] = []
        self.pending: list[FrozenTrial] = []
        self.drawn = _running(0)
        self.attributes: dict[str, Any] = {}

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self.drawn = _running(len(self.finished) + len(self.pending))
        return self.drawn.number

    def get_trial(self, trial_id: int) -> FrozenTrial:
        drawn = trial_id == self.drawn.number
        return self.drawn if drawn else self.get_all_trials(0)[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = [*self.finished, *self.pending, self.drawn]
        return trials if states is None else [t for t in trials if t.state in states]

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        self.drawn.params[param_name] = distribution.to_external_repr(param_value_internal)
        self.drawn.distributions[param_name] = distribution

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.drawn.system_attrs[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.attributes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.attributes[key] = value


def _sampler(name: str, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        # Optuna 4 calls these two options of TPE experimental; in Optuna 5 they are the default.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            return TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return CmaEsSampler(seed=seed) if name == "cmaes" else NSGAIISampler(seed=seed)


def _distribution(bounds: Bounds) -> FloatDistribution:
    wide = bounds.lower > 0 and bounds.upper / bounds.lower >= _LOGARITHMIC
    return FloatDistribution(bounds.lower, bounds.upper, log=wide)


def _running(number: int) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _numbers(attributes: Mapping[str, Any]) -> dict[str, int]:
    return {key: value for key, value in attributes.items() if isinstance(value, int)}
