"""check: look at everything that a session needs, before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from tmuxevolve import gpus, trainers
from tmuxevolve.checkup import (
    Check,
    Scene,
    cluster,
    failed,
    interpreter,
    machine,
    passed,
    storage,
    training,
)
from tmuxevolve.config import Session
from tmuxevolve.errors import ExitStatus, TmuxEvolveError
from tmuxevolve.gpus import Snapshot
from tmuxevolve.multiplexer import Multiplexer
from tmuxevolve.session import plan
from tmuxevolve.trainers import inspection
from tmuxevolve.trainers.inspection import Inspection

_Found = Check | Sequence[Check] | None


def _notify(scene: Scene) -> Check | None:
    told = scene.session.notify
    if told is None:
        return None
    from tmuxevolve.session import notify

    try:
        notify.check(scene.session, told, scene.environ)
    except TmuxEvolveError as error:
        return failed("notify", str(error), "mend or remove it: `start` refuses to go on with it")
    return passed("notify", "can be sent; `tmuxevolve notify` sends a test")


CHECKS: dict[str, Callable[[Scene], _Found]] = {
    "tmux": machine.tmux,
    "Slurm": cluster.check,
    "driver": machine.driver,
    "GPUs": machine.gpus,
    "trainer": training.trainer,
    "python": interpreter.check,
    "command": training.command,
    "data": training.data,
    "weights": training.weights,
    "results": storage.results,
    "lock": storage.lock,
    "disk": storage.disk,
    "RAM": machine.ram,
    "notify": _notify,
}


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found about a session."""

    session: str
    source: str
    checks: tuple[Check, ...]

    @property
    def exit_status(self) -> ExitStatus:
        """Return success when nothing failed; a warning is none."""
        any_failed = any(check.state == "fail" for check in self.checks)
        return ExitStatus.FAILURE if any_failed else ExitStatus.OK


def check(session: Session, mux: Multiplexer, environ: Mapping[str, str]) -> Checkup:
    """Look at everything; nothing is started or kept."""
    scene = _scene(session, mux, environ)
    first = passed("config", f"{session.source}: session {session.name}")
    found = (found for name, look in CHECKS.items() for found in _guarded(name, look, scene))
    return Checkup(session=session.name, source=str(session.source), checks=(first, *found))


def _guarded(name: str, look: Callable[[Scene], _Found], scene: Scene) -> Iterator[Check]:
    """Run one check; one that breaks is a finding, and the others are still made."""
    try:
        found = look(scene)
    except Exception as error:
        what = f"the check itself failed: {type(error).__name__}: {error}"
        found = failed(name, what, "this is a mistake of tmuxevolve's: please report it")
    yield from () if found is None else [found] if isinstance(found, Check) else found


def _scene(session: Session, mux: Multiplexer, environ: Mapping[str, str]) -> Scene:
    elsewhere = session.gpus.use == "none" or session.slurm
    snapshot = None if elsewhere else gpus.snapshot(environ)
    trainer = trainers.find(session.trainer, session.command).name
    on_gpu = _on_gpu(session, snapshot)
    return Scene(
        session=session,
        environ=environ,
        mux=mux,
        trainer=trainer,
        snapshot=snapshot,
        on_gpu=on_gpu,
        workers=_workers(session, snapshot, on_gpu=on_gpu),
        inspection=_inspection(session, trainer, environ),
    )


def _on_gpu(session: Session, snapshot: Snapshot | None) -> bool | None:
    if session.slurm:
        return session.slurm.on_gpu
    try:
        return plan.on_gpu(session, snapshot)
    except TmuxEvolveError:
        return None


def _workers(session: Session, snapshot: Snapshot | None, *, on_gpu: bool | None) -> int:
    """Return how many workers there would be if every GPU that is wanted were free."""
    if session.slurm:
        # None of them is on this machine.
        return 0
    if not on_gpu or snapshot is None:
        return session.cpu_slots
    use = session.gpus.use
    wanted = len(snapshot.gpus) if isinstance(use, str) else len(use)
    return max(0, wanted - session.gpus.leave_free) * session.gpus.per_gpu


def _inspection(session: Session, trainer: str, environ: Mapping[str, str]) -> Inspection | None:
    try:
        return inspection.inspect(session, trainer, environ)
    except Exception:
        return None
