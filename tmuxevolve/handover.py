"""How ``start`` hands each worker its order and its claim: a private socket, no argv, no file.

The order holds the caller's environment, which may hold secrets: argv is readable by every user of
the machine, and a file would outlive a crash. Both ends check that the other runs as the same user.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve import counter
from tmuxevolve.claims import Claim
from tmuxevolve.multiplexer import State
from tmuxevolve.order import Order, Report, write_order

if TYPE_CHECKING:
    from tmuxevolve.counter import Direct

_LISTENER = object()
# How often to see whether a worker ended before it said anything.
_LOOK = 0.5
# nvmlInit alone takes seconds per GPU on machines without persistence mode.
TIMEOUT = 60.0


SILENT = Report(state=State.FAILED, reason="the worker ended without a word")


class Parcel(msgspec.Struct, frozen=True):
    """An order and the claim that goes with it."""

    order: Order
    claim: Claim | None
    direct: Direct | None = None


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
        timeout: float = TIMEOUT,
    ) -> dict[str, Report]:
        """Give each worker its parcel and return their reports, by worker.

        ``alive`` says which workers still have a process; those that ended without a report, or
        say nothing for ``timeout`` seconds, are missing from the result.
        """
        reports: dict[str, Report] = {}
        deadline, next_look = clock() + timeout, clock() + _LOOK
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
        if counter.peer_uid(visitor) != os.getuid():
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
    payload = counter.pack({"order": write_order(parcel.order), "direct": parcel.direct})
    descriptors = [parcel.claim.fileno()] if parcel.claim else []
    length = len(payload).to_bytes(counter.LENGTH_BYTES, "big")
    socket.send_fds(visitor, [length], descriptors)
    visitor.sendall(payload)
    if parcel.claim:
        parcel.claim.close()
