"""Where a keeper fetches its order from the ``start`` that opened its window; see handover.py.

A window's first processes load this: it imports next to nothing.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import TypedDict

    class Direct(TypedDict):
        """A trainer that can be run at once, until ``until`` on the machine's monotonic clock.

        The ``claim`` is in force and the GPU was found free; ``env`` lacks the terminal's own.
        """

        argv: tuple[str, ...]
        folder: str
        env: dict[str, str]
        until: float

    class Brief(TypedDict):
        """An order as it travels: whole as JSON, and what is needed before that is read."""

        order: bytes
        direct: Direct | None

else:
    # The module `socket` makes enums of its numbers and loads selectors: 5 ms of a window's start.
    import _socket as socket

LENGTH_BYTES = 8
_DESCRIPTOR_BYTES = 4
_CREDENTIALS_BYTES = 12
_CHUNK = 1 << 20


class VisitError(Exception):
    """There is no order to be had; the text says why, for people."""


class Counter:
    """One visit to the desk of a ``start``."""

    def __init__(self, visit: socket.socket) -> None:
        """Keep the connection, for the report."""
        self._visit = visit
        self._open = True

    @classmethod
    def visit(cls, address: str, worker: str) -> tuple[Counter, Brief, int | None]:
        """Fetch this worker's order and the descriptor that holds its claim.

        Raises VisitError when nobody is there any more, or somebody else is.
        """
        visit = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            brief, claim = _fetch(visit, address, worker)
        except (OSError, EOFError):
            visit.close()
            raise VisitError("its `tmuxevolve start` was interrupted; run it again") from None
        except VisitError:
            visit.close()
            raise
        return cls(visit), brief, claim

    def report(self, report: bytes) -> None:
        """Tell ``start`` what became of this worker, once, as JSON; it may be gone by now."""
        if not self._open:
            return
        self._open = False
        try:
            self._visit.sendall(report)
        except OSError:
            pass
        finally:
            self._visit.close()

    def running(self, pid: int) -> None:
        """Tell ``start`` that the trainer runs."""
        self.report(b'{"state":"running","pid":%d}' % pid)


def peer_uid(peer: socket.socket) -> int:
    """Return the user that the process at the other end runs as; see unix(7)."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    return int.from_bytes(raw[4:8], sys.byteorder)


def pack(brief: Brief) -> bytes:
    """Return a brief as it travels: both ends are the same interpreter, and the same user's."""
    return marshal.dumps({**brief})


def _fetch(visit: socket.socket, address: str, worker: str) -> tuple[Brief, int | None]:
    visit.connect(b"\0" + address.encode())
    if peer_uid(visit) != os.getuid():
        raise VisitError("another user answers in place of tmuxevolve start")
    visit.sendall(worker.encode())
    space = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
    head, messages, _, _ = visit.recvmsg(LENGTH_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    claim = None
    for level, kind, data in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            claim = int.from_bytes(data[:_DESCRIPTOR_BYTES], sys.byteorder)
    if len(head) != LENGTH_BYTES:
        raise EOFError
    payload = _read(visit, int.from_bytes(head, "big"))
    # The other end runs as the same user, who could as well change this program.
    brief: Brief = marshal.loads(payload)  # noqa: S302
    return brief, claim


def _read(visit: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = visit.recv(min(length, _CHUNK))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
