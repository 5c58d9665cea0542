"""YOLOv5's evolve.csv and hyp_evolve.yaml: the shared record of an evolution.

Any number of trainers append to evolve.csv while others read it, and any of them may be killed in
the middle of a line. So the reader takes what is whole and names what is not; it never fails.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import msgspec

from tmuxevolve.errors import UsageError
from tmuxevolve.study import files, rows
from tmuxevolve.study.rows import WIDTH, YOLOV5, Layout

_LONGEST_HEADER = 1 << 16


class Generation(msgspec.Struct, frozen=True):
    """One training: its number from 0, its metrics in the layout's order, its hyps."""

    number: int
    metrics: tuple[float, ...]
    hyp: Mapping[str, float]
    layout: Layout = YOLOV5

    @property
    def fitness(self) -> float:
        """Return what generations are ranked by."""
        return self.layout.fitness(self.metrics)

    @property
    def rank(self) -> float:
        """Return the fitness so that more is better, also where less fitness is."""
        return self.layout.rank(self.fitness)

    @property
    def counts(self) -> bool:
        """Say whether this training can be ranked: a diverged one has no finite fitness."""
        return rows.is_finite(self.metrics, self.layout)


class History(msgspec.Struct, frozen=True, dict=True):
    """The generations in file order; ``problem`` names what was left out, in one line."""

    generations: tuple[Generation, ...] = ()
    problem: str | None = None

    @cached_property
    def best(self) -> Generation | None:
        """Return the fittest generation, the first of equals; None when none can be ranked."""
        ranked = (generation for generation in self.generations if generation.counts)
        return max(ranked, key=lambda generation: generation.rank, default=None)


def read(path: Path, layout: Layout = YOLOV5) -> History:
    """Read an evolve.csv, however damaged; a missing one has no generations."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return History()
    except OSError as error:
        return History(problem=f"{path.name}: {error.strerror}")
    *lines, unfinished = text.split("\n")
    reader = _Reader(layout)
    for number, line in enumerate(lines, start=1):
        reader.take(number, line)
    reader.take(len(lines) + 1, unfinished, ended=False)
    return History(tuple(reader.generations), _in_one_line(path, reader.problems))


def columns(path: Path) -> tuple[str, ...]:
    """Return the names in an evolve.csv's header; none when there is no whole header."""
    try:
        with path.open("rb") as file:
            first, end, _ = file.read(_LONGEST_HEADER).partition(b"\n")
    except FileNotFoundError:
        return ()
    names = first.decode(errors="replace").split(",")
    return tuple(name.strip() for name in names) if end else ()


def append(
    path: Path, metrics: Sequence[float], hyp: Mapping[str, float], layout: Layout = YOLOV5
) -> str | None:
    """Add one generation, and before the first one the header, exactly as YOLOv5 writes them.

    The file is locked meanwhile, so that of several first writers only one adds the header; it is
    written at once or not at all, so that a reader sees whole lines. What a killed writer left of a
    line is set aside in a file beside it, and the message returned says so: YOLOv5 cannot read a
    file with such a line. Raises UsageError when the file has other columns: the row would spoil it
    for YOLOv5; and OSError.
    """
    with _locked(path) as descriptor:
        return _append(path, descriptor, metrics, hyp, layout)


def record(path: Path, best: Path, metrics: Sequence[float], hyp: Mapping[str, float]) -> History:
    """Append one generation, bring the yaml of the best one up to date, and return them all.

    One lock covers all of it, so that an older best never replaces a newer one.
    """
    with _locked(path) as descriptor:
        _append(path, descriptor, metrics, hyp, YOLOV5)
        history = read(path)
        write_best_yaml(best, history)
    return history


def write_best_yaml(path: Path, history: History) -> None:
    """Replace hyp_evolve.yaml at once; nothing happens while there is no best generation."""
    if history.best:
        files.replace(path, best_yaml(history.best, len(history.generations)))


