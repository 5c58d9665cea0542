"""Where everything is in a results directory, and how its files are written."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec

# A link in place of one of the files would lead what is written to somewhere else.
APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_PLAIN = r"[A-Za-z_][A-Za-z0-9_]*"


class Files(msgspec.Struct, frozen=True, dict=True):
    """The file names of one study, all below ``results``."""

    results: Path

    @cached_property
    def table(self) -> Path:
        """Return YOLOv5's evolve.csv: a row per finished generation."""
        return self.results / "evolve.csv"

    @cached_property
    def best(self) -> Path:
        """Return YOLOv5's hyp_evolve.yaml: the best generation's hyps."""
        return self.results / "hyp_evolve.yaml"

    @cached_property
    def lock(self) -> Path:
        """Return the study's lock."""
        return self.results / "study" / "lock"

    @cached_property
    def queue(self) -> Path:
        """Return the lock of whoever has the study's lock next."""
        return self.results / "study" / "queue"

    @cached_property
    def definition(self) -> Path:
        """Return what the study is: its budget, its hyps, its columns."""
        return self.results / "study" / "study.json"

    @cached_property
    def journal(self) -> Path:
        """Return the record of asks, tells and failures."""
        return self.results / "study" / "journal.jsonl"

    @cached_property
    def summary(self) -> Path:
        """Return what spares a look at a long history to read all of it."""
        return self.results / "study" / "summary.json"

    @cached_property
    def announced(self) -> Path:
        """Return the largest budget of which people were told that it is spent."""
        return self.results / "study" / "announced.json"

    @cached_property
    def workers(self) -> Path:
        """Return the folder with a file for each worker, whose time is its heartbeat."""
        return self.results / "study" / "workers"

    def generation(self, number: int) -> Path:
        """Return a generation's own folder."""
        return self.results / "generations" / f"{number:04}"


def replace(path: Path, text: str) -> None:
    """Write a file anew, at once: a reader sees the old text or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        # "x": in a directory that others may write to, a link could wait under this name.
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def append(path: Path, data: bytes) -> None:
    """Add whole lines to a file, at once or not at all; end a torn last line before them.

    Raises OSError, and takes back what was written when the disk is full.
    """
    descriptor = os.open(path, APPENDING, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        write(descriptor, b"\n" + data if torn else data, path)
    finally:
        os.close(descriptor)


def write(descriptor: int, data: bytes, path: Path) -> None:
    """Write all of the data at a file's end, or nothing. Raises OSError."""
    size = os.fstat(descriptor).st_size
    written = os.write(descriptor, data)
    if written < len(data):
        # Another program's line may have followed already: then ours stays, cut as it is.
        if os.fstat(descriptor).st_size == size + written:
            os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def look_again(folder: Path) -> None:
    """Make an NFS client forget which files a folder did not have. Raises OSError.

    It remembers that for half a minute, unless it changes the folder itself and hears from the
    server that others have too.
    """
    path = folder / f".{os.urandom(8).hex()}.tmp"
    os.close(os.open(path, APPENDING, 0o666))
    path.unlink()


def sync(path: Path) -> None:
    """Wait until a file is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def yaml_lines(hyp: Mapping[str, float]) -> str:
    """Return hyps as YAML, a line each.

    PyYAML takes a number with an exponent for text unless it has a point: YOLOv5 would fail on it.
    """
    return "".join(f"{_yaml_name(name)}: {_yaml_number(value)}\n" for name, value in hyp.items())


def _yaml_name(name: str) -> str:
    if re.fullmatch(_PLAIN, name) and name.lower() not in _WORDS:
        return name
    import json

    return json.dumps(name)


# YAML 1.1 reads these as something else than text.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _yaml_number(value: float) -> str:
    text = repr(float(value))
    if text in {"nan", "inf", "-inf"}:
        return text.replace("nan", ".nan").replace("inf", ".inf")
    mantissa, mark, exponent = text.partition("e")
    if not mark:
        return text
    point = "" if "." in mantissa else ".0"
    sign = "" if exponent.startswith("-") else "+"
    return f"{mantissa}{point}e{sign}{exponent.removeprefix('+')}"
