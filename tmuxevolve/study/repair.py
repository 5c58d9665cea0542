"""Mend an evolve.csv that would end YOLOv5's search: headers in the middle or missing, torn rows.

YOLOv5 itself reads the file with NumPy, which takes nothing but one header and whole rows after it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from tmuxevolve.study import files, history, rows


def mend(path: Path, columns: Sequence[str]) -> str | None:
    """Leave one header and the whole rows; return what was done, None when there was nothing to do.

    ``columns`` are the names that the header should have. The original is kept beside it. A file of
    other columns is left as it is. The caller makes sure that nobody appends. Raises OSError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    good = _good(data, columns)
    if good is None or (good == data and good):
        return None
    kept = _keep(path)
    if good:
        files.replace(path, good.decode())
        count = good.count(b"\n") - 1
        return f"{path.name} was damaged: {count} rows kept, the original is {kept.name}"
    path.unlink()
    return f"{path.name} had no generation in it, which ends YOLOv5: it is {kept.name} now"


def _good(data: bytes, columns: Sequence[str]) -> bytes | None:
    """Return what the file should be; b"" when it has no row, None when it is something else."""
    wanted = [*columns]
    head = rows.header(columns)
    header: bytes | None = None
    kept: list[bytes] = []
    *lines, unfinished = data.split(b"\n")
    for line in lines if head.startswith(unfinished) else [*lines, unfinished]:
        text = line.decode(errors="replace")
        cells = text.split(",")
        names = [cell.strip() for cell in cells]
        if sorted(names) == sorted(wanted):
            if names != wanted and kept:
                return None
            wanted, header = names, header or line
        elif history.is_whole(cells, len(wanted), ended=True) and _are_numbers(cells):
            kept.append(line)
        elif text.strip() and not _is_number(cells[0]):
            return None
    if not kept:
        return b""
    return b"\n".join([header or head.rstrip(b"\n"), *kept, b""])


def _keep(path: Path) -> Path:
    """Give the original a second name that is not taken."""
    for number in itertools.count():
        kept = path.with_name(f"{path.name}.damaged{number or ''}")
        try:
            os.link(path, kept)
        except FileExistsError:
            continue
        return kept
    raise AssertionError


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(map(_is_number, cells))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
