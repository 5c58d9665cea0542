"""How much each hyp decides whether a generation is among the best: Optuna's PED-ANOVA.

It asks how differently the best tenth of the generations lies from all that were tried. So it
fits to what an evolution tries, which lies around its parents: fANOVA's forest would answer for the
whole space, most of which was never tried. It needs no scikit-learn either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve.charts.series import is_wide
from tmuxevolve.session.results import Point, Run

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FEWEST = 30
"""With fewer generations the best tenth of them are not enough to say anything."""

_MOST = 10_000

_MISSING = "needs Optuna: pip install 'tmuxevolve[optuna]', or pipx inject tmuxevolve 'optuna>=4.0'"


class Importance(msgspec.Struct, frozen=True):
    """Each varied hyp's share, the largest first; ``missing`` says why there are none."""

    shares: Mapping[str, float]
    missing: str | None = None


def importance(run: Run) -> Importance:
    """Return the hyps' shares in what makes a generation one of the best tenth."""
    if find_spec("optuna") is None:
        return Importance({}, _MISSING)
    if len(run.ranked) < FEWEST or not run.varied:
        return Importance({}, f"needs {FEWEST} generations with different hyps")
    return Importance(_evaluate(run))


def _evaluate(run: Run) -> Mapping[str, float]:
    import warnings

    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    # Optuna takes 0.5 ms for each.
    points = run.ranked[:: -(-len(run.ranked) // _MOST)]
    space = {name: _distribution(points, name) for name in run.varied}
    with warnings.catch_warnings():
        # It is called experimental, and warns of what is not to be changed here.
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction=run.layout.direction)
        study.add_trials([_trial(point, space) for point in points])
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _trial(point: Point, space: dict[str, BaseDistribution]) -> FrozenTrial:
    from optuna.trial import create_trial

    params = {name: point.hyp[name] for name in space}
    return create_trial(params=params, distributions=space, value=point.fitness)


def _distribution(points: Sequence[Point], name: str) -> BaseDistribution:
    from optuna.distributions import FloatDistribution

    values = [point.hyp[name] for point in points]
    return FloatDistribution(min(values), max(values), log=is_wide(values))
