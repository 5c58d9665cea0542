"""The kernel-held lock on a GPU that keeps two workers apart, host-wide and across users.

A claim is a bound socket in Linux's abstract namespace (unix(7)): no file, hence nothing stale,
no permissions to get wrong and no link to swap; it ends with the last process that holds it,
however that process ends. Its scope is a network namespace: a container with its own network does
not see the host's claims, which is why free GPUs are also judged by their memory in use.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tmuxevolve.errors import TmuxEvolveError

_CLAIM = "tmuxevolve.claim"
_TURN = "tmuxevolve.turn"
_SOCKETS = Path("/proc/net/unix")
_TURN_TIMEOUT = 5.0
_TURN_POLL = 0.002


class Holder(msgspec.Struct, frozen=True):
    """Who holds a claim: the user's id, and how many workers that user allows on the GPU."""

    uuid: str
    limit: int
    uid: int


class ClaimedError(TmuxEvolveError):
    """The GPU is claimed by as many workers as it may have."""

    def __init__(self, uuid: str, holders: tuple[Holder, ...]) -> None:
        """Keep who is in the way."""
        self.holders = holders
        super().__init__(f"{uuid} is claimed by another tmuxevolve worker")


class Claim:
    """A held claim; closing it, or the end of its last holder, gives the GPU back."""

    def __init__(self, held: socket.socket) -> None:
        """Take over a bound socket."""
        self._socket = held

    @classmethod
    def adopt(cls, descriptor: int) -> Claim:
        """Become a holder through a descriptor received from another process."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """Return the descriptor, to be handed to the worker."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the claim back, as far as this process holds it."""
        self._socket.close()


def take(uuid: str, limit: int = 1) -> Claim:
    """Claim the GPU (or MIG instance) with this UUID for one worker.

    ``limit`` is how many workers this one is willing to share the GPU with, itself included; the
    lowest limit among all holders counts. Raises ClaimedError when that many hold it already.
    """
    with _turn(uuid):
        holders = held().get(uuid, ())
        if is_full(holders, limit):
            raise ClaimedError(uuid, holders)
        return Claim(_bind(f"{_CLAIM}/{uuid}/{limit}/{os.getuid()}/{os.urandom(4).hex()}"))


def is_full(holders: Sequence[Holder], limit: int) -> bool:
    """Say whether these holders leave no place for a worker that would share with ``limit``."""
    return len(holders) >= min([limit, *(holder.limit for holder in holders)])


def held() -> Mapping[str, tuple[Holder, ...]]:
    """Return every claim on this host, by GPU UUID."""
    found: dict[str, tuple[Holder, ...]] = {}
    with _SOCKETS.open(errors="replace") as sockets:
        for line in sockets:
            holder = _parse(line)
            if holder:
                found[holder.uuid] = (*found.get(holder.uuid, ()), holder)
    return found


def _parse(line: str) -> Holder | None:
    _, mark, name = line.rstrip("\n").partition(f" @{_CLAIM}/")
    parts = name.split("/")
    # Old MIG names hold slashes ("MIG-GPU-…/1/0"), so the fields are counted from the end.
    if not mark or len(parts) < 4 or not (parts[-3].isdecimal() and parts[-2].isdecimal()):
        return None
    return Holder("/".join(parts[:-3]), int(parts[-3]), int(parts[-2]))


@contextmanager
def _turn(uuid: str) -> Iterator[None]:
    """Let one process at a time decide about this GPU: count and bind are two steps."""
    deadline = time.monotonic() + _TURN_TIMEOUT
    while True:
        try:
            turn = _bind(f"{_TURN}/{uuid}")
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if time.monotonic() > deadline:
                raise ClaimedError(uuid, ()) from None
            time.sleep(_TURN_POLL)
    with turn:
        yield


def _bind(name: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(b"\0" + name.encode())
    except OSError:
        bound.close()
        raise
    return bound
