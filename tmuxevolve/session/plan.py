"""Decide which slots get a worker: the session's wishes against the machine as it is."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import msgspec

from tmuxevolve import claims, gpus, processes, slots
from tmuxevolve.claims import Holder
from tmuxevolve.config import GpuPolicy, Session
from tmuxevolve.errors import MissingError, UsageError
from tmuxevolve.gpus import Gpu, Snapshot
from tmuxevolve.multiplexer import Window
from tmuxevolve.slots import Slot
from tmuxevolve.units import format_duration


class Machine(msgspec.Struct, frozen=True):
    """One look at the machine: its GPUs, the claims on them, and the windows of all sessions.

    ``idle`` tells for how many seconds a GPU has been seen free, by UUID.
    """

    snapshot: Snapshot | None
    claims: Mapping[str, tuple[Holder, ...]]
    windows: Sequence[Window]
    idle: Mapping[str, float] = msgspec.field(default_factory=dict)


class Refusal(msgspec.Struct, frozen=True):
    """A slot that gets no worker, why, and the setting that would change that."""

    slot: str
    reason: str
    override: str | None = None


class Place(msgspec.Struct, frozen=True):
    """A slot for a new worker, and the window of an ended one whose place it takes."""

    slot: Slot
    replaces: Window | None = None


class Plan(msgspec.Struct, frozen=True):
    """Where to start workers, what runs already, and what stays empty."""

    places: tuple[Place, ...]
    running: tuple[Window, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()


def on_gpu(session: Session, snapshot: Snapshot | None) -> bool:
    """Say whether the session's workers get GPUs; False means CPU slots.

    Raises MissingError when there are no GPUs to be had and no CPU slots to fall back on.
    """
    if snapshot is None:
        if session.cpu_slots:
            return False
        raise UsageError(
            f"{session.source}: sessions.{session.name}.cpu_slots: 0, but gpus.use is none:"
            " say how many workers the CPU gets"
        )
    if snapshot.broken:
        raise MissingError(f"{snapshot.problem}; gpus.use: none runs on cpu_slots instead")
    if snapshot.problem and session.cpu_slots and session.gpus.use in {"free", "all"}:
        return False
    if snapshot.problem:
        raise MissingError(f"{snapshot.problem}; cpu_slots: 2 would run two workers on the CPU")
    return True


def make(session: Session, machine: Machine, pick: Callable[[Plan], Plan] | None = None) -> Plan:
    """Choose the slots that get a worker now; ``pick`` leaves out places before they count."""
    snapshot = machine.snapshot
    if on_gpu(session, snapshot) and snapshot:
        chosen = slots.of_gpus(_wanted(session.gpus, snapshot), session.gpus.per_gpu)
        notes: tuple[str, ...] = ()
    else:
        chosen = slots.of_cpu(session.cpu_slots)
        reason = snapshot.problem if snapshot else "gpus.use is none"
        slots_ = "1 CPU slot" if session.cpu_slots == 1 else f"{session.cpu_slots} CPU slots"
        notes = (f"{reason}: using {slots_}",)
    places: list[Place] = []
    refused: list[Refusal] = []
    mine = [w for w in machine.windows if w.facts.session == session.name]
    windows = {window.facts.slot: window for window in mine}
    for slot in chosen:
        window = windows.get(slot.label)
        if window and not window.state.is_over():
            continue
        why_not = _refusal(slot.gpu, session.gpus, machine) if slot.gpu else None
        if why_not:
            refused.append(why_not)
        else:
            places.append(Place(slot, window))
    running = tuple(window for window in mine if not window.state.is_over())
    found = Plan(tuple(places), running, _once(refused), notes)
    return _leaving_free(pick(found) if pick else found, session.gpus, machine)


def _refusal(gpu: Gpu, policy: GpuPolicy, machine: Machine) -> Refusal | None:
    found = refusal(gpu, policy, machine)
    seen, wanted = machine.idle.get(gpu.uuid, 0.0), policy.idle_for
    if found or wanted is None or seen >= wanted:
        return found
    reason = f"free for {format_duration(seen)}, {format_duration(wanted)} wanted"
    return Refusal(gpu.label, reason, f"gpus.idle_for: {seen:.0f}s")


def unused(policy: GpuPolicy, machine: Machine) -> list[Gpu]:
    """Return the machine's GPUs that nobody uses and nobody has claimed."""
    idle = msgspec.structs.replace(policy, use="free")
    snapshot = machine.snapshot or Snapshot(())
    found = (gpu for gpu in snapshot.gpus if not machine.claims.get(gpu.uuid))
    return [gpu for gpu in found if not refusal(gpu, idle, machine)]


