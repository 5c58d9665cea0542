"""The files that a window's output is kept in: where they are, how they are written and bounded.

A file is opened anew for every write: another recorder may have rotated it, somebody may have
deleted its directory. The recorder loads this: no imports of weight.

``logging.handlers`` rotates as well; it needs twice the memory, and stops when its file is deleted.
"""

from __future__ import annotations

import errno
import os

FOLDER = "logs"
"""Where it all is, in the results directory; there is a folder in it for each host."""

LOG, RAW = ".log", ".raw"
"""What follows a window's name: the lines with their times; the output as it was written."""

# How large a file becomes, and how many there are of it.
BOUNDS = {LOG: (1 << 20, 4), RAW: (4 << 20, 2)}

# A link or a FIFO in place of a file would lead the output elsewhere, or stop the recorder.
_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def folder(host: str) -> str:
    """Return where a host's windows are kept, in the results directory."""
    return f"{FOLDER}/{host.replace('/', '_').lstrip('.') or 'host'}"


def make(where: str) -> None:
    """Make a host's folder, but not the results directory, which is the study's. Raises OSError."""
    for path in (where.rpartition("/")[0], where):
        if not os.path.isdir(path):  # noqa: PTH112  (pathlib takes as long to load as the rest)
            os.mkdir(path)  # noqa: PTH102


class Kept:
    """One file of a window and its older parts: name.log, name.log.1, and so on."""

    def __init__(self, where: str, window: str, kind: str) -> None:
        """Name the file; nothing is opened yet."""
        self._where = where
        self.path = f"{where}/{window}{kind}"
        self._bound, self._count = BOUNDS[kind]

    def append(self, data: bytes) -> None:
        """Add the data at the end, all of it or nothing. Raises OSError."""
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            if size and data and size + len(data) > self._bound:
                self._rotate(descriptor)
                os.close(descriptor)
                descriptor = self._open()
            self._write(descriptor, data)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self.path, _APPENDING, 0o666)
        except FileNotFoundError:
            make(self._where)
            return os.open(self.path, _APPENDING, 0o666)

    def _rotate(self, descriptor: int) -> None:
        """Move every part one on; another recorder may have done so just now."""
        if not os.path.samestat(os.fstat(descriptor), os.stat(self.path)):  # noqa: PTH116
            return
        for number in range(self._count - 1, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            try:
                os.replace(older, f"{self.path}.{number}")  # noqa: PTH105
            except FileNotFoundError:
                continue

    def _write(self, descriptor: int, data: bytes) -> None:
        size = os.fstat(descriptor).st_size
        written = os.write(descriptor, data)
        if written < len(data):
            if os.fstat(descriptor).st_size == size + written:
                os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
