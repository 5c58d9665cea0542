"""A terminal of our own for a worker: a pty, and a process that copies.

Where nothing else gives it one it shows the worker's window: in a Slurm job (here), and in GNU
screen (screen_window.py). What the worker prints goes to whoever looks and to the recorder; what
is typed there goes to the worker. The last of it is kept: the worker reads there what its trainer
printed. It runs as long as the window: no imports of weight.
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
    from collections.abc import Mapping
    from typing import NoReturn
else:
    import _signal as signal
    import _socket as socket

VARIABLE = "TMUXEVOLVE_CONSOLE"
"""In the environment of what runs in such a terminal: where the console is to be found."""

JOB = "job"
"""The place of consoles in Slurm jobs."""

_RESIZE = re.compile(rb"\x1b_tmuxevolve;([0-9]{1,4});([0-9]{1,4})\x1b\\")
SIZE = (50, 200)
_KEPT = 1 << 20
_CHUNK = 1 << 16
_DRAINED = 64
_PATIENCE = 10.0
_FOREIGN = ("TMUX", "TMUX_PANE", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "STY", "WINDOW")


def resize(rows: int, columns: int) -> bytes:
    """Return what makes a job's terminal this large, when it is typed."""
    return b"\x1b_tmuxevolve;%d;%d\x1b\\" % (rows, columns)


def main(address: str, worker: str, mark: str, output: str = "") -> int:
    """Run the first process of a window in a job's terminal; return its exit status.

    It finds its order at the ``address``; the variable ``mark`` will name the worker to whoever
    looks for its processes. ``output`` is a FIFO that gets all that is printed, too.
    """
    signals = watch()
    # Before the worker runs: it asks here.
    listener = listen(JOB, worker)
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env |= {"TERM": "xterm-256color", VARIABLE: JOB, mark: worker}
    pid, terminal = start(("worker_entry.py", address, worker), env)
    console = Console(terminal, listener, signals)
    console.resize(*SIZE)
    if output:
        console.record(output)
    console.copy()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - code if code < 0 else code


def ask(place: str, worker: str, request: bytes) -> bytes:
    """Ask a worker's console; return its answer. Raises OSError when there is none of this user."""
    from tmuxevolve.counter import peer_uid

    visit = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    parts = []
    try:
        visit.settimeout(_PATIENCE)
        visit.connect(_address(place, worker))
        # Anybody can listen there: what they say would be attached to, signalled, run again.
        if peer_uid(visit) != os.getuid():
            raise PermissionError(errno.EPERM, "another user answers")
        visit.sendall(request)
        visit.shutdown(socket.SHUT_WR)
        while part := visit.recv(_CHUNK):
            parts.append(part)
    finally:
        visit.close()
    return b"".join(parts)


def printed_since(notice: str, worker: str, place: str) -> str:
    """Return what was printed since our own notice, as far back as it is kept.

    These are the lines as they stand on a screen: of a progress bar there is the last state.
    Raises OSError.
    """
    from tmuxevolve.terminal import NOTICE

    data = ask(place, worker, b"printed %d" % _KEPT)
    found = data.rfind(f"{NOTICE}{notice}".encode())
    printed = lines(data[max(0, found) :])
    return "\n".join(printed[1 if found >= 0 else 0 :]).rstrip() + "\n"


def lines(data: bytes) -> list[str]:
    """Return what a terminal's output shows, as lines."""
    from tmuxevolve.recording.collapse import Collapser

    screen = Collapser()
    screen.feed(data, 0.0)
    return [line.rstrip() for _, line in screen.end(0.0)]


def listen(place: str, worker: str) -> socket.socket:
    """Return the socket at which a console is asked."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(_address(place, worker))
    listener.listen(16)
    return listener


def receive(listener: socket.socket) -> tuple[bytes, socket.socket] | None:
    """Take a visitor and what it asks; None when it is another user's, or goes away."""
    from tmuxevolve.counter import peer_uid

    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    visitor = socket.socket(fileno=descriptor)
    parts = []
    try:
        visitor.settimeout(_PATIENCE)
        if peer_uid(visitor) == os.getuid():
            while part := visitor.recv(_CHUNK):
                parts.append(part)
            return b"".join(parts), visitor
    except OSError:
        pass
    visitor.close()
    return None


