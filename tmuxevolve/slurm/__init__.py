"""Jobs in Slurm, by its own commands. Nothing else in the program knows Slurm.

Plain sbatch, squeue, scancel and sattach: what submitit adds (functions as jobs, pickled; waiting
for their results in the process that submitted them) is of no use to workers that outlive it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from signal import Signals

import msgspec

from tmuxevolve import programs
from tmuxevolve.errors import MissingError, TmuxEvolveError

SCRIPT = Path(__file__).with_name("job.sh")
STEP = 0
"""The step of a job that the worker runs in."""

_TIMEOUT = 60.0
# Debian's, others', and where slurmd keeps what it was sent.
_CONFIGURED = ("/etc/slurm", "/etc/slurm-llnl", "/run/slurm/conf")
# The comment is the last one: it may hold a bar.
_FIELDS = "%i|%T|%r|%N|%k"
_GONE = "Invalid job id specified"


class JobState(str, Enum):
    """Slurm's states, in its own words; those of later versions are OTHER."""

    PENDING = "PENDING"
    CONFIGURING = "CONFIGURING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    STOPPED = "STOPPED"
    COMPLETING = "COMPLETING"
    REQUEUED = "REQUEUED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    REVOKED = "REVOKED"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> JobState:
        del value
        return cls.OTHER

    def is_over(self) -> bool:
        """Say whether the job has ended and will not run again."""
        return self in _OVER

    def is_queued(self) -> bool:
        """Say whether the job waits to run."""
        return self in _QUEUED


_OVER = {
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.TIMEOUT,
    JobState.NODE_FAIL,
    JobState.OUT_OF_MEMORY,
    JobState.PREEMPTED,
    JobState.BOOT_FAIL,
    JobState.DEADLINE,
    JobState.REVOKED,
}
_QUEUED = {
    JobState.PENDING,
    JobState.CONFIGURING,
    JobState.REQUEUED,
    JobState.REQUEUE_HOLD,
    JobState.SPECIAL_EXIT,
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job; ``reason`` is why it is pending, in Slurm's word, and ``node`` where it runs.

    ``comment`` is what it was submitted with.
    """

    id: str
    state: JobState
    reason: str
    node: str
    comment: str = ""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A job to submit: sbatch's options, the argv on the node, and the environment there."""

    options: tuple[str, ...]
    argv: tuple[str, ...]
    environ: Mapping[str, str]


def is_here() -> bool:
    """Say whether this machine belongs to a cluster, as far as one can see for nothing.

    Without a configuration, squeue would look for one in the network, which may take seconds.
    """
    squeue = programs.find("squeue")
    if squeue is None:
        return False
    if any(name in os.environ for name in ("SLURM_CONF", "SLURM_CONF_SERVER")):
        return True
    folders = (*_CONFIGURED, f"{squeue.rpartition('/bin/')[0]}/etc")
    return any(os.path.exists(f"{folder}/slurm.conf") for folder in folders)  # noqa: PTH110


def check() -> None:
    """Raise MissingError when Slurm's commands are not on the PATH."""
    for command in ("sbatch", "squeue", "scancel", "sattach"):
        if programs.find(command) is None:
            raise MissingError(f"{command} is not on the PATH: launcher: slurm needs Slurm's own")


def jobs() -> tuple[Job, ...]:
    """Return this user's jobs, also those that ended a moment ago. Raises TmuxEvolveError."""
    return _listed("--user", str(os.getuid()))


def find(job: str) -> Job | None:
    """Return a job; None when Slurm has forgotten it. Raises TmuxEvolveError."""
    try:
        return next((found for found in _listed("--jobs", job) if found.id == job), None)
    except TmuxEvolveError as error:
        if _GONE in str(error):
            return None
        raise


def submit(submission: Submission) -> str:
    """Submit a job; return its id. Raises TmuxEvolveError, in sbatch's words."""
    # Not what SBATCH_ variables say of it: the order is in the environment.
    fixed = ("--parsable", "--export=ALL", "--requeue", "--nodes=1", "--ntasks=1")
    argv = ("sbatch", *fixed, *submission.options, str(SCRIPT), *submission.argv)
    return run(argv, submission.environ).strip().partition(";")[0]


def test(options: Sequence[str], argv: Sequence[str]) -> None:
    """Ask Slurm whether it would take a job. Raises TmuxEvolveError, in sbatch's words."""
    run(("sbatch", "--test-only", "--nodes=1", "--ntasks=1", *options, str(SCRIPT), *argv))


def signal(ids: Sequence[str], number: Signals) -> None:
    """Signal the first process of these jobs, and no other; those that are gone are passed over.

    Raises TmuxEvolveError.
    """
    _cancel("--batch", f"--signal={number.name}", *ids)


def cancel(ids: Sequence[str], *, kill: bool = False) -> None:
    """Cancel these jobs: SIGTERM, and SIGKILL after Slurm's KillWait, or at once to ``kill``.

    Raises TmuxEvolveError.
    """
    _cancel(*(("--full", "--signal=KILL") if kill else ()), *ids)


def requeue(job: str) -> None:
    """End a job, and have it run again from its beginning. Raises TmuxEvolveError."""
    run(("scontrol", "requeue", job))


def attached(job: str) -> tuple[str, ...]:
    """Return the argv that shows what a job's step prints, and takes what is typed."""
    return ("sattach", f"{job}.{STEP}")


def exit_status(job: str) -> int | None:
    """Return the exit status of a job that has ended; 128 + n after signal n. None: unknown.

    Raises TmuxEvolveError.
    """
    words = run(("scontrol", "-o", "show", "job", job)).split()
    found = next((word for word in words if word.startswith("ExitCode=")), None)
    if found is None:
        return None
    status, _, number = found.partition("=")[2].partition(":")
    return 128 + int(number) if int(number or 0) else int(status)


def run(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """Run one of Slurm's commands; return its output. Raises TmuxEvolveError with its message."""
    try:
        env = _plain(os.environ) if environ is None else environ
        done = programs.run(argv, "launcher: slurm needs it", env, _TIMEOUT)
    except subprocess.TimeoutExpired:
        raise TmuxEvolveError(f"{argv[0]} does not answer in {_TIMEOUT:g} s") from None
    if done.returncode:
        raise TmuxEvolveError(_message(argv[0], done.stderr or done.stdout))
    return done.stdout


def _plain(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would filter or format squeue's output."""
    return {name: value for name, value in environ.items() if not name.startswith("SQUEUE_")}


def _message(command: str, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # sbatch begins each line with its own name, and the last one says the least.
    text = lines[0] if lines else "failed without a word"
    text = text.removeprefix(f"{command}: ").removeprefix("error: ")
    return f"{command}: {text}"


def _cancel(*words: str) -> None:
    try:
        run(("scancel", *words))
    except TmuxEvolveError as error:
        if _GONE not in str(error) and "already completing or completed" not in str(error):
            raise


def _listed(*chosen: str) -> tuple[Job, ...]:
    argv = ("squeue", "--noheader", "--states=all", "--format", _FIELDS, *chosen)
    lines = run(argv).splitlines()
    return tuple(_parse(line) for line in lines if line.count("|") >= _FIELDS.count("|"))


def _parse(line: str) -> Job:
    job, state, reason, node, comment = line.split("|", _FIELDS.count("|"))
    return Job(id=job, state=JobState(state), reason=reason, node=node, comment=comment)
