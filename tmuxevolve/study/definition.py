"""What a study is, in its results directory: its budget, its hyps, its evolve.csv's columns."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from tmuxevolve.errors import UsageError
from tmuxevolve.study import files, history, rows
from tmuxevolve.study.files import Files
from tmuxevolve.study.lock import locked
from tmuxevolve.study.rows import Layout


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of study.json.

    ``generations`` is the budget: finished ones, on all machines. ``id`` tells this study from
    another one that is put in its place; those made by older versions have none.
    """

    id: str = ""
    generations: int
    base: dict[str, float]
    layout: Layout


def load(where: Files) -> Definition | None:
    """Return what the study is; None when there is none. Raises UsageError for a damaged file."""
    try:
        return _read(where)
    except OSError as error:
        raise _unreadable(where, error) from None


def _read(where: Files) -> Definition | None:
    try:
        return msgspec.json.decode(where.definition.read_bytes(), type=Definition)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise _unreadable(where, error) from None


def _unreadable(where: Files, error: Exception) -> UsageError:
    return UsageError(f"{where.definition}: cannot be read ({error}); move it away")


class Watch:
    """A study's definition, read again only when its file is another one."""

    def __init__(self, where: Files) -> None:
        """Name the file; nothing is read yet."""
        self._where = where
        self._read: tuple[int, int, int, int] | None = None
        self._found: Definition | None = None

    def now(self) -> Definition | None:
        """Return what ``load`` would. Raises UsageError for a damaged file, and OSError."""
        try:
            status = self._where.definition.stat()
        except FileNotFoundError:
            self._read, self._found = None, None
            return None
        # It is always replaced as a whole, so another one has another inode.
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity != self._read:
            # OSError passes: a server that is away for a moment has not damaged the file.
            self._found, self._read = _read(self._where), identity
        return self._found


def agree(where: Files, wanted: Definition, *, budget: int | None) -> Definition:
    """Make this the study of the results directory, or continue the one that is there.

    A ``budget`` is what somebody has just asked for, and counts; otherwise the larger of the one
    written earlier and the wanted one does. Raises UsageError when the directory holds a study of
    other hyps or other columns, and OSError when it cannot be written.
    """
    where.definition.parent.mkdir(parents=True, exist_ok=True)
    with locked(where.lock):
        found = load(where)
        if found:
            _check_columns(where, found, wanted)
            wanted = msgspec.structs.replace(
                wanted, id=found.id, generations=max(found.generations, wanted.generations)
            )
        else:
            wanted = msgspec.structs.replace(wanted, id=os.urandom(8).hex())
        if budget is not None:
            wanted = msgspec.structs.replace(wanted, generations=budget)
        _check_table(where, wanted)
        if found != wanted:
            files.replace(where.definition, msgspec.json.encode(wanted).decode() + "\n")
    return wanted


def differing(found: Definition, wanted: Definition) -> tuple[str, ...]:
    """Return the hyps of the same name that the two begin with differently, with both values."""
    pairs = ((name, value, wanted.base.get(name)) for name, value in found.base.items())
    return tuple(
        f"{name}: {value:g} there, {other:g} here"
        for name, value, other in pairs
        if other is not None and rows.canonical(value) != rows.canonical(other)
    )


def _check_columns(where: Files, found: Definition, wanted: Definition) -> None:
    if found.layout != wanted.layout:
        raise UsageError(
            f"{where.results}: the study there has another fitness; use another results directory"
        )
    _check_names(where, found.base, wanted.base)


def _check_table(where: Files, wanted: Definition) -> None:
    """Compare with the header of an evolve.csv, which YOLOv5 itself may have written."""
    columns = history.columns(where.table)
    if not columns:
        return
    cut = len(wanted.layout.metrics)
    if columns[:cut] != wanted.layout.metrics:
        raise UsageError(f"{where.table}: has other metrics; use another results directory")
    _check_names(where, dict.fromkeys(columns[cut:], 0.0), wanted.base)


def _check_names(where: Files, found: Mapping[str, float], wanted: Mapping[str, float]) -> None:
    lacking, further = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
    if lacking or further:
        difference = [f"+{name}" for name in further] + [f"-{name}" for name in lacking]
        raise UsageError(
            f"{where.results}: the study there has other hyps ({', '.join(difference)});"
            " use another results directory"
        )
