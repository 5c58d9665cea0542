"""Start a trainer as a child in the same terminal. A window's first processes load it.

What ``subprocess`` does for a ``preexec_fn``, for a process of one thread and without its imports;
and a signal that comes between fork and exec is not lost: it acts on the trainer.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import NoReturn
else:
    # The module `signal` makes enums of its numbers: 4 ms of each window's start.
    import _signal as signal

# Python ignores them in itself; a trainer expects their usual effect.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
_FIRST_DESCRIPTOR, _LAST_DESCRIPTOR = 3, 1 << 16
_PREPARE, _ENTER, _RUN = b"p", b"c", b"x"


class PrepareError(OSError):
    """What was to be done in the child before the program failed."""


class Program:
    """What to run in which folder; ``prepare`` is called in the child before.

    Of all descriptors beyond the standard ones it gets ``inherit`` alone.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        folder: str,
        env: Mapping[str, str],
        prepare: Callable[[], None],
        inherit: int | None = None,
    ) -> None:
        """Keep the parts."""
        self.argv = argv
        self.folder = folder
        self.env = env
        self.prepare = prepare
        self.inherit = inherit


class Child:
    """A trainer. ``returncode`` is as Popen's: None while it runs, -n after signal n."""

    def __init__(self, pid: int) -> None:
        """Take over a child of this process that nobody else waits for."""
        self.pid = pid
        self.began = time.monotonic()
        self.returncode: int | None = None

    @property
    def status(self) -> int:
        """Return the exit status as a shell gives it, 128 + n after signal n; 0 while it runs."""
        code = self.returncode or 0
        return 128 - code if code < 0 else code

    def poll(self) -> int | None:
        """Look whether it has ended, and return its ``returncode``."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def spawn(program: Program) -> Child:
    """Run a program.

    Raises OSError, with the folder or the program as its filename, when it cannot be run, and
    PrepareError when ``prepare`` did.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if not pid:
        _become(program, writing, mask)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(writing)
    problem = os.read(reading, 64)
    os.close(reading)
    if not problem:
        return Child(pid)
    os.waitpid(pid, 0)
    step, number = problem[:1], int(problem[1:])
    if step == _PREPARE:
        raise PrepareError(number, os.strerror(number))
    place = program.folder if step == _ENTER else program.argv[0]
    raise OSError(number, os.strerror(number), place)


def _close_all_but(report: int, inherit: int | None) -> None:
    first = _FIRST_DESCRIPTOR
    for kept in sorted({report, report if inherit is None else inherit}):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, _LAST_DESCRIPTOR)
    if inherit is not None:
        os.set_inheritable(inherit, True)


def _become(program: Program, report: int, mask: set[int] | set[signal.Signals]) -> NoReturn:
    """Become the program, or report which step failed and why, and end."""
    step = _PREPARE
    try:
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)) or number in _IGNORED:
                signal.signal(number, signal.SIG_DFL)
        program.prepare()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _close_all_but(report, program.inherit)
        step = _ENTER
        os.chdir(program.folder)
        step = _RUN
        # No shell: these are the words as they are.
        os.execvpe(program.argv[0], program.argv, program.env)  # noqa: S606
    except OSError as error:
        os.write(report, step + b"%d" % (error.errno or 0))
    finally:
        os._exit(255)
