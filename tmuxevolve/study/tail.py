"""Reads a file that others append to: each time only what is new, and only whole lines."""

from __future__ import annotations

import os
from pathlib import Path


class Tail:
    """A file and how far it was read."""

    def __init__(self, path: Path) -> None:
        """Begin at the file's start."""
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def new(self) -> tuple[bool, list[bytes]]:
        """Return the whole lines since the last time, without their ends.

        The first value is True when another file has taken the place of the one read so far, or it
        was cut: the lines are then all of it. A missing file has no lines. Raises OSError.
        """
        try:
            # Opened anew each time: that is what makes an NFS client ask for others' lines.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._begin(None), []
        try:
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            again = self._begin(identity) if self._is_another(identity, status.st_size) else False
            data = _read(descriptor, self._offset, status.st_size)
        finally:
            os.close(descriptor)
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return again, data[:whole].split(b"\n")[:-1]

    def _is_another(self, identity: tuple[int, int], size: int) -> bool:
        return identity != self._file or size < self._offset

    def _begin(self, identity: tuple[int, int] | None) -> bool:
        """Start over; say whether anything was read before."""
        seen = self._offset > 0
        self._file, self._offset = identity, 0
        return seen


def _read(descriptor: int, offset: int, end: int) -> bytes:
    parts = []
    while offset < end and (part := os.pread(descriptor, end - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
