"""How ``start`` hands each worker its order and its claim: a private socket, no argv, no file.

The order holds the caller's environment, which may hold secrets: argv is readable by every user of
the machine, and a file would outlive a crash. Both ends check that the other runs as the same user.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from tmuxevolve import units
from tmuxevolve.claims import Claim
from tmuxevolve.config import GpuPolicy, RestartPolicy
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.evolution import Plan
from tmuxevolve.memory import Limit
from tmuxevolve.multiplexer import State

_LENGTH = struct.Struct("!Q")
_CREDENTIALS = struct.Struct("3i")
_LISTENER = object()
# How often to see whether a worker ended before it said anything.
_LOOK = 0.5
# nvmlInit alone takes seconds per GPU on machines without persistence mode.
TIMEOUT = 60.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All a worker needs to know. ``delay`` is in seconds; ``uuid`` is None on a CPU slot.

    It runs ``argv`` once, or, with an ``evolution``, what that says, generation after generation.
    """

    worker: str
    window: str
    argv: tuple[str, ...]
    evolution: Plan | None = None
    workdir: str
    env: dict[str, str]
    uuid: str | None
    gpus: GpuPolicy
    stop_signal: str
    stop_grace: float
    delay: float
    restart: RestartPolicy
    memory: Limit | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a worker: the trainer's pid when it runs, or the reason why it does not."""

    state: State
    pid: int | None = None
    reason: str | None = None


SILENT = Report(state=State.FAILED, reason="the worker ended without a word")


@dataclass(frozen=True, slots=True)
class Parcel:
    """An order and the claim that goes with it."""

    order: Order
    claim: Claim | None


class Desk:
    """The giving end: waits for the workers of one ``start``."""

    def __init__(self) -> None:
        """Open the socket under a name nobody can guess."""
        self.address = f"tmuxevolve.start/{os.urandom(16).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(b"\0" + self.address.encode())
        self._socket.listen(socket.SOMAXCONN)

    def serve(
        self,
        parcels: Mapping[str, Parcel],
        alive: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> dict[str, Report]:
        """Give each worker its parcel and return their reports, by worker.

        ``alive`` says which workers still have a process; those that ended without a report, or
        say nothing for TIMEOUT seconds, are missing from the result.
        """
        reports: dict[str, Report] = {}
        deadline, next_look = clock() + TIMEOUT, clock() + _LOOK
        waiting = set(parcels)
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ, data=_LISTENER)
            while waiting and clock() < deadline:
                reports |= self._serve_once(selector, parcels, max(0.0, next_look - clock()))
                waiting -= reports.keys()
                if waiting and clock() >= next_look:
                    waiting &= {*alive()}
                    next_look = clock() + _LOOK
            _close_all(selector)
        return reports

    def _serve_once(
        self, selector: selectors.BaseSelector, parcels: Mapping[str, Parcel], timeout: float
    ) -> dict[str, Report]:
        reports: dict[str, Report] = {}
        for key, _ in selector.select(timeout):
            if key.data is _LISTENER:
                self._accept(selector)
            elif report := _answer(key, selector, parcels):
                reports[report[0]] = report[1]
        return reports

    def __enter__(self) -> Desk:
        """Stay open until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket: workers that come later learn that nobody waits for them."""
        self._socket.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        visitor, _ = self._socket.accept()
        if _peer_uid(visitor) != os.getuid():
            visitor.close()
            return
        selector.register(visitor, selectors.EVENT_READ, data=None)


def _close_all(selector: selectors.BaseSelector) -> None:
    for key in list(selector.get_map().values()):
        if key.data is not _LISTENER and isinstance(key.fileobj, socket.socket):
            key.fileobj.close()


def _answer(
    key: selectors.SelectorKey, selector: selectors.BaseSelector, parcels: Mapping[str, Parcel]
) -> tuple[str, Report] | None:
    """Take one message of a worker: first its id, then its report."""
    visitor = key.fileobj
    assert isinstance(visitor, socket.socket)  # noqa: S101  (only sockets are registered)
    text = visitor.recv(65_536).decode(errors="replace")
    worker: str | None = key.data
    if worker is None and text in parcels:
        selector.modify(visitor, selectors.EVENT_READ, data=text)
        with suppress(OSError):
            _give(visitor, parcels[text])
        return None
    selector.unregister(visitor)
    visitor.close()
    if worker is None:
        return None
    return worker, msgspec.json.decode(text, type=Report) if text else SILENT


def _give(visitor: socket.socket, parcel: Parcel) -> None:
    payload = json.dumps(msgspec.to_builtins(parcel.order, enc_hook=units.encode)).encode()
    descriptors = [parcel.claim.fileno()] if parcel.claim else []
    socket.send_fds(visitor, [_LENGTH.pack(len(payload))], descriptors)
    visitor.sendall(payload)
    if parcel.claim:
        parcel.claim.close()


class Counter:
    """The taking end, in the worker: one visit to the desk."""

    def __init__(self, visit: socket.socket) -> None:
        """Keep the connection, for the report."""
        self._visit = visit

    @classmethod
    def visit(cls, address: str, worker: str) -> tuple[Counter, Order, Claim | None]:
        """Fetch this worker's order and claim.

        Raises TmuxEvolveError when nobody is there any more, or somebody else is.
        """
        visit = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            order, claim = _fetch(visit, address, worker)
        except (OSError, EOFError):
            visit.close()
            raise TmuxEvolveError("its `tmuxevolve start` was interrupted; run it again") from None
        except TmuxEvolveError:
            visit.close()
            raise
        return cls(visit), order, claim

    def report(self, report: Report) -> None:
        """Tell ``start`` what became of this worker, once; it may be gone by now."""
        with suppress(OSError), self._visit:
            self._visit.sendall(msgspec.json.encode(report))


def _fetch(visit: socket.socket, address: str, worker: str) -> tuple[Order, Claim | None]:
    visit.connect(b"\0" + address.encode())
    if _peer_uid(visit) != os.getuid():
        raise TmuxEvolveError("another user answers in place of tmuxevolve start")
    visit.sendall(worker.encode())
    head, descriptors, _, _ = socket.recv_fds(visit, _LENGTH.size, 1)
    claim = None
    for descriptor in descriptors:
        # recv_fds has no way to say close-on-exec; the trainer must not hold the claim.
        os.set_inheritable(descriptor, False)
        claim = Claim.adopt(descriptor)
    with visit.makefile("rb") as stream:
        return _read_order(head, stream), claim


def _read_order(head: bytes, stream: BinaryIO) -> Order:
    if len(head) != _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    if len(payload) != length:
        raise EOFError
    return msgspec.convert(json.loads(payload), Order, dec_hook=units.decode)


def _peer_uid(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
