"""logs: what was printed in the windows, read back, also while it goes on being printed."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from tmuxevolve.errors import NotRunningError, UsageError
from tmuxevolve.multiplexer import Multiplexer
from tmuxevolve.recording import files
from tmuxevolve.session.attach import refuse_several, windows_if_any
from tmuxevolve.slots import window_name

POLL = 0.2
"""Seconds between two looks for something new."""

_STAMP_CHARS = len("2026-11-25 03:04:05")


class Source(msgspec.Struct, frozen=True):
    """One window whose output is kept; ``folder`` is its host's."""

    host: str
    window: str
    folder: Path

    def path(self, kind: str) -> Path:
        """Return the newest file of a kind."""
        return self.folder / f"{self.window}{kind}"


class Line(msgspec.Struct, frozen=True):
    """A line as it is kept, and the name of the window that it is from."""

    name: str
    text: str


class Batch(msgspec.Struct, frozen=True):
    """Lines in the order of their times; ``names`` are those of all windows that are shown."""

    names: tuple[str, ...]
    lines: tuple[Line, ...]


def locate(mux: Multiplexer, session: str | None, configured: Callable[[], Path]) -> Path:
    """Return a session's results directory: the running one's, or what its file says."""
    windows = [w for w in windows_if_any(mux) if session in {None, w.facts.session}]
    if not windows:
        return configured()
    refuse_several(windows, "name one with -s")
    return Path(windows[0].facts.results)


def lines(
    results: Path, slot: str | None, count: int, pause: Callable[[float], None] | None
) -> Iterator[Batch]:
    """Yield each window's last lines; and, given what to do meanwhile, those to come.

    Raises NotRunningError when there are none.
    """
    with ExitStack() as opened:
        readers = {s: opened.enter_context(_Reader(s, files.LOG)) for s in _sources(results, slot)}
        yield _merged({source: reader.last_lines(count) for source, reader in readers.items()})
        while pause:
            pause(POLL)
            for source in _chosen(results, slot):
                if source not in readers:
                    readers[source] = opened.enter_context(_Reader(source, files.LOG))
            yield _merged({source: reader.new_lines() for source, reader in readers.items()})


def raw(
    results: Path, slot: str | None, count: int, pause: Callable[[float], None] | None
) -> Iterator[bytes]:
    """Yield one window's output as it was written: the last lines, and then what is to come."""
    found = _sources(results, slot)
    if len(found) > 1:
        raise UsageError(f"--raw shows one window: name it; there are: {_names(found)}")
    with _Reader(found[0], files.RAW) as reader:
        yield reader.last(count)
        while pause:
            pause(POLL)
            yield reader.new()


def _sources(results: Path, slot: str | None) -> list[Source]:
    found = _chosen(results, slot)
    if found:
        return found
    where = results / files.FOLDER
    every = _chosen(results, None)
    if slot is None or not every:
        raise NotRunningError(f"{where}: no window's output is kept there")
    raise NotRunningError(f"GPU {slot} has no log in {where}; there are: {_names(every)}")


def _chosen(results: Path, slot: str | None) -> list[Source]:
    """Return the windows whose output is kept, or those of one slot; gpu2 is before gpu10."""
    found = (
        Source(folder.name, file.name.removesuffix(files.LOG), folder)
        for folder in _listed(results / files.FOLDER)
        for file in _listed(folder)
        if file.name.endswith(files.LOG)
    )
    mine = (source for source in found if slot is None or _matches(source, slot))
    return sorted(mine, key=lambda s: (s.host, len(s.window), s.window))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _matches(source: Source, slot: str) -> bool:
    window = source.window
    named = {window, f"{source.host}/{window}"}
    # As everywhere, 2 is all workers of GPU 2, and the window of that index.
    device = window.partition("-w")[0]
    return slot in named or window_name(slot) in {window, device} or device == f"cpu{slot}"


def _names(found: Collection[Source]) -> str:
    return " ".join(_named(found).values())


def _named(found: Collection[Source]) -> dict[Source, str]:
    """Return what to call windows: hosts that share a results directory have gpu2 each."""
    several = len({source.host for source in found}) > 1
    return {s: f"{s.host}/{s.window}" if several else s.window for s in found}


def _merged(found: Mapping[Source, Sequence[bytes]]) -> Batch:
    names = _named(found)
    each = (
        [Line(names[source], text.decode(errors="replace")) for text in texts]
        for source, texts in found.items()
    )
    by_time = heapq.merge(*each, key=lambda line: line.text[:_STAMP_CHARS])
    return Batch(tuple(names.values()), tuple(by_time))


class _Reader:
    """A file that grows and is rotated, as `tail -F` reads it."""

    def __init__(self, source: Source, kind: str) -> None:
        """Begin with what is there."""
        self._path = source.path(kind)
        self._older = [f"{self._path}.{n}" for n in range(1, files.BOUNDS[kind][1])]
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def last(self, count: int) -> bytes:
        """Return the last lines that are there, and an unfinished one."""
        data = self.new()
        for path in self._older:
            if data.count(b"\n") > count:
                break
            with suppress(FileNotFoundError):
                data = Path(path).read_bytes() + data
        return b"\n".join(data.split(b"\n")[-count - 1 :])

    def last_lines(self, count: int) -> list[bytes]:
        """Return the last whole lines."""
        *whole, self._rest = self.last(count).split(b"\n")
        return whole

    def new_lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last time."""
        *whole, self._rest = (self._rest + self.new()).split(b"\n")
        return whole

    def new(self) -> bytes:
        """Return what has come since the last time, in this file and then in its successor."""
        data = self._file.read() if self._file else b""
        if not self._is_current():
            # Once more: the last of it may have come between the two looks.
            data += self._file.read() if self._file else b""
            data += self._open()
        return data

    def _is_current(self) -> bool:
        if not self._file:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        here = os.fstat(self._file.fileno())
        return os.path.samestat(there, here) and there.st_size >= self._file.tell()

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _open(self) -> bytes:
        self._close()
        with suppress(FileNotFoundError):
            self._file = self._path.open("rb", buffering=0)
        return self._file.read() if self._file else b""
