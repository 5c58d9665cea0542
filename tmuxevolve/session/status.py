"""What is running, and how far it is: windows, processes, results and GPUs in one value."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve import claims, gpus, processes, trainers
from tmuxevolve.config import GpuPolicy, Session
from tmuxevolve.errors import ExitStatus, NotRunningError, TmuxEvolveError, UsageError
from tmuxevolve.gpus import Gpu, Snapshot
from tmuxevolve.memory import Limit
from tmuxevolve.multiplexer import WORKER, Facts, Multiplexer, State, Window
from tmuxevolve.session import plan
from tmuxevolve.session.attach import select, windows_if_any
from tmuxevolve.study.journal import Failed
from tmuxevolve.study.survey import Survey, Worker, survey
from tmuxevolve.study.table import Tally
from tmuxevolve.terminal import NOTICE


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
    ``memory`` is each worker's limit, and what holds it to that; ``workers`` are those of the
    study on all hosts.
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
    workers: tuple[Worker, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """Windows at one moment: the lines on their screens by pane, the trainers' pids by worker."""

    screens: Mapping[str, Sequence[str]]
    pids: Mapping[str, int]
    snapshot: Snapshot


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
    seen = see(mux, windows, environ)
    names = dict.fromkeys(window.facts.session for window in windows)
    sessions = ([w for w in windows if w.facts.session == name] for name in names)
    return tuple(of_session(mine, seen, _results(mine[0].facts)) for mine in sessions)


def look(
    mux: Multiplexer,
    name: str | None,
    environ: Mapping[str, str],
    session: Callable[[], Session],
    *,
    insist: bool = False,
) -> tuple[SessionStatus, ...]:
    """Return the state of the named session, or of all that run here when None.

    One that does not run here is looked at in its results, which ``session`` knows of. Raises
    NotRunningError when it has no study, or when ``session`` fails, unless its error is to be seen.
    """
    windows = mux.all_windows()
    try:
        return status(mux, select(windows, name, []) if name or windows else (), environ)
    except NotRunningError as error:
        from tmuxevolve.session import hosts

        try:
            return (hosts.without_windows(session()),)
        except TmuxEvolveError:
            if insist:
                raise
            raise error from None


def exit_status(sessions: Sequence[SessionStatus]) -> ExitStatus:
    """Return success, unless a session is shown that runs on no host."""
    dead = (s for s in sessions if not s.windows and not s.services)
    over = any(not any(worker.alive for worker in s.workers) for s in dead)
    return NotRunningError.exit_status if over else ExitStatus.OK


def see(mux: Multiplexer, windows: Sequence[Window], environ: Mapping[str, str]) -> Seen:
    """Look at these windows once: their screens, processes and GPUs."""
    firsts = {w.facts.worker: w.pid for w in windows if not w.dead and w.facts.role == WORKER}
    on_gpu = any(window.facts.uuid for window in windows)
    return Seen(
        screens=mux.screens(windows),
        pids=processes.trainer_pids(firsts),
        snapshot=gpus.snapshot(environ) if on_gpu else Snapshot(()),
    )


def of_session(windows: Sequence[Window], seen: Seen, results: Results) -> SessionStatus:
    """Return the state of one session's windows, which are all there are."""
    facts = windows[0].facts
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
        windows=tuple(_window(w, seen, results) for w in windows if w.facts.role == WORKER),
        services=tuple(_service(w, seen) for w in windows if w.facts.role != WORKER),
        workers=results.workers,
    )


def gpu_list(mux: Multiplexer, policy: GpuPolicy, environ: Mapping[str, str]) -> GpuList:
    """Return every GPU of the machine, and why those that are not free are not."""
    snapshot = gpus.snapshot(environ)
    # The windows only put names to claims.
    machine = plan.Machine(snapshot, claims.held(), windows_if_any(mux))
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
    workers: tuple[Worker, ...] = ()


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
    failed = results.failures.get(window.facts.worker)
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
        state=_state(window, pid),
        exit_status=window.exit_status,
        reason=ending.reason if ending else None,
        started=facts.started,
        elapsed=max(0.0, ended - facts.started),
        progress=_last_line(seen.screens.get(window.pane, ())),
        generation=results.at_work.get(facts.worker),
        failure=f"generation {failed.number}: {failed.reason}" if failed else None,
        gpu_memory_used=gpu.memory_used if gpu else None,
        gpu_memory_total=gpu.memory_total if gpu else None,
        gpu_utilization=gpu.utilization if gpu else None,
        gpu_temperature=gpu.temperature if gpu else None,
        gpu_power=gpu.power if gpu else None,
        gpu_power_limit=gpu.power_limit if gpu else None,
    )


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
