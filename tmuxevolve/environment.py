"""A trainer's environment."""

from __future__ import annotations

from collections.abc import Mapping

from tmuxevolve.order import Order
from tmuxevolve.processes import MARK
from tmuxevolve.terminal import VARIABLES

_NOT_PASSED = ("COLUMNS", "LINES", "SHLVL", "OLDPWD", "_", "WINDOWID", MARK)

# A bar that keeps its first width would wrap when somebody attaches with a narrower terminal.
_DEFAULTS = {"TQDM_DYNAMIC_NCOLS": "1"}


def environment(order: Order) -> dict[str, str]:
    """Return a trainer's variables but for its GPU's, and for the terminal's that it runs in."""
    return {**_DEFAULTS, **passed(order.env), MARK: order.worker, "PWD": order.workdir}


def passed(env: Mapping[str, str]) -> dict[str, str]:
    """Return what a program in another terminal gets of these variables."""
    absent = (*VARIABLES, *_NOT_PASSED)
    return {name: value for name, value in env.items() if name not in absent}
