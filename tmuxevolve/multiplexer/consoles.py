"""Which consoles there are: the kernel lists the sockets at which they answer; see proc_net(5)."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

_SOCKETS = Path("/proc/net/unix")
_NAME = " @tmuxevolve.console/"


def workers(place: str) -> list[str]:
    """Return the workers whose consoles are at this place."""
    mark = f"{_NAME}{place}/"
    with _SOCKETS.open(errors="replace") as sockets:
        lines = (line.rstrip("\n").partition(mark) for line in sockets)
        return list(dict.fromkeys(worker for _, found, worker in lines if found))


def here() -> str:
    """Return the place of this user's consoles in screen; another SCREENDIR is another place."""
    where = crc32(os.fsencode(os.environ.get("SCREENDIR", "")))
    return f"screen-{os.getuid()}-{where:08x}"