def _leaving_free(chosen: Plan, policy: GpuPolicy, machine: Machine) -> Plan:
    """Return the plan with ``leave_free`` of the GPUs that nobody uses left to others."""
    if not policy.leave_free:
        return chosen
    free = {gpu.uuid for gpu in unused(policy, machine)}
    taken = dict.fromkeys(p.slot.uuid for p in chosen.places if p.slot.uuid in free)
    left = {*list(taken)[max(0, len(free) - policy.leave_free) :]}
    refused = [
        Refusal(place.slot.label, "left free for others", "gpus.leave_free: 0")
        for place in chosen.places
        if place.slot.uuid in left
    ]
    places = tuple(place for place in chosen.places if place.slot.uuid not in left)
    return msgspec.structs.replace(
        chosen, places=places, refused=_once([*chosen.refused, *refused])
    )


def only(chosen: Plan, slot: str) -> Plan:
    """Return the plan for one slot alone."""
    return msgspec.structs.replace(
        chosen,
        places=tuple(place for place in chosen.places if place.slot.label == slot),
        refused=tuple(r for r in chosen.refused if r.slot == slot.partition("/")[0]),
    )


def at_most(chosen: Plan, workers: int | None) -> Plan:
    """Return the plan with no more new workers than there is work for; None is no limit."""
    if workers is None or workers >= len(chosen.places):
        return chosen
    left = "1 generation is" if workers == 1 else f"{workers} generations are"
    notes = (f"{left} left of the budget that nobody works on",) if workers else ()
    return msgspec.structs.replace(
        chosen, places=chosen.places[:workers], notes=(*chosen.notes, *notes)
    )


def without(chosen: Plan, slots_: Container[str]) -> Plan:
    """Return the plan with nothing new in these slots, by label."""
    places = tuple(place for place in chosen.places if place.slot.label not in slots_)
    return msgspec.structs.replace(chosen, places=places)


def _wanted(policy: GpuPolicy, snapshot: Snapshot) -> tuple[Gpu, ...]:
    if isinstance(policy.use, str):
        return snapshot.gpus
    found = {name: snapshot.find(name) for name in policy.use}
    missing = next((name for name, gpu in found.items() if gpu is None), None)
    if missing is not None:
        there = ", ".join(gpu.label for gpu in snapshot.gpus)
        raise UsageError(f"gpus.use: there is no GPU {missing}; this machine has {there}")
    return tuple(dict.fromkeys(gpu for gpu in found.values() if gpu))


def refusal(gpu: Gpu, policy: GpuPolicy, machine: Machine) -> Refusal | None:
    """Return why a worker would not get this GPU now, or None when it would."""
    holders = machine.claims.get(gpu.uuid, ())
    if claims.is_full(holders, policy.per_gpu):
        return claimed(gpu, holders, machine.windows)
    busy = gpus.busy_reason(gpu, policy, own_pids=workers_on(gpu, policy))
    return Refusal(gpu.label, busy.reason, busy.override) if busy else None


def claimed(gpu: Gpu, holders: Sequence[Holder], windows: Sequence[Window]) -> Refusal:
    """Return the refusal of a GPU that other workers hold, naming their windows if known."""
    names = [
        f"{window.name} of session {window.facts.session}"
        for window in windows
        if window.facts.uuid == gpu.uuid and not window.state.is_over()
    ]
    names = names or [f"a worker of {_user(uid)}" for uid in {holder.uid for holder in holders}]
    by = ", ".join(names) or "another tmuxevolve"
    return Refusal(gpu.label, f"claimed by {by}", f"gpus.per_gpu: {len(holders) + 1}, in both")


def workers_on(gpu: Gpu, policy: GpuPolicy) -> frozenset[int]:
    """Return the pids of our workers on this GPU, where the policy lets it be shared."""
    if policy.per_gpu == 1:
        return frozenset()
    return processes.ours(process.pid for process in gpu.processes)


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _once(refused: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """Name each device once, however many workers it could have had."""
    return tuple(dict.fromkeys(refused))
