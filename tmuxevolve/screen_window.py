"""The process of a window in GNU screen: a console that also knows what tmux would know of a pane.

screen keeps no facts about its windows, no exit status, and pipes their output nowhere. So this
process holds them: what ``start`` knew, how the worker ended, and the window itself, after that
end. What is alive is what answers; nothing is on the disk that could be stale.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from tmuxevolve import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:
    import _signal as signal
    import _socket as socket

_PATIENCE = 60.0
# What waits to be shown; milliseconds for which a flood is held up before some is left out.
_UNSEEN, _HELD_UP = 1 << 16, 50


def main(place: str, worker: str) -> int:
    """Wait for what to run, run it, and stay until the window is closed."""
    signals = console.watch()
    listener = console.listen(place, worker)
    begin = _begin(listener, signals)
    if begin is None:
        return 1
    head, facts, name, *rest = begin.split(b"\n", 5)
    entry, address, mark, output = [os.fsdecode(word) for word in (head, *rest)]
    env = {**os.environ, console.VARIABLE: place, mark: worker}
    pid, terminal = console.start((entry, address, worker), env)
    window = _Window(terminal, listener, signals, facts, name)
    window.runs(pid)
    window.fit()
    if output:
        window.record(output)
    with _Raw():
        window.copy()
    return 0


def _begin(listener: socket.socket, signals: int) -> bytes | None:
    """Return what the ``start`` that opened this window has to say; None when nobody does."""
    waiting = select.poll()
    waiting.register(listener.fileno(), select.POLLIN)
    waiting.register(signals, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in waiting.poll(left * 1000):
            if descriptor == signals:
                if signal.SIGHUP in os.read(signals, 512):
                    return None
                continue
            told = console.receive(listener)
            if told:
                told[1].close()
            if told and told[0].startswith(b"begin "):
                return told[0][len(b"begin ") :]
    return None


class _Raw:
    """Leaves every key to the terminal within."""

    def __enter__(self) -> None:
        import termios
        import tty

        self._before = termios.tcgetattr(0)
        tty.setraw(0)

    def __exit__(self, *_: object) -> None:
        import termios

        try:
            termios.tcsetattr(0, termios.TCSANOW, self._before)
        except termios.error:
            # The window is gone.
            return


class _Window(console.Console):
    """A window: its worker's terminal, and what is known about it."""

    def __init__(
        self, terminal: int, listener: socket.socket, signals: int, facts: bytes, name: bytes
    ) -> None:
        super().__init__(terminal, listener, signals)
        self._facts = facts
        self._name = name
        self._ending = b"null"
        self._number = os.environ.get("WINDOW", "0").encode()
        self._pid = 0
        self._status: int | None = None
        self._unseen = bytearray()
        self._stuck = False
        self._shown = select.poll()
        self._shown.register(1, select.POLLOUT)
        os.set_blocking(1, False)

    def runs(self, pid: int) -> None:
        """Take note of what runs in the terminal."""
        self._pid = pid

    def fit(self) -> None:
        """Make the terminal within as large as the window is: a wider bar would be wrapped."""
        columns, rows = os.get_terminal_size(0)
        self.resize(rows, columns)

    def _note(self, numbers: bytes) -> None:
        if signal.SIGHUP in numbers or signal.SIGTERM in numbers:
            # With this process its terminal goes, and whoever runs in it is told.
            self._going = False
        if signal.SIGWINCH in numbers and self._status is None:
            self.fit()
        if signal.SIGCHLD in numbers and self._status is None:
            self._collect()

    def _collect(self) -> None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self._drain()
            self._status = os.waitstatus_to_exitcode(status)
            # The recorder ends with the last window's output.
            for sink in self._sinks[1:]:
                os.close(sink)
            del self._sinks[1:]

    def _act(self, descriptor: int) -> None:
        if descriptor == 1:
            self._stuck = False
            self._show()
        else:
            super()._act(descriptor)

    def _write(self, sink: int, data: bytes) -> None:
        if sink != 1:
            super()._write(sink, data)
            return
        # In screen's copy mode nothing is taken: the training goes on, and so does this process.
        self._unseen += data
        if len(self._unseen) > _UNSEEN and not self._stuck:
            self._stuck = not self._shown.poll(_HELD_UP)
        self._show()
        del self._unseen[:-_UNSEEN]

    def _show(self) -> None:
        try:
            while self._unseen:
                del self._unseen[: os.write(1, self._unseen)]
        except BlockingIOError:
            self._poll.register(1, select.POLLOUT)
            return
        except OSError:
            # The window is about to go.
            self._unseen.clear()
        with suppress(KeyError):
            self._poll.unregister(1)

    def _type(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self._going = False
        elif self._status is None:
            self._press(data)

    def _reply(self, word: str, rest: bytes) -> bytes:
        if word == "look":
            return self._look()
        if word == "ending":
            self._ending = rest
        elif word == "record":
            self.record(os.fsdecode(rest))
        elif word == "moved":
            self._number = rest
        elif word == "close":
            self._going = False
        return super()._reply(word, rest)

    def _look(self) -> bytes:
        status = b"null" if self._status is None else b"%d" % self._status
        recorded = b"true" if len(self._sinks) > 1 else b"false"
        first = b'{"facts":%b,"ending":%b,"pid":%d,' % (self._facts, self._ending, self._pid)
        rest = (status, recorded, self._number, self._name)
        known = first + b'"status":%b,"recorded":%b,"index":%b,"name":"%b"}' % rest
        return known + b"\n" + os.fsencode(os.environ.get("STY", ""))
