"""The recorder: reads what the windows print, from a FIFO for each, and keeps it on disk.

One thread reads: a disk that is slow, or gone for an hour, must not let tmux pile up the output in
its own memory. What waits for the disk is bounded; what is lost is counted, and the log says so.
It ends when the last window's output does. Modules of weight are not loaded: it stands by for days.
"""

from __future__ import annotations

import _thread
import os
import select
import time
from collections import deque

from tmuxevolve.recording import files
from tmuxevolve.recording.collapse import Collapser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds for which a FIFO that nobody has opened for writing is waited for.
_PATIENCE = 20.0
_LOOK = 0.05
# Fewer, larger reads and writes: a bar is drawn ten times a second, in each window.
_BATCH = 0.5
_LITTLE = 1 << 12
_CHUNK = 1 << 16
_BACKLOG = 1 << 19


def main(results: str, where: str, fifos: str, *streams: str) -> int:
    """Record these streams, each ``DESCRIPTOR:WINDOW``, in a folder below the results directory."""
    opened = [(int(word.partition(":")[0]), word.partition(":")[2]) for word in streams]
    _detach([descriptor for descriptor, _ in opened])
    # What is put in its place later is somebody else's; and where it is moved to, this follows.
    os.chdir(results)
    windows = [Window(where, name, descriptor) for descriptor, name in opened]
    reader = _Reader(windows, fifos)
    _thread.start_new_thread(reader.read, ())
    _keep(windows, reader)
    # It may have had no time for it.
    _remove(fifos)
    return 0


def _detach(kept: Sequence[int]) -> None:
    """Hold on to nothing that was inherited but the streams."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
        os.set_inheritable(descriptor, False)
    os.closerange(first, 1 << 16)


def _keep(windows: Sequence[Window], reader: _Reader) -> None:
    while not all(window.over for window in windows):
        due = min((d for w in windows if (d := w.due()) is not None), default=None)
        reader.came.acquire(timeout=-1 if due is None else max(_BATCH, due - time.monotonic()))
        for window in windows:
            window.keep(time.monotonic())


class Window:
    """One window: what was read of its output, and what is kept of that.

    The reading thread calls ``put`` and sets ``ended``, the other one does the rest.
    """

    def __init__(self, where: str, name: str, descriptor: int) -> None:
        """Take the descriptor of the FIFO, which is open for reading."""
        self.descriptor = descriptor
        self.ended = False
        self.over = False
        self._pieces: deque[bytes] = deque()
        self._came = self._taken = self._refused = 0
        self._screen = Collapser()
        self._log = files.Kept(where, name, files.LOG)
        self._raw = files.Kept(where, name, files.RAW)
        self._lost = self._told = 0
        self._why = ""

    def put(self, data: bytes) -> None:
        """Take what was read; drop it when too much waits for the disk."""
        if self._came - self._taken > _BACKLOG:
            self._refused += len(data)
            return
        self._came += len(data)
        self._pieces.append(data)

    def due(self) -> float | None:
        """Return when there is something to write if nothing more is read."""
        return None if self.over else self._screen.due()

    def keep(self, now: float) -> None:
        """Write what has been read since the last time; ``now`` is by the monotonic clock."""
        if self.over:
            return
        ended = self.ended
        data = b"".join([self._pieces.popleft() for _ in range(len(self._pieces))])
        if data:
            self._screen.feed(data, now)
            self._append(self._raw, data, len(data))
        lines = self._screen.end(now) if ended else self._screen.lines(now)
        if lines:
            self._write(lines, now)
        # Only now: until here it was waiting for the disk.
        self._taken += len(data)
        self.over = ended

    def _write(self, lines: Sequence[tuple[float, str]], now: float) -> None:
        # The screen's clock is not stepped, as the time of day is.
        offset = time.time() - now
        text = b"".join(_line(when + offset, line) for when, line in lines)
        missing = self._lost + self._refused - self._told
        notice = b""
        if missing:
            why = self._why or "it came faster than it could be written"
            notice = _line(now + offset, f"tmuxevolve: {missing} bytes are missing here: {why}")
        if self._append(self._log, notice + text, len(text)):
            self._told += missing
            self._why = ""

    def _append(self, file: files.Kept, data: bytes, counted: int) -> bool:
        """Write; what cannot be written is lost."""
        try:
            file.append(data)
        except OSError as error:
            self._why = error.strerror or str(error)
            self._lost += counted
            return False
        return True


def _line(when: float, text: str) -> bytes:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    return f"{stamp} {text}".rstrip(" ").encode() + b"\n"


class _Reader:
    """Reads all FIFOs, each from when somebody has opened it for writing until that has ended."""

    def __init__(self, windows: Sequence[Window], fifos: str) -> None:
        self._windows = {window.descriptor: window for window in windows}
        self._fifos = fifos
        self._poll, self._ends = select.poll(), select.poll()
        self.came = _thread.allocate_lock()

    def read(self) -> None:
        """Read until all have ended."""
        try:
            self._read()
        finally:
            if self._windows:
                # Who writes to a FIFO that nobody reads would wait, and tmux keep the output.
                os._exit(1)

    def _read(self) -> None:
        patience = time.monotonic() + _PATIENCE
        strangers = set(self._windows)
        while self._windows:
            late = time.monotonic() > patience
            strangers -= {d for d in strangers if self._meet(d, late=late)}
            if not strangers and self._fifos:
                _remove(self._fifos)
                self._fifos = ""
            little = not strangers
            for descriptor, _ in self._poll.poll(_LOOK * 1000 if strangers else None):
                data = os.read(descriptor, _CHUNK)
                little = little and len(data) < _LITTLE
                self._take(descriptor, data)
            if little and self._windows:
                # The pause ends with the output of a window.
                self._ends.poll(_BATCH * 1000)

    def _meet(self, descriptor: int, *, late: bool) -> bool:
        """Look whether the other end was opened, or never will be: ``start`` removes its FIFO."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            data = None
        if data == b"" and not late and os.fstat(descriptor).st_nlink:
            return False
        self._poll.register(descriptor, select.POLLIN)
        self._ends.register(descriptor, 0)
        if data is not None:
            self._take(descriptor, data)
        return True

    def _take(self, descriptor: int, data: bytes) -> None:
        if data:
            self._windows[descriptor].put(data)
        else:
            self._poll.unregister(descriptor)
            self._ends.unregister(descriptor)
            os.close(descriptor)
            self._windows.pop(descriptor).ended = True
        if self.came.locked():
            self.came.release()


def _remove(fifos: str) -> None:
    """Remove names that nobody needs any more; ``start`` may remove some at the same time."""
    try:
        for name in os.listdir(fifos):  # noqa: PTH208
            _unlink(f"{fifos}/{name}")
        os.rmdir(fifos)  # noqa: PTH106
    except OSError:
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
