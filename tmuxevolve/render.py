"""Text and JSON from the program's values. Knows value types only; returns str."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve import render_jobs
from tmuxevolve.multiplexer import State
from tmuxevolve.session.plan import Refusal
from tmuxevolve.session.preparation import DryRun
from tmuxevolve.session.start import Started, StartedService, StartedWindow
from tmuxevolve.session.stop import Stopped

if TYPE_CHECKING:
    from tmuxevolve.session.logs import Batch
    from tmuxevolve.session.notify import TryOut

_COLOURS = {
    State.RUNNING.value: "32",
    State.WAITING.value: "33",
    State.FINISHED.value: "36",
    State.FAILED.value: "31",
    State.GONE.value: "31",
    "free": "32",
    "busy": "33",
    "unusable": "31",
}

_NAME_COLOURS = ("36", "33", "32", "35", "34", "31")


def json(value: object) -> str:
    """Return a value as JSON for people's eyes and programs alike."""
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except UnicodeEncodeError:
        # A path or a variable of bytes that are no text: only the standard library writes those.
        from json import dumps

        return dumps(msgspec.to_builtins(value), indent=2)


def started(
    result: Started, program: str, detach_keys: str = "Ctrl-b d", server: str | None = None
) -> str:
    """Return what ``start`` did: a table, what was left alone, and what to type next.

    ``detach_keys`` leave an attached session running; ``server`` is the tmux server's name where
    one was given.
    """
    lines = []
    header, rows = _started_table(result)
    if rows:
        lines += [f"session {result.session}, results in {result.results}", ""]
        lines += table(header, rows)
    if result.running:
        names = ", ".join(window.window for window in result.running)
        lines += [f"already running, left alone: {names}"]
    if result.complete:
        lines += [f"session {result.session}: {_complete(result)}"]
    elif not rows and not result.running:
        lines += [f"session {result.session}: nothing free to start a worker on"]
    lines += refusals(result.refused)
    lines += [f"note: {note}" for note in result.notes]
    if rows:
        lines += ["", *_next_steps(_first(result), program, detach_keys, server)]
    return "\n".join(lines)


def _started_table(result: Started) -> render_jobs.Table:
    if any(window.job for window in result.windows):
        return render_jobs.started(result.windows, result.services)
    rows = [
        *(_started_row(window, window.slot) for window in result.windows),
        *(_started_row(service, "-") for service in result.services),
    ]
    return ("WINDOW", "GPU", "PID", "STATE"), rows


def _first(result: Started) -> str:
    """Return what to type to look at something that was started."""
    return result.windows[0].slot if result.windows else result.services[0].window


def _complete(result: Started) -> str:
    if result.running:
        return "every generation left of the budget is being trained"
    return f"the budget is spent, results in {result.results} (more: start --generations N)"


def dry_run(runs: Sequence[DryRun], refused: Sequence[Refusal], notes: Iterable[str]) -> str:
    """Return what would run in each window, to be pasted into a shell."""
    lines = []
    for run in runs:
        after = f" (after {run.delay:g} s)" if run.delay else ""
        after += f": sbatch {shlex.join(run.sbatch)}" if run.sbatch else ""
        env = "".join(f"{name}={shlex.quote(value)} " for name, value in run.env.items())
        env = f"env {env}" if env else ""
        lines += [f"# {run.window}{after}"]
        lines += [f"cd {shlex.quote(run.workdir)} && {env}{shlex.join(run.argv)}"]
    lines += [f"# {line}" for line in refusals(refused)]
    lines += [f"# note: {note}" for note in notes]
    return "\n".join(lines)


def refusals(refused: Sequence[Refusal]) -> list[str]:
    """Return a line for each slot that gets no worker, with the setting that would change that."""
    return [
        f"not used: {refusal.slot}: {refusal.reason}"
        + (f" (to use it: {refusal.override})" if refusal.override else "")
        for refusal in refused
    ]


def stopped(results: Sequence[Stopped]) -> str:
    """Return what was ended, and how."""
    return "\n".join(f"{r.session}: {r.window} {_how(r)}" for r in results)


def tried_out(result: TryOut) -> str:
    """Return what became of a test notification."""
    outcomes = [(tried.by, "; ".join(tried.problems) or "sent") for tried in result.tried]
    return "\n".join(f"{result.session}: {by}: {how}" for by, how in outcomes)


def log(batch: Batch, *, colour: bool) -> str:
    """Return the lines; where they are of several windows, with the window's name in front."""
    if len(batch.names) == 1:
        return "\n".join(line.text for line in batch.lines)
    width = max(map(len, batch.names))
    fronts = {name: f"{name:{width}} |" for name in batch.names}
    if colour:
        colours = zip(batch.names, cycle(_NAME_COLOURS))
        fronts = {name: f"\x1b[{code}m{fronts[name]}\x1b[0m" for name, code in colours}
    return "\n".join(f"{fronts[line.name]} {line.text}" for line in batch.lines)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    *,
    colour: bool = False,
) -> list[str]:
    """Return aligned columns, two blanks apart, cut at ``width``; ``colour`` paints STATE."""
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = (cell.ljust(size) for cell, size in zip(row, widths, strict=True))
        lines.append("  ".join(padded).rstrip()[:width])
    if colour and "STATE" in header:
        column = header.index("STATE")
        start = sum(widths[:column]) + 2 * column
        lines = [_paint(line, start, start + widths[column]) for line in lines]
    return lines


def _paint(line: str, start: int, end: int) -> str:
    cell = line[start:end]
    code = _COLOURS.get(cell.partition(" ")[0])
    return f"{line[:start]}\x1b[{code}m{cell}\x1b[0m{line[end:]}" if code else line


def _started_row(window: StartedWindow | StartedService, slot: str) -> Sequence[str]:
    state = window.state.value + (f": {window.reason}" if window.reason else "")
    return (window.window, slot, str(window.pid or "-"), state)


def _next_steps(first: str, program: str, keys: str, server: str | None) -> list[str]:
    where = f" -L {shlex.quote(server)}" if server else ""
    steps = {
        f"attach {first}{where}": f"look at one ({keys} leaves it running)",
        f"status{where}": "how far they all are",
        f"stop{where}": "end them all",
    }
    return next_steps(steps, program)


def next_steps(steps: Mapping[str, str], program: str) -> list[str]:
    """Return what to type next, a line each, with what that is for."""
    width = max(map(len, steps))
    return [f"{program} {words:{width}}  # {what}" for words, what in steps.items()]


def _how(result: Stopped) -> str:
    if result.left:
        return f"could not be ended: {', '.join(map(str, result.left))} still alive"
    if not result.processes:
        return "was over already"
    if result.job:
        how = f"ended by {result.signal}" if result.signal else "cancelled"
        return f"{how} (Slurm job {result.job})"
    noun = "process" if result.processes == 1 else "processes"
    by = f" by {result.signal}" if result.signal else ""
    return f"ended{by} ({result.processes} {noun})"
