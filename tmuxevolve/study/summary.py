"""What a worker knows of its study, kept so that a look at a long history need not read all of it.

It is nothing but a shortcut: whoever finds that it does not fit to evolve.csv and the journal, or
finds none, reads those two from the start.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from tmuxevolve.study import files
from tmuxevolve.study.files import Files
from tmuxevolve.study.history import Generation
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.state import Open, State
from tmuxevolve.study.tail import Mark

_FRESH = 1.0


class _Best(msgspec.Struct, frozen=True):
    number: int
    metrics: tuple[float | None, ...]
    hyp: dict[str, float]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A State but for its hyps: what was read, and what there was."""

    table: Mark
    columns: tuple[str, ...]
    finished: int
    best: _Best | None
    problem: str | None
    journal: Mark
    open: tuple[Open, ...]
    failed: int
    skipped: int
    last_failure: dict[str, Failed]


def write(where: Files, state: State, *, anew: bool = False) -> None:
    """Keep what this state knows, unless somebody just has; ``anew`` even then.

    The caller holds the study's lock. Raises OSError.
    """
    if not anew and _is_fresh(where):
        return
    table, journal = state.table.tail.mark(), state.journal.tail.mark()
    if table is None or journal is None:
        return
    best = state.table.best
    summary = Summary(
        table=table,
        columns=state.table.columns,
        finished=state.table.count,
        best=_Best(best.number, best.metrics, dict(best.hyp)) if best else None,
        problem=state.table.problem,
        journal=journal,
        open=tuple(found for found in [*state.open.values()] if not state.is_over(found)),
        failed=state.failed,
        skipped=state.given_up,
        last_failure=state.last_failure,
    )
    files.replace(where.summary, msgspec.json.encode(summary).decode())


def resume(path: Path, state: State) -> None:
    """Let a fresh state go on from a summary; without one that fits it stays as it is.

    The state then lacks the hyps of what was finished before: it serves to look, not to ask.
    Raises OSError when the study's own files cannot be read.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return
    table, journal = state.table, state.journal
    if table.tail.fits(found.table) and journal.tail.fits(found.journal):
        table.resume(found.table, found.columns, found.finished, _generation(found.best, state))
        table.problem = found.problem
        state.resume(found.journal, found.open, found.failed, found.skipped, found.last_failure)


def _generation(best: _Best | None, state: State) -> Generation | None:
    if best is None:
        return None
    metrics = tuple(math.nan if value is None else value for value in best.metrics)
    return Generation(best.number, metrics, best.hyp, state.table.layout)


def _is_fresh(where: Files) -> bool:
    """Say whether somebody kept what it knew within a second of the last row. Raises OSError.

    One writes it for all: of a thousand workers each tells less than once a second.
    """
    try:
        return where.table.stat().st_mtime - where.summary.stat().st_mtime < _FRESH
    except FileNotFoundError:
        return False
