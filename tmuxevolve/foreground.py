"""What a worker can do in its window."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve.spawn import Child
from tmuxevolve.standby import Command

if TYPE_CHECKING:
    from tmuxevolve.notify import Outbox


class Window(msgspec.Struct, frozen=True):
    """A worker's window.

    ``spawn`` starts the trainer in the foreground, ``wait`` waits that many seconds for its end or
    a signal, ``end`` ends all that is left of its process tree, ``cause`` is why we had to end it
    or None, ``printed`` are the lines since one of our own notices, ``say`` prints a notice,
    ``load`` starts the next trainer's process so far that it waits for its words (standby.py).
    ``outbox`` takes what people are to be told; None when nobody is.
    """

    spawn: Callable[[tuple[str, ...]], Child]
    wait: Callable[[float], None]
    end: Callable[[], None]
    cause: Callable[[], str | None]
    printed: Callable[[str], str]
    say: Callable[[str], None]
    load: Callable[[Command], None]
    outbox: Outbox | None = None
