"""What runs, and which GPUs there are, as text. Knows value types only; returns str."""

from __future__ import annotations

from collections.abc import Sequence

from tmuxevolve import render_hosts, render_jobs
from tmuxevolve.multiplexer import State
from tmuxevolve.render import table
from tmuxevolve.session.gpu_list import GpuList, GpuStatus
from tmuxevolve.session.services import WATCH
from tmuxevolve.session.status import ServiceStatus, SessionStatus, WindowStatus
from tmuxevolve.units import format_duration, format_size, squeeze


def status(sessions: Sequence[SessionStatus], width: int | None, *, colour: bool) -> str:
    """Return each session's results and a row per window, cut at ``width`` columns if given."""
    return "\n\n".join("\n".join(_status(s, width, colour=colour)) for s in sessions)


def gpu_list(found: GpuList, width: int | None, *, colour: bool) -> str:
    """Return every GPU, free or the reason why not, and who uses it."""
    if not found.gpus:
        return found.problem or "no NVIDIA GPU"
    header = ("GPU", "NAME", "MEMORY", "UTIL", "STATE", "WHY NOT")
    # Not cut at the width: the reason is what this command is for.
    lines = table(header, map(_gpu_row, found.gpus), colour=colour)
    lines += _processes(found, width)
    overrides = [s for s in found.gpus if s.override]
    lines += [""] * bool(overrides)
    lines += [f"to use GPU {s.label} all the same: {s.override}" for s in overrides]
    return "\n".join(lines)


def _status(session: SessionStatus, width: int | None, *, colour: bool) -> list[str]:
    header, rows = _status_table(session)
    lines = [f"{session.session}: {_results(session)}"]
    if session.memory:
        lines.append(f"memory of each worker: {session.memory}")
    if session.problem:
        lines.append(f"note: {session.problem}")
    if rows:
        lines += table(header, rows, width, colour=colour)
    lines += [_service(service)[:width] for service in session.services if service.window == WATCH]
    lines += [f"{w.window}: {w.reason}" for w in session.windows if w.reason]
    failed = (w for w in session.windows if w.failure and not w.reason)
    lines += [f"{w.window}: failed: {w.failure}" for w in failed]
    return lines + _others(session, width)


def _others(session: SessionStatus, width: int | None) -> list[str]:
    """Return a table of the workers that no window here shows, if there are any."""
    # What died here shows in its window, or was ended on purpose.
    found = [worker for worker in session.elsewhere if worker.alive or not worker.here]
    return ["", *table(*render_hosts.others(found), width)] if found else []


def _status_table(session: SessionStatus) -> render_jobs.Table:
    if session.launcher == "slurm":
        return render_jobs.status(session.windows)
    on_gpu = any(window.uuid for window in session.windows)
    gpu_columns = ("GPU MEM", "UTIL") if on_gpu else ()
    study = session.mode == "cooperative"
    study_columns = ("GEN",) if study else ()
    header = ("WINDOW", "GPU", "PID", "STATE", *study_columns, "ELAPSED", *gpu_columns, "LAST LINE")
    return header, [_status_row(w, on_gpu=on_gpu, study=study) for w in session.windows]


def _service(service: ServiceStatus) -> str:
    state = "" if service.state is State.RUNNING else f"{service.state.value}: "
    return f"{service.window}: {state}{service.line}"


def _results(session: SessionStatus) -> str:
    if session.generations is None:
        return f"results in {session.results}"
    best = "" if session.best_fitness is None else f", best fitness {session.best_fitness:.5g}"
    noun = "generation" if session.generations == 1 and not session.budget else "generations"
    of = f" of {session.budget}" if session.budget else ""
    counts = {"waiting": session.waiting, "failed": session.failed, "skipped": session.skipped}
    others = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{session.generations}{of} {noun}{others}{best}, results in {session.results}"


def _status_row(window: WindowStatus, *, on_gpu: bool, study: bool) -> Sequence[str]:
    state = window.state.value
    if window.exit_status is not None:
        state += f" (exit {window.exit_status})"
    memory = _memory(window.gpu_memory_used, window.gpu_memory_total)
    return (
        window.window,
        window.slot,
        str(window.pid or "-"),
        state,
        *(("-" if window.generation is None else str(window.generation),) if study else ()),
        format_duration(window.elapsed),
        *((memory, _percent(window.gpu_utilization)) if on_gpu else ()),
        squeeze(window.progress),
    )


def _gpu_row(status: GpuStatus) -> Sequence[str]:
    gpu = status.gpu
    return (
        status.label,
        gpu.name,
        _memory(gpu.memory_used, gpu.memory_total),
        _percent(gpu.utilization),
        "free" if status.free else "unusable" if gpu.error else "busy",
        status.reason or "",
    )


def _processes(found: GpuList, width: int | None) -> list[str]:
    rows = [
        (
            status.label,
            str(process.pid),
            process.user or "?",
            "?" if process.started is None else format_duration(found.at - process.started),
            "?" if process.memory is None else format_size(process.memory),
            process.command or process.name or "not visible from here",
        )
        for status in found.gpus
        for process in status.gpu.processes
    ]
    header = ("GPU", "PID", "USER", "AGE", "MEMORY", "COMMAND")
    return ["", *table(header, rows, width)] if rows else []


def _memory(used: int | None, total: int | None) -> str:
    return "-" if used is None or not total else f"{format_size(used)} / {format_size(total)}"


def _percent(value: int | None) -> str:
    return "-" if value is None else f"{value}%"
