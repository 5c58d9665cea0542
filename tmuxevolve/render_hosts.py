"""What is said of a study's workers on other hosts."""

from __future__ import annotations

from collections.abc import Sequence

from tmuxevolve.study.survey import Worker
from tmuxevolve.units import format_duration


def going_on(workers: Sequence[Worker]) -> str:
    """Return a line about workers that ``stop`` here has left alone."""
    noun, verb = ("worker", "goes") if len(workers) == 1 else ("workers", "go")
    hosts = ", ".join(dict.fromkeys(worker.host for worker in workers))
    return f"{len(workers)} {noun} on other hosts {verb} on: {hosts}"


def others(workers: Sequence[Worker]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the head and the rows of a table of workers."""
    jobs = any(worker.job for worker in workers)
    header = ("HOST", "WINDOW", "GPU", *(("JOB",) if jobs else ()), "GEN", "LAST SEEN")
    rows = (
        (
            worker.host,
            worker.slot,
            worker.device or "-",
            *((worker.job or "-",) if jobs else ()),
            "-" if worker.generation is None else str(worker.generation),
            f"{format_duration(worker.seen)} ago" + ("" if worker.alive else ", lost"),
        )
        for worker in workers
    )
    return header, tuple(rows)
