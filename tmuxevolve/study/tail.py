"""Reads a file that others append to: each time only what is new, and only whole lines."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

# A long history passes through little memory: what malloc was once given stays with the process.
_BLOCK = 1 << 14
# How many bytes before a mark are compared, by their checksum.
_CHECKED = 1 << 16


class Mark(msgspec.Struct, frozen=True):
    """How far a file was read: which one it is, to where, and what stands before that."""

    device: int
    inode: int
    offset: int
    before: int


class Tail:
    """A file and how far it was read."""

    def __init__(self, path: Path) -> None:
        """Begin at the file's start."""
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def new(self) -> tuple[bool, Iterator[bytes]]:
        """Return the whole lines since the last time, with their ends, many in each block.

        The first value is True when another file has taken the place of the one read so far, or it
        was cut: the lines are then all of it. What is not iterated over is new the next time too. A
        missing file has no lines. Raises OSError, also while the blocks are read.
        """
        try:
            # Opened anew each time: that is what makes an NFS client ask for others' lines.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._begin(None), iter(())
        try:
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            again = self._begin(identity) if self._is_another(identity, status.st_size) else False
        except OSError:
            os.close(descriptor)
            raise
        if self._offset == status.st_size:
            os.close(descriptor)
            return again, iter(())
        return again, self._blocks(_Open(descriptor), status.st_size)

    def mark(self) -> Mark | None:
        """Return how far the file was read; None when there is no file. Raises OSError."""
        if self._file is None:
            return None
        with self._path.open("rb") as file:
            return Mark(*self._file, self._offset, _before(file.fileno(), self._offset))

    def fits(self, mark: Mark) -> bool:
        """Say whether what was read up to a mark is still there. Raises OSError."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                before = _before(file.fileno(), mark.offset)
        except FileNotFoundError:
            return False
        same = (status.st_dev, status.st_ino) == (mark.device, mark.inode)
        return same and status.st_size >= mark.offset and before == mark.before

    def resume(self, mark: Mark) -> None:
        """Go on from a mark that fits."""
        self._file, self._offset = (mark.device, mark.inode), mark.offset

    def _is_another(self, identity: tuple[int, int], size: int) -> bool:
        return identity != self._file or size < self._offset

    def _begin(self, identity: tuple[int, int] | None) -> bool:
        """Start over; say whether anything was read before."""
        seen = self._offset > 0
        self._file, self._offset = identity, 0
        return seen

    def _blocks(self, file: _Open, end: int) -> Iterator[bytes]:
        length = _BLOCK
        while self._offset < end:
            data = os.pread(file.descriptor, min(length, end - self._offset), self._offset)
            whole = data.rfind(b"\n") + 1
            if whole:
                self._offset += whole
                yield data[:whole]
                length = _BLOCK
            elif len(data) < length:
                return
            else:
                length *= 2


def _before(descriptor: int, offset: int) -> int:
    length = min(offset, _CHECKED)
    return zlib.crc32(os.pread(descriptor, length, offset - length))


class _Open:
    """A descriptor that is closed with the last reference to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)
