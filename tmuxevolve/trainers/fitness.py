"""The fitness that any program leaves: in a JSON or CSV file, or in a line of text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from tmuxevolve.config import FitnessSource
from tmuxevolve.trainers import NoResultError

_FORMATS = (".json", ".jsonl", ".csv")
_LONGEST = 64 << 20


def problem(source: FitnessSource) -> str | None:
    """Return what is wrong with the source, beginning with its key; None when it is usable."""
    if source.pattern is None:
        return _keyed_problem(source)
    if source.key is not None:
        return "key: goes without pattern: one of them finds the fitness"
    try:
        groups = re.compile(source.pattern).groups
    except re.error as error:
        return f"pattern: {source.pattern!r} is no regex: {error}"
    if groups != 1:
        return f"pattern: {source.pattern!r}: put the number, and nothing else, in a (group)"
    return _file_problem(source.file) if source.file is not None else None


def read(source: FitnessSource, folder: Path, log: str) -> float:
    """Return the fitness of a training with this folder, which printed ``log``.

    It is the number at ``key`` in a .json file ("val.map" is map in val; a number counts in a
    list) or in the last line of a .jsonl one, the cell of that column in the last row of a .csv
    one, or the group of the pattern's match in the last line of the text that has one. Raises
    NoResultError.
    """
    if source.file is None:
        return _match(source.pattern or "", log, "in what it printed")
    path = folder / source.file
    text = _text(path)
    if source.pattern is not None:
        return _match(source.pattern, text, f"in {path.name}")
    key = source.key or ""
    found = _cell(text, key, path) if path.suffix == ".csv" else _item(text, key, path)
    return _number(found, f"{path.name}: {key}")


def _keyed_problem(source: FitnessSource) -> str | None:
    if source.file is None:
        return "say where it is: a pattern for what is printed, or a file and a key in it"
    if PurePath(source.file).suffix not in _FORMATS:
        return f"file: {source.file!r}: a .json, .jsonl or .csv, or else a pattern is needed"
    if not source.key:
        return f"key: which value of {source.file!r} is the fitness?"
    return _file_problem(source.file)


def _file_problem(file: str) -> str | None:
    """Refuse what is not in the generation's folder: two windows would read each other's."""
    path = PurePath(file)
    if path.is_absolute() or ".." in path.parts or not path.name:
        return f"file: {file!r}: expected a path inside {{output}}, the generation's own folder"
    return None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST:
            raise _nothing(f"{path.name} is larger than 64 MiB")
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise _nothing(f"{path}: {error.strerror}") from None


def _match(pattern: str, text: str, where: str) -> float:
    search = re.compile(pattern).search
    for line in reversed(text.splitlines()):
        found = search(line)
        if found and found[1] is not None:
            return _number(found[1], f"the last match of {pattern!r}")
    raise _nothing(f"no line matches {pattern!r} {where}")


def _item(text: str, key: str, path: Path) -> Any:
    import json

    if path.suffix == ".jsonl":
        text = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise _nothing(f"{path.name} is no JSON: {error}") from None
    return _at(data, key, path)


def _at(data: Any, key: str, path: Path) -> Any:
    """Return the value at a key, whose name may itself have dots in it ("metrics/mAP_0.5")."""
    if isinstance(data, Mapping) and key in data:
        return data[key]
    parts = key.split(".")
    for size in range(len(parts), 0, -1):
        name = ".".join(parts[:size])
        if isinstance(data, list) and size == 1 and re.fullmatch(r"-?\d+", name):
            inside = data[int(name)] if -len(data) <= int(name) < len(data) else None
        elif isinstance(data, Mapping) and name in data:
            inside = data[name]
        else:
            continue
        return _at(inside, ".".join(parts[size:]), path) if size < len(parts) else inside
    raise _nothing(f"{path.name} has no {key!r}{_known(data)}")


def _cell(text: str, key: str, path: Path) -> str:
    import csv

    rows = [row for row in csv.reader(text.splitlines()) if row]
    names = [cell.strip() for cell in rows[0]] if rows else []
    if key not in names:
        raise _nothing(f"{path.name} has no column {key!r}{_known(names)}")
    if len(rows) < 2:
        raise _nothing(f"{path.name} has no row")
    last = dict(zip(names, rows[-1], strict=False))
    return last.get(key, "").strip()


def _number(value: Any, what: str) -> float:
    """Return a number; a NaN is one too: the training diverged, and ranks below all others."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise _nothing(f"{what} is {value!r}, not a number")


def _known(names: Any) -> str:
    found = [str(name) for name in names][:8] if isinstance(names, (Mapping, list)) else []
    return f"; it has {', '.join(found)}" if found else ""


def _nothing(why: str) -> NoResultError:
    return NoResultError(f"no fitness: {why}")
