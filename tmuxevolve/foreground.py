"""What a worker can do in its window."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A worker's window.

    ``spawn`` starts the trainer in the foreground, ``end`` ends all that is left of its process
    tree, ``printed`` are the lines since one of our own notices, ``say`` prints a notice.
    """

    spawn: Callable[[tuple[str, ...]], subprocess.Popen[bytes]]
    end: Callable[[], None]
    printed: Callable[[str], str]
    say: Callable[[str], None]
