"""YOLOv5's mutation rule, against its definition and against a second implementation of it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuxevolve.study.history import Generation
from tmuxevolve.study.mutation import META, Bounds, constrain, mutate, select_parent

SEEDS = st.integers(0, 2**32)
MUTABLE = [name for name, bounds in META.items() if bounds.gain]


@st.composite
def hyps(draw: st.DrawFn) -> dict[str, float]:
    """Draw hyps within bounds, of which at least one can move by a visible amount."""
    names = draw(st.lists(st.sampled_from(sorted(META)), unique=True))
    found = {name: draw(st.floats(META[name].lower, META[name].upper)) for name in names}
    mover = draw(st.sampled_from(MUTABLE))
    found[mover] = (META[mover].lower + META[mover].upper) / 2
    return found


@settings(deadline=None)
@given(hyps(), SEEDS)
def test_a_child_is_within_bounds_rounded_and_not_its_parent(
    parent: dict[str, float], seed: int
) -> None:
    child = mutate(parent, META, Random(seed))
    assert list(child) == list(parent)
    assert child != constrain(parent, META)
    for name, value in child.items():
        assert META[name].lower <= value <= META[name].upper
        assert value == round(value, 5)


@settings(deadline=None)
@given(hyps(), SEEDS)
def test_hyps_without_gain_or_bounds_stay(parent: dict[str, float], seed: int) -> None:
    parent = {**parent, "fliplr": 0.5, "iou_t": 0.9, "mine": 12.3456789}
    child = mutate(parent, META, Random(seed))
    assert (child["fliplr"], child["iou_t"], child["mine"]) == (0.5, 0.7, 12.3456789)


@pytest.mark.parametrize("parent", [{}, {"degrees": 0.0, "flipud": 0.0}, {"fliplr": 0.5, "a": 1}])
def test_what_cannot_move_comes_back(parent: dict[str, float]) -> None:
    assert mutate(parent, META, Random(1)) == parent


def test_a_value_that_rounds_to_itself_is_drawn_until_it_moves() -> None:
    children = {mutate({"lr0": 5e-5}, META, Random(seed))["lr0"] for seed in range(50)}
    assert 5e-5 not in children


def test_the_same_seed_draws_the_same_child() -> None:
    parent = {"lr0": 0.01, "box": 0.05}
    assert mutate(parent, META, Random(3)) == mutate(parent, META, Random(3))
    assert mutate(parent, META, Random(3)) != mutate(parent, META, Random(4))


def reference_factors(gains: Sequence[float], rng: Random) -> list[float]:
    """Draw YOLOv5 v7.0's factors, step by step from their description."""
    while True:
        picked = [rng.random() < 0.8 for _ in gains]
        normal = [math.sqrt(-2 * math.log(1 - rng.random())) * math.cos(2 * math.pi * rng.random())
                  for _ in gains]  # fmt: skip
        common = rng.random()
        factors = []
        for gain, chosen, z in zip(gains, picked, normal, strict=True):
            factor = gain * chosen * z * common * 0.2 + 1
            factors.append(3.0 if factor > 3.0 else 0.3 if factor < 0.3 else factor)
        if any(factor != 1 for factor in factors):
            return factors


def our_factors(gains: Sequence[float], rng: Random) -> list[float]:
    # Large values, so that rounding to five digits does not blur the factors.
    parent = {str(index): 1e6 for index in range(len(gains))}
    bounds = {str(index): Bounds(gain, 0.0, 1e9) for index, gain in enumerate(gains)}
    return [value / 1e6 for value in mutate(parent, bounds, rng).values()]


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the largest gap between two empirical distributions (Kolmogorov-Smirnov)."""
    a, b = sorted(left), sorted(right)
    return max(abs(bisect_right(a, at) / len(a) - bisect_right(b, at) / len(b)) for at in (*a, *b))


@pytest.mark.parametrize("gains", [(1.0,) * 8, (0.3, 1.0, 2.0), (30.0, 30.0)])
def test_factors_are_distributed_as_the_reference(gains: tuple[float, ...]) -> None:
    count = 6000
    ours, theirs = Random(11), Random(12)
    a = [our_factors(gains, ours) for _ in range(count)]
    b = [reference_factors(gains, theirs) for _ in range(count)]
    # At this count two equal distributions differ by more than 0.0356 once in a thousand.
    for index in range(len(gains)):
        assert distance([row[index] for row in a], [row[index] for row in b]) < 0.036
    # These two tell whether the common draw is common, and how many hyps change together.
    assert distance(*([max(abs(v - 1) for v in row) for row in rows] for rows in (a, b))) < 0.036
    assert distance(*([sum(v != 1 for v in row) for row in rows] for rows in (a, b))) < 0.036


def generations(*fitnesses: float) -> list[Generation]:
    return [Generation(n, (0, 0, f, f, 0, 0, 0), {}) for n, f in enumerate(fitnesses)]


def shares(found: Sequence[Generation], draws: int = 20_000) -> dict[int, float]:
    rng = Random(5)
    counts: Counter[int] = Counter()
    for _ in range(draws):
        parent = select_parent(found, rng)
        assert parent
        counts[parent.number] += 1
    return {number: count / draws for number, count in counts.items()}


def test_parents_are_the_five_best_weighted_by_their_lead() -> None:
    found = shares(generations(0.1, 0.5, 0.2, 0.4, 0.3, 0.05, math.nan, 0.9))
    # 0.1, 0.05 and nan are not among the five best; 0.2 is the last of them and weighs 1e-6.
    expected = {7: 0.7 / 1.3, 1: 0.3 / 1.3, 3: 0.2 / 1.3, 4: 0.1 / 1.3}
    assert set(found) - {2} == set(expected)
    assert found.get(2, 0) < 0.001
    for number, share in expected.items():
        assert found[number] == pytest.approx(share, abs=0.015)


def test_equal_parents_have_equal_chances() -> None:
    assert shares(generations(0.3, 0.3)) == {
        0: pytest.approx(0.5, abs=0.02),
        1: pytest.approx(0.5, abs=0.02),
    }


@pytest.mark.parametrize("fitnesses", [(), (math.nan,), (math.inf, math.nan)])
def test_without_a_finite_fitness_there_is_no_parent(fitnesses: tuple[float, ...]) -> None:
    assert select_parent(generations(*fitnesses), Random(0)) is None
