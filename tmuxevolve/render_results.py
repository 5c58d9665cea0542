"""Text of the results: the best generations, their hyps, the command to train with them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from tmuxevolve.render import table
from tmuxevolve.session.best import Best, Command, Entry
from tmuxevolve.units import format_duration


def best(found: Best, program: str, width: int | None) -> str:
    """Return the best generation beside the base, or several beside each other; how to train."""
    lines = [_head(found)]
    if found.problem:
        lines.append(f"note: {found.problem}")
    lines += ["", *_generations(found.top, width), ""]
    lines += _beside(found) if len(found.top) == 1 else _several(found, width)
    if found.command:
        number = found.top[0].number
        lines += ["", f"to train with the hyps of generation {number}:"]
        lines += _steps(found, found.command, program)
    return "\n".join(lines)


def _head(found: Best) -> str:
    of = f" of {found.budget}" if found.budget else ""
    noun = "generation" if found.generations == 1 and not found.budget else "generations"
    return f"{found.generations}{of} {noun}, results in {found.results}"


def _generations(top: Sequence[Entry], width: int | None) -> list[str]:
    metrics = top[0].metrics
    names = [name.rpartition("/")[2] for name in metrics] if len(metrics) > 1 else []
    header = ("GEN", "FITNESS", *(name.upper() for name in names), "WINDOW", "TOOK")
    return table(header, (_generation_row(entry, names) for entry in top), width)


def _generation_row(entry: Entry, names: Sequence[str]) -> Sequence[str]:
    metrics = (f"{value:.5g}" for value in entry.metrics.values()) if names else ()
    took = "-" if entry.duration is None else format_duration(entry.duration)
    return (str(entry.number), f"{entry.fitness:.5g}", *metrics, entry.window or "-", took)


def _beside(found: Best) -> list[str]:
    (entry,) = found.top
    rows = (
        (name, f"{found.base[name]:.5g}", f"{value:.5g}", change(found.base[name], value))
        for name, value in entry.hyp.items()
    )
    file = [f"these hyps are in {entry.hyp_file}"] if entry.hyp_file else []
    return [*table(("HYP", "BASE", "BEST", "CHANGE"), rows), *file]


def _several(found: Best, width: int | None) -> list[str]:
    hyps = [found.base, *(entry.hyp for entry in found.top)]
    rows = ((name, *(f"{hyp[name]:.5g}" for hyp in hyps)) for name in found.base)
    numbers = (f"GEN {entry.number}" for entry in found.top)
    return table(("HYP", "BASE", *numbers), rows, width)


def change(base: float, value: float) -> str:
    """Return by how much a hyp has moved, absolute and in percent; nothing where it has not."""
    if value == base:
        return ""
    percent = f" ({100 * (value - base) / abs(base):+.3g}%)" if base else ""
    return f"{value - base:+.3g}{percent}"


def _steps(found: Best, command: Command, program: str) -> Iterator[str]:
    if command.hyp_file:
        results, file = shlex.quote(found.results), shlex.quote(command.hyp_file)
        yield f"{program} best --results {results} --yaml > {file}"
    if command.folder:
        yield f"mkdir -p {shlex.quote(command.folder)}"
    yield f"cd {shlex.quote(command.workdir)} && {shlex.join(command.argv)}"
    if command.env:
        yield f"note: the session's env sets {', '.join(command.env)} for it"
