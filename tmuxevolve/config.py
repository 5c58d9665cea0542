"""What a sessions.yaml says, as typed, frozen values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tmuxevolve.errors import UsageError
from tmuxevolve.units import Duration, Size

FILE_NAME = "sessions.yaml"
# An index, MIG instance 0 of GPU 1 as "1:0", or a UUID or its beginning. Five digits: an int, fast.
_GPU_NAME = r"^([0-9]{1,5}(:[0-9]{1,5})?|(GPU|MIG)-[^\s,]+)$"
_Use = Literal["free", "all", "none"]
_GpuName = Annotated[int, msgspec.Meta(ge=0)] | Annotated[str, msgspec.Meta(pattern=_GPU_NAME)]


class Interval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a hyp may go; what is left out is the trainer's own."""

    gain: Annotated[float, msgspec.Meta(ge=0)] | None = None
    min: float | None = None
    max: float | None = None


class FitnessSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a program of which nothing is known leaves its fitness.

    ``key`` names a value in a .json ``file`` ("val.map") or a column in a .csv one (its last row);
    ``pattern`` is a regex whose last match, in ``file`` or in what the program printed, counts.
    """

    file: str | None = None
    key: str | None = None
    pattern: str | None = None
    direction: Literal["maximize", "minimize"] = "maximize"


class Evolve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hyperparameters evolve.

    ``cooperative``: the windows share one study, and ``generations`` is its budget. ``native`` is
    the trainer's own ``--evolve`` in each window, and ``generations`` is each window's.
    ``storage`` is the URL of a database that has the study; None: the results directory has it.
    ``standby`` lets the next trainer's process load while the last one trains; None: on GPUs.
    """

    mode: Literal["cooperative", "native"] = "cooperative"
    generations: Annotated[int, msgspec.Meta(ge=1)] | None = None
    sampler: Literal["yolov5", "random", "optuna-tpe", "optuna-cmaes", "optuna-nsgaii"] = "yolov5"
    seed: int = 0
    space: dict[str, Interval | Literal["fixed"]] = {}
    hyp: str | dict[str, float] | None = None
    fitness: FitnessSource | None = None
    standby: bool | None = None
    storage: str | None = None


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows a failed training: ``attempts`` more of it, the first after ``backoff``.

    ``on: never`` tries nothing again, neither a training nor a worker that was killed; ``always``
    runs a trainer of native mode again that has come to its end.
    """

    on: Literal["failure", "never", "always"] = "failure"
    attempts: Annotated[int, msgspec.Meta(ge=0)] = 1
    backoff: Duration = msgspec.field(default_factory=lambda: Duration(10))
    max_consecutive_failures: Annotated[int, msgspec.Meta(ge=1)] = 3

    @property
    def retries(self) -> int:
        """Return how often failed hyps are tried again."""
        return 0 if self.on == "never" else self.attempts


class GpuPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which GPUs get a worker. Memory in bytes, utilisation in percent.

    ``leave_free`` GPUs stay free for others, and one must have been free ``idle_for`` seconds.
    ``watch`` goes on looking for GPUs that become free.
    """

    use: _Use | Annotated[tuple[_GpuName, ...], msgspec.Meta(min_length=1)] = "free"
    max_memory_used: Size = msgspec.field(default_factory=lambda: Size(500 << 20))
    max_utilization: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    min_free_memory: Size | None = None
    ignore_processes: tuple[str, ...] = ()
    per_gpu: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    leave_free: Annotated[int, msgspec.Meta(ge=0)] = 0
    idle_for: Duration | None = None
    watch: bool = False
    visible: Literal["index", "uuid"] = "index"


class StopPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How ``stop`` asks a trainer to end, and how long it waits for that."""

    signal: Literal["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] = "SIGINT"
    grace: Duration = msgspec.field(default_factory=lambda: Duration(30))


NOTICE = ("title", "message", "event", "session", "window", "generation", "fitness", "results")
"""What ``notify.command`` can have in braces."""


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of what: a program, and services by Apprise's URLs, which hold secrets."""

    command: str | tuple[str, ...] | None = None
    urls: tuple[str, ...] = ()
    on: Annotated[tuple[Literal["finished", "failed", "best"], ...], msgspec.Meta(min_length=1)] = (
        "finished",
        "failed",
    )


class SlurmJobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The jobs that ``launcher: slurm`` submits, in sbatch's own words; each is one worker."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    partition: str | None = None
    account: str | None = None
    time: str | int | None = None
    gres: str | None = None
    constraint: str | None = None
    extra: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        """Say whether the jobs ask for GPUs, as far as their options tell."""
        return "gpu" in " ".join((self.gres or "", *self.extra)).lower()


class SessionEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session as written in the file."""

    workdir: str = "."
    command: str | tuple[str, ...]
    trainer: Literal["yolov5", "ultralytics", "command"] | None = None
    results: str
    evolve: Evolve = msgspec.field(default_factory=Evolve)
    gpus: GpuPolicy = msgspec.field(default_factory=GpuPolicy)
    cpu_slots: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    env: dict[str, str] = {}
    stagger: Duration | None = None
    memory: Size | None = None
    min_free_memory: Size | None = None
    restart: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    stop: StopPolicy = msgspec.field(default_factory=StopPolicy)
    schedule: str | None = None
    overview: bool = False
    notify: Notify | None = None
    multiplexer: Literal["tmux", "screen"] | None = None
    launcher: Literal["local", "slurm"] = "local"
    slurm: SlurmJobs | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session resolved: absolute paths, the command as argv, ``source`` the file it is from.

    ``multiplexer`` is None where tmux is to be taken if it is there.
    ``slurm`` is None unless that is the launcher. ``concealed`` maps the command's words that hold
    values of ``env`` to what may be shown.
    """

    name: str
    source: Path
    workdir: Path
    command: tuple[str, ...]
    trainer: str | None
    results: Path
    evolve: Evolve
    gpus: GpuPolicy
    cpu_slots: int
    env: dict[str, str]
    stagger: float | None
    memory: int | None
    min_free_memory: int | None
    restart: RestartPolicy
    stop: StopPolicy
    schedule: str | None = None
    overview: bool = False
    notify: Notify | None = None
    multiplexer: str | None = None
    slurm: SlurmJobs | None = None
    concealed: dict[str, str] = {}

    def shown(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return a command for people and programs to see: values of ``env`` may be secrets."""
        return tuple(self.concealed.get(word, word) for word in argv)


def parse_use(text: str) -> _Use | tuple[int | str, ...]:
    """Read ``--gpus``: free, all, none, or GPUs by index, MIG "1:0" or UUID."""
    if text in {"free", "all", "none"}:
        return text  # type: ignore[return-value]
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(_GPU_NAME, name) for name in names):
        raise UsageError(f"--gpus {text!r}: expected free, all, none, or GPUs such as 0,2")
    return tuple(int(name) if name.isdecimal() else name for name in names)


def with_use(session: Session, text: str) -> Session:
    """Return the session with ``gpus.use`` replaced by what the command line says."""
    gpus = msgspec.structs.replace(session.gpus, use=parse_use(text))
    return msgspec.structs.replace(session, gpus=gpus)
