"""What is running, and how far it is: windows, processes, results and GPUs in one value."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve import gpus, processes, trainers
from tmuxevolve.errors import UsageError
from tmuxevolve.gpus import Snapshot
from tmuxevolve.memory import Limit
from tmuxevolve.multiplexer import WORKER, Facts, Multiplexer, State, Window
from tmuxevolve.session import jobs
from tmuxevolve.slurm import Job
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.survey import Survey, Worker, survey
from tmuxevolve.study.table import Tally
from tmuxevolve.terminal import NOTICE

WORK = {WORKER, jobs.ROLE}


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A Slurm job, in Slurm's words; ``reason`` is why it is pending, ``node`` where it runs."""

    id: str
    state: str
    reason: str
    node: str


class WindowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One window. Times are in seconds (``started`` since the epoch), memory in bytes.

    ``pid`` is the trainer's; ``exit_status`` is 128 + n after signal n; ``progress`` is the last
    line on the window's screen; ``generation`` is the number of the one at work, ``failure`` the
    last training that failed here, with its reason. The gpu fields (temperature in degrees Celsius,
    power in watts) are None on CPU slots, and where the driver does not say.
    """

    window: str
    index: int
    slot: str
    device: str
    uuid: str | None
    pid: int | None
    state: State
    exit_status: int | None
    reason: str | None
    started: float
    elapsed: float
    progress: str
    generation: int | None
    failure: str | None
    gpu_memory_used: int | None
    gpu_memory_total: int | None
    gpu_utilization: int | None
    gpu_temperature: int | None
    gpu_power: float | None
    gpu_power_limit: float | None
    job: JobStatus | None = None
    worker: str = ""


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A window that no worker runs in: ``watch`` or ``overview``; ``line`` is its last one."""

    window: str
    index: int
    state: State
    line: str


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One session; ``generations`` is None when its trainer keeps no evolve.csv.

    In cooperative mode ``budget`` is the study's, ``waiting`` were given back and nobody works on
    them, ``failed`` trainings failed, and ``skipped`` generations were given up after that.
    ``memory`` is each worker's limit, and what holds it to that. ``workers`` are those of all
    machines; ``launcher`` is "local" or "slurm".
    """

    session: str
    trainer: str
    command: str
    results: str
    mode: str
    generations: int | None
    budget: int | None
    waiting: int
    failed: int
    skipped: int
    best_fitness: float | None
    problem: str | None
    memory: Limit | None
    windows: tuple[WindowStatus, ...]
    services: tuple[ServiceStatus, ...] = ()
    launcher: str = "local"
    workers: tuple[Worker, ...] = ()

    @property
    def elsewhere(self) -> tuple[Worker, ...]:
        """Return the workers that no window here shows: other machines', other servers'."""
        shown = {window.worker for window in self.windows}
        return tuple(worker for worker in self.workers if worker.worker not in shown)


class Seen(msgspec.Struct, frozen=True):
    """Windows at one moment: the lines on their screens by pane, the trainers' pids by worker."""

    screens: Mapping[str, Sequence[str]]
    pids: Mapping[str, int]
    snapshot: Snapshot
    jobs: Mapping[str, Job] = {}


def status(
    mux: Multiplexer, windows: Sequence[Window], environ: Mapping[str, str]
) -> tuple[SessionStatus, ...]:
    """Return the state of these windows, by session."""
    seen = see(mux, windows, environ)
    names = dict.fromkeys(window.facts.session for window in windows)
    sessions = ([w for w in windows if w.facts.session == name] for name in names)
    return tuple(of_session(mine, seen, _results(mine[0].facts)) for mine in sessions)


def see(mux: Multiplexer, windows: Sequence[Window], environ: Mapping[str, str]) -> Seen:
    """Look at these windows once: their screens, processes and GPUs."""
    firsts = {w.facts.worker: w.pid for w in windows if not w.dead and w.facts.role == WORKER}
    on_gpu = any(window.facts.uuid for window in windows)
    return Seen(
        screens=mux.screens([window for window in windows if window.pane]),
        pids=processes.trainer_pids(firsts),
        snapshot=gpus.snapshot(environ) if on_gpu else Snapshot(()),
        jobs=jobs.of(windows),
    )


def of_session(
    windows: Sequence[Window], seen: Seen, results: Results, facts: Facts | None = None
) -> SessionStatus:
    """Return the state of one session's windows, which are all there are.

    ``facts`` are the session's where it has no window.
    """
    facts = facts or windows[0].facts
    return SessionStatus(
        session=facts.session,
        trainer=facts.trainer,
        command=facts.command,
        results=facts.results,
        mode=facts.mode,
        generations=results.finished,
        budget=results.budget,
        waiting=results.waiting,
        failed=results.failed,
        skipped=results.skipped,
        best_fitness=results.best_fitness,
        problem=results.problem,
        memory=facts.memory,
        windows=tuple(_window(w, seen, results) for w in windows if w.facts.role in WORK),
        services=tuple(_service(w, seen) for w in windows if w.facts.role not in WORK),
        workers=results.workers,
        launcher="slurm" if any(w.facts.role == jobs.ROLE for w in windows) else "local",
    )


