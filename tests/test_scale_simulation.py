"""The simulation behind docs/scale.md, where the answer is known."""

from __future__ import annotations

import importlib.util
import sys
from itertools import accumulate
from pathlib import Path
from random import Random
from statistics import mean
from types import ModuleType

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "scale_simulation.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_simulation", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_waits_at_random_arrivals_are_those_of_queueing_theory(
    simulation: ModuleType, load: float
) -> None:
    """M/D/1: the mean wait is load / (2 (1 - load)) holds."""
    rng = Random(1)
    arrivals = accumulate(rng.expovariate(load) for _ in range(200_000))
    expected = load / (2 * (1 - load))
    assert mean(simulation.queue(arrivals, 1.0)) == pytest.approx(expected, rel=0.05)


def test_many_independent_workers_wait_as_random_arrivals_do(simulation: ModuleType) -> None:
    """A thousand workers of which each comes seldom are nearly Poisson arrivals of ask and tell.

    Every ask follows its own tell at once, so the two are one job of twice the hold for whoever
    waits: the M/D/1 wait of that hold is a bound that an ask does not exceed.
    """
    found = simulation.simulate(1_000, 1_000.0, simulation.Costs(ask=0.0, tell=0.5))
    assert found.utilisation == pytest.approx(0.5, rel=0.05)
    asks_and_tells = simulation.simulate(1_000, 1_000.0, simulation.Costs(ask=0.25, tell=0.25))
    assert mean(asks_and_tells.waits) < 0.5 * 0.5 / (2 * 0.5) * 1.5


def test_one_worker_never_waits(simulation: ModuleType) -> None:
    found = simulation.simulate(1, 60.0, simulation.Costs(ask=1.0, tell=1.0), generations=100)
    assert found.wait(1.0) == 0
    assert found.lost == pytest.approx(2 / 62, rel=0.1)


def test_beyond_saturation_the_lock_is_always_busy(simulation: ModuleType) -> None:
    costs = simulation.Costs(ask=0.5, tell=0.5)
    assert simulation.saturation(99.0, costs) == 100
    found = simulation.simulate(200, 99.0, costs, generations=40)
    assert found.utilisation == pytest.approx(1.0, abs=0.01)
    # A hundred would be enough to keep it busy: half of the workers' time is lost.
    assert found.lost == pytest.approx(0.5, abs=0.05)


def test_a_storm_is_served_one_by_one(simulation: ModuleType) -> None:
    assert simulation.storm(1_000, 2.0, 0.1) == pytest.approx(2 + 100, abs=1)
