"""tmux, the driver, GPUs, memory: what a session takes of the machine."""

from __future__ import annotations

from collections.abc import Sequence

from tmuxevolve import claims, memory
from tmuxevolve.checkup import Check, Scene, failed, passed, warned
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.multiplexer import Window
from tmuxevolve.session import plan
from tmuxevolve.session.plan import Machine, Plan, Refusal
from tmuxevolve.units import format_size

# What a PyTorch process takes before it has loaded any image.
_TORCH = 2 << 30


def tmux(scene: Scene) -> Check:
    """Look for tmux, or screen where that is used, and whether it is new enough."""
    try:
        scene.mux.check()
    except TmuxEvolveError as error:
        found, _, mend = str(error).rpartition("; " if "; " in str(error) else ": ")
        return failed(found.partition(" ")[0], found, mend)
    name, _, version = scene.mux.version().partition(" ")
    return passed(name, version)


def driver(scene: Scene) -> Check | None:
    """Look at the NVIDIA driver as `start` does; None where GPUs are another machine's."""
    if scene.session.slurm:
        return None
    name, snapshot = "driver", scene.snapshot
    try:
        on_gpu = plan.on_gpu(scene.session, snapshot)
    except TmuxEvolveError as error:
        found, _, mend = str(error).rpartition("; " if snapshot else ": ")
        return failed(name, found, mend)
    if snapshot is None:
        return passed(name, "not needed: gpus.use is none")
    if on_gpu:
        return passed(name, f"NVIDIA {snapshot.driver}, NVML answers")
    return warned(
        name, snapshot.problem or "no GPU", "nothing, if CPU slots are meant (gpus.use: none)"
    )


def gpus(scene: Scene) -> Check | None:
    """Say what `start` would get now: free GPUs, or CPU slots; None where there is neither."""
    session = scene.session
    if scene.on_gpu is None or session.slurm:
        return None
    if not scene.on_gpu:
        slots = "slot" if session.cpu_slots == 1 else "slots"
        return passed("GPUs", f"none: {session.cpu_slots} CPU {slots}")
    machine = Machine(scene.snapshot, claims.held(), _windows(scene))
    try:
        chosen = plan.make(session, machine)
    except TmuxEvolveError as error:
        return failed("GPUs", str(error), "tmuxevolve gpus lists those that there are")
    found = "; ".join(_parts(chosen))
    if chosen.places or chosen.running:
        return passed("GPUs", found)
    mend = _override(chosen.refused) or "tmuxevolve gpus says who uses them"
    return warned("GPUs", found or "none", mend)


def _windows(scene: Scene) -> Sequence[Window]:
    """Return our windows: none where there is no tmux, as another check says."""
    try:
        return scene.mux.windows()
    except TmuxEvolveError:
        return ()


def _parts(chosen: Plan) -> list[str]:
    free = [place.slot.label for place in chosen.places]
    running = [window.facts.slot for window in chosen.running]
    return [
        f"free: {', '.join(free)}" if free else "none is free",
        *([f"at work already: {', '.join(running)}"] if running else []),
        *(f"not {refusal.slot}: {refusal.reason}" for refusal in chosen.refused),
    ]


def _override(refused: Sequence[Refusal]) -> str | None:
    first = next((refusal for refusal in refused if refusal.override), None)
    return f"wait, or to use {first.slot}: {first.override}" if first else None


def ram(scene: Scene) -> Check | None:
    """Compare the memory that is available with what the workers are said, or known, to need.

    None where they run on other machines.
    """
    if scene.session.slurm:
        return None
    session, name = scene.session, "RAM"
    needs_torch = scene.inspection is not None and scene.inspection.needs_torch
    wanted = session.min_free_memory or session.memory or (_TORCH if needs_torch else 0)
    available = memory.available()
    workers = "1 worker" if scene.workers == 1 else f"{scene.workers} workers"
    found = f"{format_size(available)} available for {workers}"
    if available >= wanted * scene.workers:
        return passed(name, found)
    found += f" of {format_size(wanted)} each"
    if session.min_free_memory:
        return warned(name, found, "start opens no more windows than there is memory for")
    return warned(name, found, "fewer workers (gpus.use), or min_free_memory: 4G limits them")
