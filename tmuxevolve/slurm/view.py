"""A job's step in this terminal: what it prints is shown, and what is typed goes to it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tmuxevolve import console, lineage, slurm

_CHUNK = 4096
_STDIN = 0


def show(job: str) -> None:
    """Attach to a job's step, and return when sattach has ended, for whatever reason.

    Raises OSError.
    """
    # sattach holds the writing end too: its input never ends, or nobody could ever type again.
    reading, writing = os.pipe()
    here = os.getpid()
    try:
        with _raw(), _wakeup() as woken:
            attached = subprocess.Popen(
                slurm.attached(job),
                stdin=reading,
                pass_fds=(writing,),
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: lineage.end_with_parent(here, signal.SIGKILL),  # noqa: PLW1509
            )
            try:
                _copy(attached, writing, woken)
            finally:
                attached.kill()
                attached.wait()
    finally:
        os.close(reading)
        os.close(writing)


def _copy(attached: subprocess.Popen[bytes], keys: int, woken: int) -> None:
    """Type what is typed here, and the terminal's size whenever it changes."""
    _resize(keys)
    streams = [_STDIN, woken]
    while attached.poll() is None:
        ready, _, _ = select.select(streams, [], [])
        if woken in ready and signal.SIGWINCH in os.read(woken, _CHUNK):
            _resize(keys)
        if _STDIN in ready:
            data = os.read(_STDIN, _CHUNK)
            os.write(keys, data)
            streams = streams if data else [woken]


def _resize(keys: int) -> None:
    with suppress(OSError):
        columns, rows = os.get_terminal_size(_STDIN)
        os.write(keys, console.resize(rows, columns))


@contextmanager
def _raw() -> Iterator[None]:
    """Leave every key to the other end, Ctrl-C too; where this is no terminal, do nothing."""
    if not os.isatty(_STDIN):
        yield
        return
    before = termios.tcgetattr(_STDIN)
    tty.setraw(_STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


@contextmanager
def _wakeup() -> Iterator[int]:
    """Return a descriptor that tells of signals by their numbers: a child's end, a new size."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    numbers = (signal.SIGCHLD, signal.SIGWINCH)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