def watch() -> int:
    """Note signals; return a descriptor that tells their numbers.

    They are not ignored: what is started would ignore them too.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (
        *(signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGCHLD, signal.SIGWINCH),
    ):
        signal.signal(number, lambda *_: None)
    return reading


def start(words: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, int]:
    """Run one of our programs in a new terminal; return its pid and the terminal."""
    pid, terminal = os.forkpty()
    if not pid:
        _become(words, env)
    return pid, terminal


def _become(words: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
    try:
        entry = f"{__file__.rpartition('/')[0]}/{words[0]}"
        argv = (sys.executable, "-I", "-S", entry, *words[1:])
        os.execve(sys.executable, argv, env)  # noqa: S606
    finally:
        os._exit(127)


def _address(place: str, worker: str) -> bytes:
    return f"\0tmuxevolve.console/{place}/{worker}".encode()


class Console:
    """Copies between the terminal, the standard streams, the recorder, and whoever asks."""

    def __init__(self, terminal: int, listener: socket.socket, signals: int) -> None:
        """Take a terminal in which something runs."""
        self._terminal = terminal
        self._listener = listener
        self._signals = signals
        self._kept = bytearray()
        self._sinks = [1]
        self._going = True
        self._poll = select.poll()
        for descriptor in (0, terminal, listener.fileno(), signals):
            self._poll.register(descriptor, select.POLLIN)

    def copy(self) -> None:
        """Copy until what runs there has ended, and all that it printed by then was copied."""
        while self._going:
            for descriptor, _ in self._poll.poll():
                self._act(descriptor)

    def record(self, output: str) -> None:
        """Write all that is printed from now on to this FIFO, too, if somebody reads it."""
        try:
            # To wait for a reader, as a plain open does, would stop the training.
            fifo = os.open(output, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(fifo, True)
            self._sinks = [*self._sinks[:1], fifo]
        except OSError as error:
            os.write(2, f"{output}: {error.strerror}\n".encode())

    def resize(self, rows: int, columns: int) -> None:
        """Make the terminal this large; who runs in it is told."""
        from fcntl import ioctl
        from struct import pack
        from termios import TIOCSWINSZ

        ioctl(self._terminal, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))

    def _act(self, descriptor: int) -> None:
        if descriptor == self._terminal:
            if not self._print():
                self._poll.unregister(descriptor)
        elif descriptor == 0:
            self._type()
        elif descriptor == self._signals:
            self._note(os.read(descriptor, 512))
        else:
            self._answer()

    def _note(self, numbers: bytes) -> None:
        """Act on signals; those to all of a job are for the worker alone."""
        if signal.SIGCHLD in numbers:
            # Something that the worker has left behind may hold the terminal.
            self._drain()
            self._going = False

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
        self._press(_RESIZE.sub(b"", data))

    def _press(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._terminal, data) :]
        except OSError:
            return

    def _answer(self) -> None:
        """Answer one of this user's processes."""
        told = receive(self._listener)
        if told is None:
            return
        request, visitor = told
        try:
            word, _, rest = request.partition(b" ")
            visitor.sendall(self._reply(word.decode(), rest))
        except OSError:
            pass
        finally:
            visitor.close()

    def _reply(self, word: str, rest: bytes) -> bytes:
        if word != "printed":
            return b""
        # Whoever asks has printed it before.
        self._drain()
        return bytes(self._kept[-int(rest) :])

    def _drain(self) -> None:
        waiting = select.poll()
        waiting.register(self._terminal, select.POLLIN)
        # More than a terminal holds; what prints without a pause would keep this here for ever.
        for _ in range(_DRAINED):
            if not (waiting.poll(0) and self._print()):
                return
