"""How hyps are drawn: the rule of YOLOv5 v7.0 against a second writing of it, and its limits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuxevolve.study import mutation
from tmuxevolve.study.history import Generation
from tmuxevolve.study.mutation import META, Bounds
from tmuxevolve.study.rows import YOLOV5
from tmuxevolve.study.samplers import View, make

BASE = {name: round((b.lower + b.upper) / 2, 5) for name, b in META.items()}


def generation(number: int, fitness: float, hyp: Mapping[str, float] = BASE) -> Generation:
    return Generation(number, (0.5, 0.5, fitness, fitness, 0.1, 0.1, 0.1), dict(hyp), YOLOV5)


def reference(parent: Mapping[str, float], rng: random.Random) -> dict[str, float]:
    """Mutate as v7.0's train.py is documented to: written here once more, loop by loop."""
    factors = dict.fromkeys(parent, 1.0)
    while all(factor == 1.0 for factor in factors.values()):
        width = rng.random() * 0.2
        for name in parent:
            mutated = rng.random() < 0.8
            normal = rng.gauss(0, 1)
            factors[name] = 1.0
            if mutated:
                factors[name] = min(3.0, max(0.3, META[name].gain * normal * width + 1))
    child = {}
    for name, value in parent.items():
        moved = value * factors[name]
        moved = max(moved, META[name].lower)
        moved = min(moved, META[name].upper)
        child[name] = round(moved, 5)
    return child


def distance(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples."""
    events = sorted([(value, 1 / len(one)) for value in one] + [(v, -1 / len(two)) for v in two])
    gap = found = 0.0
    for at, (value, step) in enumerate(events):
        gap += step
        if at + 1 == len(events) or events[at + 1][0] != value:
            found = max(found, abs(gap))
    return found


DRAWS = 6000
# The 0.1 % point of the distance for two samples of this size.
CRITICAL = 1.95 * (2 / DRAWS) ** 0.5


def drawn(draw: Callable[[], Mapping[str, float]]) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in BASE}
    for _ in range(DRAWS):
        for name, value in draw().items():
            samples[name].append(value)
    return samples


@pytest.fixture(scope="module")
def samples() -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    ours, theirs = random.Random(1), random.Random(2)
    sampler = make("yolov5")
    view = View(base=BASE, space=META, layout=YOLOV5, parents=[generation(0, 0.5)])
    return drawn(lambda: sampler.draw(view, ours).hyp), drawn(lambda: reference(BASE, theirs))


@pytest.mark.parametrize("name", META)
def test_every_hyp_is_drawn_as_by_the_published_rule(samples: object, name: str) -> None:
    ours, theirs = samples  # type: ignore[misc]
    assert distance(ours[name], theirs[name]) < CRITICAL


def test_the_comparison_sees_another_sigma(samples: object) -> None:
    _, theirs = samples  # type: ignore[misc]
    rng = random.Random(3)
    wider = drawn(lambda: mutation.mutate(BASE, META, rng, sigma=0.4))
    assert sum(distance(wider[n], theirs[n]) > CRITICAL for n in META) > len(META) / 2


def test_parents_are_drawn_by_their_lead_over_the_fifth() -> None:
    fitnesses = [0.9, 0.1, 0.5, 0.45, 0.3, 0.35, float("nan")]
    found = [generation(i, f) for i, f in enumerate(fitnesses)]
    rng = random.Random(0)
    parents = Counter(
        parent.number
        for _ in range(20_000)
        if (parent := mutation.select_parent(found, rng)) is not None
    )
    best = sorted(fitnesses[:-1], reverse=True)[:5]
    weights = {f: f - best[-1] + 1e-6 for f in best}
    for number, fitness in enumerate(fitnesses[:-1]):
        share = weights.get(fitness, 0) / sum(weights.values())
        assert parents[number] / 20_000 == pytest.approx(share, abs=0.015)


bounds = st.builds(
    lambda low, width, gain: Bounds(gain, round(low, 5), round(low + width, 5)),
    st.floats(0, 5),
    st.floats(0.001, 20),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
)


@pytest.mark.parametrize("name", ["yolov5", "random"])
@settings(deadline=None, max_examples=60)
@given(
    space=st.dictionaries(st.sampled_from("abcdef"), bounds, min_size=1),
    seed=st.integers(),
    fitnesses=st.lists(st.floats(0, 1), max_size=7),
)
def test_what_is_drawn_is_in_bounds_and_the_rest_stays(
    name: str, space: dict[str, Bounds], seed: int, fitnesses: list[float]
) -> None:
    rng = random.Random(seed)
    base = {n: b.settle(rng.uniform(b.lower, b.upper)) for n, b in space.items()} | {"fixed": 7.0}
    parents = [generation(i, f, base) for i, f in enumerate(fitnesses)]
    view = View(base=base, space=space, layout=YOLOV5, parents=parents)
    hyp = make(name).draw(view, random.Random(seed)).hyp
    assert list(hyp) == list(base)
    assert hyp["fixed"] == 7.0
    for n, b in space.items():
        assert b.lower <= hyp[n] <= b.upper
        assert b.gain or hyp[n] == base[n]
    assert make(name).draw(view, random.Random(seed)).hyp == hyp
