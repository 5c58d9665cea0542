"""YOLOv5's mutation of hyps, as pure functions.

The rule and the table are those of ``--evolve`` in YOLOv5 v7.0's train.py: a parent is drawn from
the five best generations, and most of its hyps are multiplied by a random factor around one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType

import msgspec

from tmuxevolve.study.history import Generation

PROBABILITY = 0.8
SIGMA = 0.2
SMALLEST_FACTOR = 0.3
LARGEST_FACTOR = 3.0
DIGITS = 5

_PARENTS = 5
# The worst of the candidates must keep a chance, and equal ones must not all weigh zero.
_LEAST_WEIGHT = 1e-6
# A value near zero is rounded back to itself many times over, and some hyps cannot move at all: the
# evolution must go on.
_ATTEMPTS = 1000


class Bounds(msgspec.Struct, frozen=True):
    """How far a hyp may go; a gain of zero keeps it out of mutation.

    ``digits`` are the decimals that it is rounded to.
    """

    gain: float
    lower: float
    upper: float
    digits: int = DIGITS

    def clamp(self, value: float) -> float:
        """Return the nearest allowed value."""
        return min(max(value, self.lower), self.upper)

    def settle(self, value: float) -> float:
        """Return the nearest allowed value, rounded."""
        return self.clamp(round(self.clamp(value), self.digits))


META: Mapping[str, Bounds] = MappingProxyType(
    {
        "lr0": Bounds(1, 1e-5, 1e-1),
        "lrf": Bounds(1, 0.01, 1.0),
        "momentum": Bounds(0.3, 0.6, 0.98),
        "weight_decay": Bounds(1, 0.0, 0.001),
        "warmup_epochs": Bounds(1, 0.0, 5.0),
        "warmup_momentum": Bounds(1, 0.0, 0.95),
        "warmup_bias_lr": Bounds(1, 0.0, 0.2),
        "box": Bounds(1, 0.02, 0.2),
        "cls": Bounds(1, 0.2, 4.0),
        "cls_pw": Bounds(1, 0.5, 2.0),
        "obj": Bounds(1, 0.2, 4.0),
        "obj_pw": Bounds(1, 0.5, 2.0),
        "iou_t": Bounds(0, 0.1, 0.7),
        "anchor_t": Bounds(1, 2.0, 8.0),
        "anchors": Bounds(2, 2.0, 10.0),
        "fl_gamma": Bounds(0, 0.0, 2.0),
        "hsv_h": Bounds(1, 0.0, 0.1),
        "hsv_s": Bounds(1, 0.0, 0.9),
        "hsv_v": Bounds(1, 0.0, 0.9),
        "degrees": Bounds(1, 0.0, 45.0),
        "translate": Bounds(1, 0.0, 0.9),
        "scale": Bounds(1, 0.0, 0.9),
        "shear": Bounds(1, 0.0, 10.0),
        "perspective": Bounds(0, 0.0, 0.001),
        "flipud": Bounds(1, 0.0, 1.0),
        "fliplr": Bounds(0, 0.0, 1.0),
        "mosaic": Bounds(1, 0.0, 1.0),
        "mixup": Bounds(1, 0.0, 1.0),
        "copy_paste": Bounds(1, 0.0, 1.0),
    }
)
"""Gain and limits of each hyp, from YOLOv5 v7.0's train.py."""


def select_parent(generations: Sequence[Generation], rng: Random) -> Generation | None:
    """Draw one of the five best generations; None when none has a finite fitness.

    The weight of each is its lead in fitness over the worst of the five, plus 1e-6 (YOLOv5 v7.0,
    train.py, parent selection "single").
    """
    ranked = [generation for generation in generations if generation.counts]
    candidates = sorted(ranked, key=lambda found: found.rank, reverse=True)[:_PARENTS]
    if not candidates:
        return None
    worst = candidates[-1].rank
    weights = [candidate.rank - worst + _LEAST_WEIGHT for candidate in candidates]
    return rng.choices(candidates, weights)[0]


def mutate(
    parent: Mapping[str, float],
    bounds: Mapping[str, Bounds],
    rng: Random,
    *,
    probability: float = PROBABILITY,
    sigma: float = SIGMA,
) -> dict[str, float]:
    """Return a child of these hyps, within bounds and rounded to five digits.

    Each hyp is picked with ``probability`` and multiplied by 1 + gain x N(0, 1) x U x ``sigma``,
    clipped to 0.3..3; U, uniform in 0..1, is drawn once for the whole child (YOLOv5 v7.0,
    train.py, function main). YOLOv5 draws again until a factor is not one; here until a value is
    another one after rounding, so that a child never repeats its parent, unless no value can move.
    Hyps without bounds are kept.
    """
    unchanged = constrain(parent, bounds)
    child = unchanged
    for _ in range(_ATTEMPTS):
        factors = _factors(parent, bounds, rng, probability, sigma)
        child = constrain({name: parent[name] * factors[name] for name in parent}, bounds)
        if child != unchanged:
            break
    return child


def constrain(hyp: Mapping[str, float], bounds: Mapping[str, Bounds]) -> dict[str, float]:
    """Return the hyps clamped and rounded; those without bounds as they are."""
    return {
        name: bounds[name].settle(value) if name in bounds else value for name, value in hyp.items()
    }


def _factors(
    names: Mapping[str, float],
    bounds: Mapping[str, Bounds],
    rng: Random,
    probability: float,
    sigma: float,
) -> dict[str, float]:
    width = sigma * rng.random()
    return {name: _factor(bounds.get(name), rng, probability, width) for name in names}


def _factor(bounds: Bounds | None, rng: Random, probability: float, width: float) -> float:
    if bounds is None or rng.random() >= probability:
        return 1.0
    factor = 1 + bounds.gain * rng.gauss(0, 1) * width
    return min(max(factor, SMALLEST_FACTOR), LARGEST_FACTOR)
