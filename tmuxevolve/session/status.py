"""What is running, and how far it is: windows, processes, results and GPUs in one value."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve import claims, gpus, processes, trainers
from tmuxevolve.config import GpuPolicy
from tmuxevolve.errors import MissingError, UsageError
from tmuxevolve.gpus import Gpu, Snapshot
from tmuxevolve.memory import Limit
from tmuxevolve.multiplexer import WORKER, Facts, Multiplexer, State, Window
from tmuxevolve.session import plan
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.survey import survey


class WindowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One window. Times are in seconds (``started`` since the epoch), memory in bytes.

    ``pid`` is the trainer's; ``exit_status`` is 128 + n after signal n; ``progress`` is the last
    line on the window's screen; ``generation`` is the number of the one at work, ``failure`` the
    last training that failed here, with its reason; the gpu fields are None on CPU slots.
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
    ``memory`` is each worker's limit, and what holds it to that.
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


class GpuStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU and whether a worker would get it."""

    gpu: Gpu
    label: str
    free: bool
    reason: str | None
    override: str | None


class GpuList(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs, seen ``at`` seconds since the epoch; ``problem`` says why there are none."""

    at: float
    driver: str | None
    problem: str | None
    gpus: tuple[GpuStatus, ...]


def status(
    mux: Multiplexer, windows: Sequence[Window], environ: Mapping[str, str]
) -> tuple[SessionStatus, ...]:
    """Return the state of these windows, by session."""
    lines = mux.last_lines(windows)
    firsts = {w.facts.worker: w.pid for w in windows if not w.dead and w.facts.role == WORKER}
    pids = processes.trainer_pids(firsts)
    on_gpu = any(window.facts.uuid for window in windows)
    snapshot = gpus.snapshot(environ) if on_gpu else Snapshot(())
    names = dict.fromkeys(window.facts.session for window in windows)
    return tuple(
        _session([w for w in windows if w.facts.session == name], lines, pids, snapshot)
        for name in names
    )


def gpu_list(mux: Multiplexer, policy: GpuPolicy, environ: Mapping[str, str]) -> GpuList:
    """Return every GPU of the machine, and why those that are not free are not."""
    snapshot = gpus.snapshot(environ)
    machine = plan.Machine(snapshot, claims.held(), _windows(mux))
    refusals = ((gpu, plan.refusal(gpu, policy, machine)) for gpu in snapshot.gpus)
    return GpuList(
        at=time.time(),
        driver=snapshot.driver,
        problem=snapshot.problem,
        gpus=tuple(
            GpuStatus(
                gpu=gpu,
                label=gpu.label,
                free=refusal is None,
                reason=refusal.reason if refusal else None,
                override=refusal.override if refusal else None,
            )
            for gpu, refusal in refusals
        ),
    )


def _windows(mux: Multiplexer) -> Sequence[Window]:
    """Return our windows, which only put names to claims: none where tmux is missing."""
    try:
        return mux.windows()
    except MissingError:
        return ()


def _session(
    windows: Sequence[Window],
    lines: Mapping[str, str],
    pids: Mapping[str, int],
    snapshot: Snapshot,
) -> SessionStatus:
    facts, results = windows[0].facts, _results(windows[0].facts)
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
        windows=tuple(
            _window(w, lines.get(w.pane, ""), pids.get(w.facts.worker), snapshot, results)
            for w in windows
            if w.facts.role == WORKER
        ),
        services=tuple(
            ServiceStatus(window=w.name, index=w.index, state=w.state, line=lines.get(w.pane, ""))
            for w in windows
            if w.facts.role != WORKER
        ),
    )


class _Results(msgspec.Struct, frozen=True):
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


def _results(facts: Facts) -> _Results:
    if facts.mode == "native":
        return _native(facts)
    try:
        found = survey(Path(facts.results))
    except (OSError, UsageError) as error:
        return _Results(problem=str(error))
    if found is None:
        return _Results(problem=f"{facts.results}: the study is gone")
    return _Results(
        finished=found.finished,
        best_fitness=found.best.fitness if found.best else None,
        problem=found.problem,
        budget=found.budget,
        waiting=found.waiting,
        failed=found.failed,
        skipped=found.skipped,
        at_work=found.at_work,
        failures=found.failures,
    )


def _native(facts: Facts) -> _Results:
    tally = trainers.find(facts.trainer, ()).tally(Path(facts.results))
    if tally is None:
        return _Results()
    fitness = tally.best.fitness if tally.best else None
    return _Results(tally.finished, fitness, tally.problem)


def _window(
    window: Window, line: str, pid: int | None, snapshot: Snapshot, results: _Results
) -> WindowStatus:
    failed = results.failures.get(window.facts.worker)
    facts, ending = window.facts, window.ending
    gpu = snapshot.find(facts.uuid) if facts.uuid else None
    ended = ending.ended if ending else time.time()
    return WindowStatus(
        window=window.name,
        index=window.index,
        slot=facts.slot,
        device=facts.device,
        uuid=facts.uuid,
        pid=pid,
        state=_state(window, pid),
        exit_status=window.exit_status,
        reason=ending.reason if ending else None,
        started=facts.started,
        elapsed=max(0.0, ended - facts.started),
        progress=line,
        generation=results.at_work.get(facts.worker),
        failure=f"generation {failed.number}: {failed.reason}" if failed else None,
        gpu_memory_used=gpu.memory_used if gpu else None,
        gpu_memory_total=gpu.memory_total if gpu else None,
        gpu_utilization=gpu.utilization if gpu else None,
    )


def _state(window: Window, pid: int | None) -> State:
    """Return the state; between the record of an end and the window's own there are moments."""
    if window.state is not State.RUNNING:
        return window.state
    if window.ending:
        return State.FAILED if window.ending.status else State.FINISHED
    return State.WAITING if pid is None else State.RUNNING
