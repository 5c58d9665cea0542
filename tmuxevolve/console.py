"""The terminal that a worker has in a Slurm job: a pty of its own, since a job has none.

What the worker prints goes to the job's step, where sattach shows it, and to the recorder; what
sattach takes is typed. The last of it is kept for the worker, which reads what its trainer printed.
It runs as long as the job: no imports of weight.
"""

from __future__ import annotations

import errno
import os
import re
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from typing import NoReturn
else:
    import _signal as signal
    import _socket as socket

VARIABLE = "TMUXEVOLVE_CONSOLE"
"""In the environment of what runs in such a terminal."""

_RESIZE = re.compile(rb"\x1b_tmuxevolve;([0-9]{1,4});([0-9]{1,4})\x1b\\")
_SIZE = (50, 200)
_KEPT = 1 << 20
_CHUNK = 1 << 16
_FOREIGN = ("TMUX", "TMUX_PANE", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "STY", "WINDOW")


def resize(rows: int, columns: int) -> bytes:
    """Return what makes the terminal this large, when it is typed."""
    return b"\x1b_tmuxevolve;%d;%d\x1b\\" % (rows, columns)


def main(address: str, worker: str, mark: str, output: str = "") -> int:
    """Run the first process of a window in a terminal; return its exit status.

    It finds its order at the ``address``; the variable ``mark`` will name the worker to whoever
    looks for its processes. ``output`` is a FIFO that gets all that is printed, too.
    """
    # Not ignored: what is started would ignore them too. They are for the worker.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    # Before the worker runs: it asks here.
    listener = _listen(worker)
    pid, terminal = os.forkpty()
    if not pid:
        _become(address, worker, mark)
    console = _Console(terminal, listener, output)
    console.resize(*_SIZE)
    console.copy(_ends())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - code if code < 0 else code


def printed_since(notice: str, worker: str) -> str:
    """Return what was printed since our own notice, as far back as it is kept.

    These are the lines as they stand on a screen: of a progress bar there is the last state.
    Raises OSError.
    """
    from tmuxevolve.recording.collapse import Collapser
    from tmuxevolve.terminal import NOTICE

    data = _fetch(worker)
    found = data.rfind(f"{NOTICE}{notice}".encode())
    screen = Collapser()
    screen.feed(data[max(0, found) :], 0.0)
    lines = [line.rstrip() for _, line in screen.end(0.0)]
    return "\n".join(lines[1 if found >= 0 else 0 :]).rstrip() + "\n"


def _fetch(worker: str) -> bytes:
    visit = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    parts = []
    try:
        visit.connect(_address(worker))
        while part := visit.recv(_CHUNK):
            parts.append(part)
    finally:
        visit.close()
    return b"".join(parts)


def _address(worker: str) -> bytes:
    return f"\0tmuxevolve.console/{worker}".encode()


def _ends() -> int:
    """Return a descriptor that can be read once a child has ended."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: os.write(writing, b"."))
    return reading


def _listen(worker: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(_address(worker))
    listener.listen(4)
    return listener


def _become(address: str, worker: str, mark: str) -> NoReturn:
    entry = f"{__file__.rpartition('/')[0]}/worker_entry.py"
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env |= {"TERM": "xterm-256color", VARIABLE: "1", mark: worker}
    try:
        argv = (sys.executable, "-I", "-S", entry, address, worker)
        os.execve(sys.executable, argv, env)  # noqa: S606
    finally:
        os._exit(127)


class _Console:
    """Copies between the terminal, the step's streams, the recorder, and whoever asks."""

    def __init__(self, terminal: int, listener: socket.socket, output: str) -> None:
        self._terminal = terminal
        self._listener = listener
        self._kept = bytearray()
        self._sinks = [1]
        self._poll = select.poll()
        for descriptor in (0, terminal, listener.fileno()):
            self._poll.register(descriptor, select.POLLIN)
        if output:
            try:
                self._sinks.append(os.open(output, os.O_WRONLY | os.O_CLOEXEC))
            except OSError as error:
                os.write(2, f"{output}: {error.strerror}\n".encode())

    def copy(self, ended: int) -> None:
        """Copy until ``ended`` can be read, and all that was printed by then was copied."""
        self._poll.register(ended, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == ended:
                    # Something that the worker has left behind may hold the terminal.
                    self._drain()
                    return
                self._act(descriptor)

    def _act(self, descriptor: int) -> None:
        if descriptor == self._terminal:
            if not self._print():
                self._poll.unregister(descriptor)
        elif descriptor == 0:
            self._type()
        else:
            self._answer()

    def resize(self, rows: int, columns: int) -> None:
        """Make the terminal this large; who runs in it is told."""
        from fcntl import ioctl
        from struct import pack
        from termios import TIOCSWINSZ

        ioctl(self._terminal, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))

    def _print(self) -> bool:
        """Copy what was printed; say whether the terminal is still open."""
        try:
            data = os.read(self._terminal, _CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            return False
        self._kept += data
        if len(self._kept) > 2 * _KEPT:
            del self._kept[:-_KEPT]
        for sink in tuple(self._sinks):
            self._write(sink, data)
        return True

    def _write(self, sink: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(sink, view) :]
        except OSError:
            # A recorder that is gone, a step that nobody can see any more: the training goes on.
            self._sinks.remove(sink)

    def _type(self) -> None:
        data = os.read(0, _CHUNK)
        if not data:
            self._poll.unregister(0)
            return
        for found in _RESIZE.finditer(data):
            self.resize(int(found[1]), int(found[2]))
        self._write_terminal(_RESIZE.sub(b"", data))

    def _write_terminal(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._terminal, data) :]
        except OSError:
            return

    def _answer(self) -> None:
        """Give what was printed to one of this user's processes."""
        from tmuxevolve.counter import peer_uid

        descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        visitor = socket.socket(fileno=descriptor)
        try:
            if peer_uid(visitor) == os.getuid():
                self._drain()
                visitor.sendall(self._kept)
        except OSError:
            pass
        finally:
            visitor.close()

    def _drain(self) -> None:
        """Read what the terminal holds: whoever asks has printed it before."""
        waiting = select.poll()
        waiting.register(self._terminal, select.POLLIN)
        while waiting.poll(0) and self._print():
            pass
