"""The terminal that a keeper and its worker run in.

A window's first processes load this: it imports next to nothing.
"""

from __future__ import annotations

import os

NOTICE = "tmuxevolve: "
"""How our lines begin, so that they are not taken for the trainer's."""

VARIABLES = (
    *("TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TMUX", "TMUX_PANE"),
    *("STY", "WINDOW"),
)
"""These belong to the terminal that a program runs in, not to the user who started it."""


def say(text: str) -> None:
    """Print to the window, which may be closed by now."""
    line = memoryview(f"{NOTICE}{text}\n".encode(errors="surrogateescape"))
    try:
        while line:
            line = line[os.write(2, line) :]
    except OSError:
        return


def variables() -> dict[str, str]:
    """Return the environment's variables of this terminal."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}
