"""The standard streams, which may be closed, full, or of an encoding that lacks characters."""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Open what is closed, and let text be printed that the encoding cannot say."""
    _fill()
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line for people on stderr; nobody may be there to read it."""
    from tmuxevolve.yamlfile import one_line

    try:
        print(f"tmuxevolve: {one_line(text)}", file=sys.stderr, flush=True)
    except OSError:
        _discard(2)


def pause(seconds: float) -> None:
    """Sleep. Raises BrokenPipeError as soon as whoever reads the output has gone."""
    import select

    reader = select.poll()
    # Asked for nothing, it tells errors alone.
    reader.register(1, 0)
    if reader.poll(seconds * 1000):
        raise BrokenPipeError


def discard_output() -> None:
    """Let what could not be printed not fail once more when the interpreter flushes it."""
    _discard(1)


def _discard(number: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _fill() -> None:
    """Keep the next file that is opened from being number 1, and so from what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
