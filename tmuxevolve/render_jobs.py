"""What is shown of Slurm jobs in place of GPUs and pids. Knows value types only; returns str."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tmuxevolve.session.start import StartedService, StartedWindow
from tmuxevolve.session.status import JobStatus, WindowStatus
from tmuxevolve.units import format_duration, squeeze

Table = tuple[Sequence[str], list[Sequence[str]]]


def started(windows: Iterable[StartedWindow], services: Iterable[StartedService]) -> Table:
    """Return the header and the rows for what was submitted."""
    rows: list[Sequence[str]] = [
        (window.window, window.job or "-", _state(window)) for window in windows
    ]
    rows += [(service.window, "-", _state(service)) for service in services]
    return ("WINDOW", "JOB", "STATE"), rows


def status(windows: Iterable[WindowStatus]) -> Table:
    """Return the header and a row for each job; beside our own state there is Slurm's."""
    header = ("WINDOW", "JOB", "NODE", "SLURM", "STATE", "GEN", "ELAPSED", "LAST LINE")
    return header, [_row(window) for window in windows]


def _row(window: WindowStatus) -> Sequence[str]:
    job = window.job
    state = window.state.value
    if window.exit_status is not None:
        state += f" (exit {window.exit_status})"
    return (
        window.window,
        job.id if job else "-",
        (job.node if job else "") or "-",
        _slurm(job) if job else "-",
        state,
        "-" if window.generation is None else str(window.generation),
        format_duration(window.elapsed),
        squeeze(window.progress),
    )


def _slurm(job: JobStatus) -> str:
    waits = job.node == "" and job.reason not in {"", "None"}
    return f"{job.state} ({job.reason})" if waits else job.state


def _state(started: StartedWindow | StartedService) -> str:
    return started.state.value + (f": {started.reason}" if started.reason else "")
