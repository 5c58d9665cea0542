"""A session's windows that no worker runs in: ``watch`` opens workers, ``overview`` shows them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from signal import Signals

import msgspec

from tmuxevolve import processes
from tmuxevolve.config import Session
from tmuxevolve.environment import passed
from tmuxevolve.handover import Parcel
from tmuxevolve.multiplexer import Facts, Multiplexer, Opening, Window
from tmuxevolve.order import Order, Report
from tmuxevolve.processes import Ended, Target
from tmuxevolve.session.windows import TAKEN, open_all
from tmuxevolve.slots import new_worker

WATCH, OVERVIEW = "watch", "overview"
_ENTRY = Path(__file__).parent.with_name("service_entry.py")
# GPUs' own indexes are below, those of their second workers above.
_FIRST_INDEX = 98
_SIGNAL, _GRACE = "SIGTERM", 30.0


class Request(msgspec.Struct, frozen=True):
    """The service windows that a session is to have; ``facts`` are what they have in common.

    ``generations`` is what the command line says in place of the session's.
    """

    session: Session
    names: tuple[str, ...]
    facts: Facts
    environ: Mapping[str, str]
    generations: int | None = None


class Service(msgspec.Struct, frozen=True):
    """A window that runs a command of ours, ``argv``; ``replaces`` is the one whose place it takes.

    ``facts`` may lack the worker's name, which is made then, and the command.
    """

    name: str
    argv: tuple[str, ...]
    index: int
    facts: Facts
    replaces: Window | None = None
    front: bool = False


def wanted(session: Session, *, follow: bool) -> tuple[str, ...]:
    """Return the names of the service windows that the session asks for."""
    gpus = session.gpus
    watch = follow or gpus.watch or gpus.idle_for is not None or session.schedule is not None
    return (*([WATCH] if watch else []), *([OVERVIEW] if session.overview else []))


def open_missing(request: Request, mux: Multiplexer, taken: Sequence[int]) -> dict[str, Report]:
    """Open the service windows; return their reports, by name.

    A watch window that is there begins anew, with what the session says now; an overview stays.
    The window indexes ``taken`` are not used.
    """
    there = {w.facts.role: w for w in mux.services() if w.facts.session == request.session.name}
    names = [name for name in request.names if name == WATCH or not _runs(there.get(name))]
    end([there[name] for name in names if name in there])
    indexes = (n for n in count(_FIRST_INDEX) if n not in taken)
    services = [_service(request, name, there.get(name), next(indexes)) for name in names]
    return open_services(request.session, services, mux, request.environ)


def open_services(
    session: Session, services: Sequence[Service], mux: Multiplexer, environ: Mapping[str, str]
) -> dict[str, Report]:
    """Open windows that run commands of ours; return their reports, by name."""
    parcels = [_parcel(session, service, mux, environ) for service in services]

    def openings(address: str) -> list[Opening]:
        pairs = zip(services, parcels, strict=True)
        return [_opening(session, s, parcel.order, address) for s, parcel in pairs]

    reports = open_all(mux, session.name, parcels, openings)
    pairs = zip(services, reports, strict=True)
    return {service.name: report or TAKEN for service, report in pairs}


def end(windows: Iterable[Window]) -> dict[str, Ended]:
    """End the processes of service windows; return what it took, by worker."""
    return processes.end(
        Target(
            worker=window.facts.worker,
            pid=None if window.dead else window.pid,
            signal=Signals[window.facts.stop_signal],
            grace=window.facts.stop_grace,
        )
        for window in windows
    )


def _runs(window: Window | None) -> bool:
    return window is not None and not window.dead


def _parcel(
    session: Session, service: Service, mux: Multiplexer, environ: Mapping[str, str]
) -> Parcel:
    argv = ("tmuxevolve", *service.argv, *mux.options)
    env = {**passed(environ), "PWD": str(session.workdir)}
    order = Order(
        worker=service.facts.worker or new_worker(service.name),
        window=service.name,
        argv=argv,
        workdir=str(session.workdir),
        env={},
        uuid=None,
        gpus=session.gpus,
        stop_signal=_SIGNAL,
        stop_grace=_GRACE,
        delay=0.0,
        restart=session.restart,
    )
    return Parcel(
        order, None, {"argv": argv, "folder": str(session.workdir), "env": env, "until": 0.0}
    )


def _service(request: Request, name: str, there: Window | None, index: int) -> Service:
    facts = msgspec.structs.replace(
        request.facts,
        role=name,
        slot=name,
        started=time.time(),
        stop_signal=_SIGNAL,
        stop_grace=_GRACE,
    )
    argv = _arguments(request, name)
    index = there.index if there else index
    return Service(name, argv, index, facts, there, front=name == OVERVIEW)


def _arguments(request: Request, name: str) -> tuple[str, ...]:
    """Return the command of ours that runs in this window."""
    session = request.session
    if name == OVERVIEW:
        return ("top", session.name)
    use = session.gpus.use
    gpus = use if isinstance(use, str) else ",".join(map(str, use))
    budget = ("--generations", str(request.generations)) if request.generations else ()
    return ("follow", session.name, "--file", str(session.source), "--gpus", gpus, *budget)


def _opening(session: Session, service: Service, order: Order, address: str) -> Opening:
    command = service.facts.command or shlex.join(order.argv)
    return Opening(
        index=service.index,
        name=service.name,
        argv=(sys.executable, "-I", "-S", str(_ENTRY), address, order.worker),
        workdir=session.workdir,
        facts=msgspec.structs.replace(service.facts, worker=order.worker, command=command),
        replaces=service.replaces,
        front=service.front,
    )
