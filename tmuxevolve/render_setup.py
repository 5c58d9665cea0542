"""Text from what `init` and `check` have found. Knows value types only; returns str."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tmuxevolve.render import next_steps
from tmuxevolve.yamlfile import plain

if TYPE_CHECKING:
    from tmuxevolve.session.check import Checkup
    from tmuxevolve.session.init import Written

_COLOURS = {"pass": "32", "warn": "33", "fail": "31"}


def written(done: Written, program: str) -> str:
    """Return what `init` has found, what is to be changed, and what to type next."""
    lines = [f"wrote {plain(done.file)}", ""]
    width = max(map(len, done.found))
    lines += [f"{name:{width}}  {plain(found)}" for name, found in done.found.items()]
    if done.todo:
        lines += ["", "to change in the file, where it says TO CHANGE:"]
        lines += [f"  {name}: {plain(what)}" for name, what in done.todo.items()]
    there = "" if done.usual else f" -f {shlex.quote(done.file)}"
    steps = {
        f"check{there}": "is everything there that it needs?",
        f"start{there} --dry-run": "exactly what would run",
        f"start{there}": "one window on every free GPU",
    }
    return "\n".join([*lines, "", *next_steps(steps, program)])


def checkup(found: Checkup, *, colour: bool) -> str:
    """Return a line for every check, and below it what to do where there is something to do."""
    width = max(len(check.name) for check in found.checks)
    lines = []
    for check in found.checks:
        state = f"\x1b[{_COLOURS[check.state]}m{check.state}\x1b[0m" if colour else check.state
        lines.append(f"{state}  {check.name:{width}}  {plain(check.found)}")
        if check.mend:
            lines.append(f"      {'':{width}}  -> {plain(check.mend)}")
    counts = {state: [c.state for c in found.checks].count(state) for state in ("fail", "warn")}
    words = {"fail": "failed", "warn": "to look at"}
    said = ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)
    return "\n".join([*lines, "", said or f"all {len(found.checks)} checks passed"])
