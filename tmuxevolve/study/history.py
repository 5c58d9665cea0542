"""YOLOv5's evolve.csv and hyp_evolve.yaml: the shared record of an evolution.

Any number of trainers append to evolve.csv while others read it, and any of them may be killed in
the middle of a line. So the reader takes what is whole and names what is not; it never fails.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tmuxevolve.errors import UsageError

METRICS = (
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "val/box_loss",
    "val/obj_loss",
    "val/cls_loss",
)
"""The first columns of evolve.csv; those after them are hyps."""

_WIDTH = 20
_LONGEST_HEADER = 1 << 16
_MAP50_WEIGHT = 0.1
_MAP_WEIGHT = 0.9


@dataclass(frozen=True, slots=True)
class Generation:
    """One training: its number from 0, its seven metrics in METRICS' order, its hyps."""

    number: int
    metrics: tuple[float, ...]
    hyp: Mapping[str, float]

    @property
    def fitness(self) -> float:
        """Return what YOLOv5 ranks by: 0.1 x mAP_0.5 + 0.9 x mAP_0.5:0.95."""
        return _MAP50_WEIGHT * self.metrics[2] + _MAP_WEIGHT * self.metrics[3]

    @property
    def counts(self) -> bool:
        """Say whether this training can be ranked: a diverged one has no finite fitness."""
        return math.isfinite(self.fitness)


@dataclass(frozen=True)
class History:
    """The generations in file order; ``problem`` names what was left out, in one line."""

    generations: tuple[Generation, ...] = ()
    problem: str | None = None

    @cached_property
    def best(self) -> Generation | None:
        """Return the fittest generation, the first of equals; None when none can be ranked."""
        ranked = (generation for generation in self.generations if generation.counts)
        return max(ranked, key=lambda generation: generation.fitness, default=None)


def read(path: Path) -> History:
    """Read an evolve.csv, however damaged; a missing one has no generations."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return History()
    except OSError as error:
        return History(problem=f"{path.name}: {error.strerror}")
    *lines, unfinished = text.split("\n")
    reader = _Reader()
    for number, line in enumerate(lines, start=1):
        reader.take(number, line)
    reader.take(len(lines) + 1, unfinished, ended=False)
    return History(tuple(reader.generations), _in_one_line(path, reader.problems))


def append(path: Path, metrics: Sequence[float], hyp: Mapping[str, float]) -> None:
    """Add one generation, and before the first one the header, exactly as YOLOv5 writes them.

    The file is locked meanwhile, so that of several first writers only one adds the header; it is
    written at once, so that a reader sees whole lines. Raises UsageError when the file has other
    columns: the row would spoil it for YOLOv5.
    """
    with _locked(path) as descriptor:
        _append(path, descriptor, metrics, hyp)


def record(path: Path, best: Path, metrics: Sequence[float], hyp: Mapping[str, float]) -> History:
    """Append one generation, bring the yaml of the best one up to date, and return them all.

    One lock covers all of it, so that an older best never replaces a newer one.
    """
    with _locked(path) as descriptor:
        _append(path, descriptor, metrics, hyp)
        history = read(path)
        write_best_yaml(best, history)
    return history


def write_best_yaml(path: Path, history: History) -> None:
    """Replace hyp_evolve.yaml at once; nothing happens while there is no best generation."""
    import yaml

    best = history.best
    if best is None:
        return
    comments = (
        "YOLOv5 Hyperparameter Evolution Results",
        f"Best generation: {best.number}",
        f"Last generation: {history.generations[-1].number}",
        ", ".join(f"{name:>{_WIDTH}}" for name in METRICS),
        ", ".join(f"{value:>{_WIDTH}.5g}" for value in best.metrics),
    )
    head = "".join(f"# {line}\n" for line in comments)
    hyps = {name: float(value) for name, value in best.hyp.items()}
    _replace(path, f"{head}\n{yaml.safe_dump(hyps, sort_keys=False)}")


class _Reader:
    """Takes line after line of an evolve.csv."""

    def __init__(self) -> None:
        self.generations: list[Generation] = []
        self.problems: list[str] = []
        self._columns: tuple[str, ...] = ()

    def take(self, number: int, line: str, *, ended: bool = True) -> None:
        cells = line.split(",")
        names = tuple(cell.strip() for cell in cells)
        if names == ("",):
            return
        if names[: len(METRICS)] == METRICS:
            self._take_header(number, names)
        elif _is_whole(cells, len(self._columns), ended=ended):
            self._take_row(number, cells)
        else:
            self.problems.append(f"line {number} is not a whole row and is left out")

    def _take_header(self, number: int, names: tuple[str, ...]) -> None:
        if self._columns:
            self.problems.append(f"line {number} is a header once more")
        self._columns = names

    def _take_row(self, number: int, cells: Sequence[str]) -> None:
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            self.problems.append(f"line {number} has a cell that is no number and is left out")
            return
        cut = len(METRICS)
        hyp = dict(zip(self._columns[cut:], values[cut:], strict=True))
        self.generations.append(Generation(len(self.generations), tuple(values[:cut]), hyp))


def _is_whole(cells: Sequence[str], columns: int, *, ended: bool) -> bool:
    """Say whether a row has all its cells, and its last one all its digits.

    Padding stands in front, so a padded row that was cut ends in a cell that is too narrow; of
    another row only the line's end tells.
    """
    padded = len(cells[0]) >= _WIDTH
    return len(cells) == columns and (len(cells[-1]) >= _WIDTH if padded else ended)


def _in_one_line(path: Path, problems: Sequence[str]) -> str | None:
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path.name}: {problems[0]}{more}"


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open the file for appending and hold its lock, which the kernel ends with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _append(
    path: Path, descriptor: int, metrics: Sequence[float], hyp: Mapping[str, float]
) -> None:
    values = {**dict(zip(METRICS, metrics, strict=True)), **hyp}
    names, before = _prepare(path, descriptor, tuple(values))
    data = before + _line(f"{values[name]:{_WIDTH}.5g}" for name in names)
    if os.write(descriptor, data) < len(data):
        raise OSError(f"{path}: the row was not written whole: is the disk full?")


def _prepare(path: Path, descriptor: int, names: Sequence[str]) -> tuple[Sequence[str], bytes]:
    """Return the columns in the file's order, and what it lacks before the next row.

    That is the header or the rest of it, or the end of a line whose writer was killed.
    """
    header = _line(f"{name:>{_WIDTH}}" for name in names)
    first, end, _ = os.pread(descriptor, _LONGEST_HEADER, 0).partition(b"\n")
    if not end and header.startswith(first):
        return names, header[len(first) :]
    written = [cell.strip() for cell in first.decode(errors="replace").split(",")]
    if sorted(written) != sorted(names):
        raise UsageError(f"{path} has other columns: use another --name, or move it away")
    last = os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1)
    return written, b"" if last == b"\n" else b"\n"


def _line(cells: Iterable[str]) -> bytes:
    return (",".join(cells) + "\n").encode()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
