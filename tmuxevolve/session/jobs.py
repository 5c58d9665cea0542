"""The Slurm jobs of our sessions. What a job is travels with it, in its comment.

A window here only follows a job: the job is what runs, whether there is a window or not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import msgspec

from tmuxevolve import slurm
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.multiplexer import Facts, Multiplexer, State, Window, encode
from tmuxevolve.slurm import Job, JobState

ROLE = "job"
"""The role of a window that follows a job."""

_MARK = "tmuxevolve:"
# A site's Slurm may keep comments in a database column of 4 kB.
_COMMAND_CHARS = 300


class Posted(msgspec.Struct, frozen=True):
    """A job of ours, and what ``start`` knew about it."""

    facts: Facts
    job: Job

    @property
    def window(self) -> Window:
        """Return a window for one that has none here; no pane is behind it."""
        return Window(
            index=number_of(self.facts.slot),
            name=self.facts.slot,
            pane="",
            pid=0,
            dead=self.job.state.is_over(),
            dead_status=None,
            dead_signal=None,
            facts=self.facts,
            ending=None,
        )


def comment(facts: Facts) -> str:
    """Return the facts as a job's comment: ASCII, without blanks."""
    short = msgspec.structs.replace(facts, command=facts.command[:_COMMAND_CHARS])
    return _MARK + encode(short)


def posted() -> tuple[Posted, ...]:
    """Return our jobs, of all sessions, also those that ended a moment ago, oldest first.

    Raises TmuxEvolveError when Slurm does not answer.
    """
    found = ((_facts(job.comment), job) for job in slurm.jobs())
    mine = (Posted(facts, job) for facts, job in found if facts)
    return tuple(sorted(mine, key=lambda p: (p.facts.session, number_of(p.facts.slot), p.job.id)))


def active(session: str | None = None) -> dict[str, Posted]:
    """Return the jobs that are queued or run, by worker. Raises TmuxEvolveError."""
    return {
        found.facts.worker: found
        for found in posted()
        if not found.job.state.is_over() and session in {None, found.facts.session}
    }


def all_windows(mux: Multiplexer) -> tuple[Window, ...]:
    """Return every window of ours, and one for each job that has none here.

    Raises TmuxEvolveError when there are windows that follow jobs, and Slurm does not answer.
    """
    windows = mux.all_windows()
    if not slurm.is_here():
        return windows
    there = {w.facts.worker for w in windows if w.facts.role == ROLE}
    try:
        found = active()
    except TmuxEvolveError:
        if there:
            raise
        # A machine may have Slurm's programs and no cluster.
        return windows
    lonely = [job.window for worker, job in found.items() if worker not in there]
    if not lonely:
        return windows
    return tuple(sorted([*windows, *lonely], key=lambda w: (w.facts.session, w.index)))


def of(windows: Sequence[Window]) -> Mapping[str, Job]:
    """Return the jobs that these windows follow, by worker, as far as Slurm remembers them.

    Raises TmuxEvolveError.
    """
    if not any(window.facts.role == ROLE for window in windows):
        return {}
    return {found.facts.worker: found.job for found in posted()}


def state(window: Window, job: Job | None) -> State:
    """Return the state of the worker whose job the window follows."""
    if job is None:
        # Slurm has forgotten it: the window knows how it ended, if it has seen that.
        return window.state if window.dead else State.GONE
    if job.state.is_queued():
        return State.WAITING
    if not job.state.is_over():
        return State.RUNNING
    return State.FINISHED if job.state is JobState.COMPLETED else State.FAILED


def number_of(slot: str) -> int:
    """Return a job's number in its session, from its slot's label: 3 for "job3"."""
    found = re.fullmatch(r"job([0-9]+)", slot)
    return int(found[1]) if found else 0


def _facts(text: str) -> Facts | None:
    """Read a comment; None when it is not one of ours."""
    if not text.startswith(_MARK):
        return None
    try:
        return msgspec.convert(json.loads(text[len(_MARK) :]), Facts)
    except (ValueError, msgspec.ValidationError):
        return None