def best_yaml(best: Generation, count: int) -> str:
    """Return YOLOv5's hyp_evolve.yaml for the best of ``count`` generations."""
    comments = (
        "YOLOv5 Hyperparameter Evolution Results",
        f"Best generation: {best.number}",
        f"Last generation: {count - 1}",
        ", ".join(f"{name:>{WIDTH}}" for name in best.layout.metrics),
        ", ".join(f"{value:>{WIDTH}.5g}" for value in best.metrics),
    )
    head = "".join(f"# {line}\n" for line in comments)
    return f"{head}\n{files.yaml_lines(best.hyp)}"


class _Reader:
    """Takes line after line of an evolve.csv."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.generations: list[Generation] = []
        self.problems: list[str] = []
        self._columns: tuple[str, ...] = ()

    def take(self, number: int, line: str, *, ended: bool = True) -> None:
        cells = line.split(",")
        names = tuple(cell.strip() for cell in cells)
        if names == ("",):
            return
        if names[: len(self._layout.metrics)] == self._layout.metrics:
            self._take_header(number, names)
        elif is_whole(cells, len(self._columns), ended=ended):
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
        cut = len(self._layout.metrics)
        hyp = dict(zip(self._columns[cut:], values[cut:], strict=True))
        number, metrics = len(self.generations), tuple(values[:cut])
        self.generations.append(Generation(number, metrics, hyp, self._layout))


def is_whole(cells: Sequence[str], columns: int, *, ended: bool) -> bool:
    """Say whether a row has all its cells, and its last one all its digits.

    Padding stands in front, so a padded row that was cut ends in a cell that is too narrow; of
    another row only the line's end tells.
    """
    padded = len(cells[0]) >= WIDTH and cells[0].startswith(" ")
    return len(cells) == columns and (len(cells[-1]) >= WIDTH if padded else ended)


def _in_one_line(path: Path, problems: Sequence[str]) -> str | None:
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path.name}: {problems[0]}{more}"


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open the file for appending and hold its lock, which the kernel ends with the process."""
    descriptor = os.open(path, files.APPENDING, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _append(
    path: Path,
    descriptor: int,
    metrics: Sequence[float],
    hyp: Mapping[str, float],
    layout: Layout,
) -> str | None:
    values = {**dict(zip(layout.metrics, metrics, strict=True)), **hyp}
    names, before = _columns(path, descriptor, tuple(values))
    message = None
    if not before and names and _is_torn(descriptor):
        before, message = _mend(path, descriptor, len(names))
    files.write(descriptor, before + rows.row(values[name] for name in names), path)
    return message


def _columns(path: Path, descriptor: int, names: Sequence[str]) -> tuple[Sequence[str], bytes]:
    """Return the columns in the file's order, and what its header lacks."""
    header = rows.header(names)
    if os.pread(descriptor, len(header), 0) == header:
        return names, b""
    first, end, _ = os.pread(descriptor, _LONGEST_HEADER, 0).partition(b"\n")
    if not end and header.startswith(first):
        return names, header[len(first) :]
    written = [cell.strip() for cell in first.decode(errors="replace").split(",")]
    if sorted(written) != sorted(names):
        raise UsageError(f"{path} has other columns: use another results directory, or move it")
    return written, b""


def _is_torn(descriptor: int) -> bool:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1) != b"\n"


def _mend(path: Path, descriptor: int, columns: int) -> tuple[bytes, str | None]:
    """End a last row that lacks only its end; set another one aside. Return what to write first."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _LONGEST_HEADER)
    tail = os.pread(descriptor, size - start, start).rpartition(b"\n")[2]
    if is_whole(tail.decode(errors="replace").split(","), columns, ended=False):
        return b"\n", None
    aside = path.with_name(f"{path.name}.torn")
    files.append(aside, tail + b"\n")
    os.ftruncate(descriptor, size - len(tail))
    return b"", f"{path.name} ended in the middle of a line, which is in {aside.name} now"
