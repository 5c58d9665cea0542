"""Which consoles there are: the kernel lists the sockets at which they answer; see proc_net(5)."""

from __future__ import annotations

import os
from pathlib import Path

_SOCKETS = Path("/proc/net/unix")
_NAME = " @tmuxevolve.console/"


def workers(place: str) -> list[str]:
    """Return the workers whose consoles are at this place, also those of other users."""
    mark = f"{_NAME}{place}/"
    with _SOCKETS.open(errors="replace") as sockets:
        lines = (line.rstrip("\n").partition(mark) for line in sockets)
        return list(dict.fromkeys(worker for _, found, worker in lines if found))


def any_in_screen() -> bool:
    """Say whether there is a window in GNU screen, in this SCREENDIR."""
    sockets = _SOCKETS.read_text(errors="replace")
    return f"{_NAME}screen-" in sockets and f"{_NAME}{screen_place()}/" in sockets


def screen_place() -> str:
    """Return where this user's consoles are to be found, apart from those of other SCREENDIRs."""
    import hashlib

    where = os.environ.get("SCREENDIR", "")
    return f"screen-{hashlib.sha256(os.fsencode(where)).hexdigest()[:12]}"