class Results(msgspec.Struct, frozen=True):
    """What a results directory says, in either mode."""

    finished: int | None = None
    best_fitness: float | None = None
    problem: str | None = None
    budget: int | None = None
    waiting: int = 0
    failed: int = 0
    skipped: int = 0
    at_work: Mapping[str, int] = msgspec.field(default_factory=dict)
    failures: Mapping[str, Failed] = msgspec.field(default_factory=dict)
    in_jobs: Mapping[str, str] = msgspec.field(default_factory=dict)
    workers: tuple[Worker, ...] = ()

    def worker_of(self, window: Window, job: Job | None) -> str:
        """Return the window's worker; of a job, the one that it runs as since it last began."""
        return self.in_jobs.get(job.id if job else "", window.facts.worker)


def _results(facts: Facts) -> Results:
    if facts.mode == "native":
        return _native(facts)
    try:
        return of_study(facts.results, survey(Path(facts.results)))
    except (OSError, UsageError) as error:
        return Results(problem=str(error))


def of_study(where: str, found: Survey | None) -> Results:
    """Return what a look at the study in a window's results directory says."""
    if found is None:
        return Results(problem=f"{where}: the study is gone")
    return Results(
        finished=found.finished,
        best_fitness=found.best.fitness if found.best else None,
        problem=found.problem,
        budget=found.budget,
        waiting=found.waiting,
        failed=found.failed,
        skipped=found.skipped,
        at_work=found.at_work,
        failures=found.failures,
        in_jobs=found.in_jobs,
        workers=found.workers,
    )


def _native(facts: Facts) -> Results:
    return of_tally(trainers.find(facts.trainer, ()).tally(Path(facts.results)))


def of_tally(tally: Tally | None) -> Results:
    """Return what an evolve.csv says that the trainers write themselves."""
    if tally is None:
        return Results()
    fitness = tally.best.fitness if tally.best else None
    return Results(tally.finished, fitness, tally.problem)


def _window(window: Window, seen: Seen, results: Results) -> WindowStatus:
    job = seen.jobs.get(window.facts.worker)
    # What stands in the window of one that is queued again was long ago.
    queued = job is not None and job.state.is_queued()
    worker = results.worker_of(window, job)
    failed = results.failures.get(worker)
    facts, ending = window.facts, window.ending
    pid = seen.pids.get(facts.worker)
    gpu = seen.snapshot.find(facts.uuid) if facts.uuid else None
    ended = ending.ended if ending else time.time()
    return WindowStatus(
        window=window.name,
        index=window.index,
        slot=facts.slot,
        device=facts.device,
        uuid=facts.uuid,
        pid=pid,
        state=jobs.state(window, job) if facts.role == jobs.ROLE else _state(window, pid),
        exit_status=window.exit_status,
        reason=ending.reason if ending else None,
        started=facts.started,
        elapsed=max(0.0, ended - facts.started),
        progress=_last_line(seen.screens.get("" if queued else window.pane, ())),
        generation=results.at_work.get(worker),
        failure=f"generation {failed.number}: {failed.reason}" if failed else None,
        gpu_memory_used=gpu.memory_used if gpu else None,
        gpu_memory_total=gpu.memory_total if gpu else None,
        gpu_utilization=gpu.utilization if gpu else None,
        gpu_temperature=gpu.temperature if gpu else None,
        gpu_power=gpu.power if gpu else None,
        gpu_power_limit=gpu.power_limit if gpu else None,
        job=_job(job) if job else None,
        worker=worker,
    )


def _job(job: Job) -> JobStatus:
    return JobStatus(id=job.id, state=job.state.value, reason=job.reason, node=job.node)


def _service(window: Window, seen: Seen) -> ServiceStatus:
    line = _last_line(seen.screens.get(window.pane, ()))
    return ServiceStatus(window=window.name, index=window.index, state=window.state, line=line)


def _last_line(screen: Sequence[str]) -> str:
    return next((line for line in reversed(screen) if not line.startswith(NOTICE)), "")


def _state(window: Window, pid: int | None) -> State:
    """Return the state; between the record of an end and the window's own there are moments."""
    if window.state is not State.RUNNING:
        return window.state
    if window.ending:
        return State.FAILED if window.ending.status else State.FINISHED
    return State.WAITING if pid is None else State.RUNNING
