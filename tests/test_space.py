"""evolve.space: what a session says over the trainer's table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmuxevolve.config import Interval
from tmuxevolve.study import rows, space
from tmuxevolve.study.mutation import Bounds

BASE = {"lr0": 0.01, "epochs": 10.0, "mine": 1.0}
TABLE = {"lr0": Bounds(1, 1e-5, 0.1), "epochs": Bounds(2, 1, 20, digits=0)}


def test_what_is_left_out_is_the_tables() -> None:
    assert space.build(BASE, TABLE, {}) == TABLE
    found = space.build(BASE, TABLE, {"lr0": Interval(max=0.05), "epochs": Interval(gain=0.5)})
    assert found == {"lr0": Bounds(1, 1e-5, 0.05), "epochs": Bounds(0.5, 1, 20, digits=0)}


def test_fixed_and_further_hyps() -> None:
    found = space.build(BASE, TABLE, {"lr0": "fixed", "mine": Interval(min=0, max=2)})
    assert found == {"epochs": TABLE["epochs"], "mine": Bounds(1.0, 0, 2)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"lr": "fixed"}, "lr: there is no such hyp; did you mean 'lr0'?"),
        ({"zzzz": "fixed"}, "zzzz: there is no such hyp; known are lr0, epochs, mine"),
        ({"mine": Interval(min=0)}, "mine: give it both min and max"),
        ({"lr0": Interval(min=0.2)}, "lr0: min 0.2 is above max 0.1"),
        ({"lr0": Interval(max=math.nan)}, "lr0: expected finite numbers"),
        ({"lr0": Interval(min=0.012345671, max=0.012345672)}, "no number of five digits lies"),
    ],
)
def test_mistakes(overrides: dict[str, Interval | str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        space.build(BASE, TABLE, overrides)
    assert message in str(error.value)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_what_settles_within_bounds_is_within_what_was_said(
    low: float, width: float, at: float
) -> None:
    said = Interval(min=low, max=low + width)
    try:
        bounds = space.build({"x": low}, {}, {"x": said})["x"]
    except ValueError:
        return
    value = rows.canonical(bounds.settle(bounds.lower + at * (bounds.upper - bounds.lower)))
    assert low <= value <= low + width
