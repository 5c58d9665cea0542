"""An evolve.csv as a worker needs it: what was trained, the best of it, and only what is new.

history.py reads all of a file, however odd; this keeps up with one that grows to 100,000 rows.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve.study import history, rows
from tmuxevolve.study.history import Generation
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.tail import Mark, Tail

PARENTS = 5
"""How many of the best generations are kept: as many as YOLOv5 draws a parent from."""


class Tally(msgspec.Struct, frozen=True):
    """What an evolve.csv comes to; ``problem`` names what was left out, in one line."""

    finished: int = 0
    best: Generation | None = None
    problem: str | None = None


def tally(path: Path, layout: Layout) -> Tally:
    """Count an evolve.csv's generations, however damaged it is; a missing one has none."""
    try:
        names = history.columns(path)[len(layout.metrics) :]
        table = Table(path, layout, names, whole=False, keys=False)
        table.refresh()
    except OSError as error:
        return Tally(problem=f"{path.name}: {error.strerror}")
    return Tally(table.count, table.best, table.problem)


class Table:
    """The rows of one evolve.csv, as far as they were read."""

    def __init__(
        self,
        path: Path,
        layout: Layout,
        names: Sequence[str],
        *,
        whole: bool = False,
        keys: bool = True,
        curve: bool = False,
    ) -> None:
        """Take the hyps' names in the order of their keys; ``whole`` keeps every generation.

        Without ``keys`` it does not remember which hyps were trained; ``curve`` keeps the fitness
        of every generation.
        """
        self._path = path
        self.layout = layout
        self._names = tuple(names)
        self._whole = whole
        self._keys = keys
        self._curve = curve
        self.tail = Tail(path)
        self._weighed = rows.weighed_cells(layout)
        cut = len(layout.metrics)
        self._shape = rows.Shape.of(cut + len(self._names), cut)
        self._ours = False
        self.columns: tuple[str, ...] = ()
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self.taken: set[int] = set()
        self.parents: list[Generation] = []
        self.generations: list[Generation] = []
        self.curve = array("d")
        self.problem: str | None = None
        # The rank that a generation must exceed to become a parent.
        self._least = -math.inf

    def refresh(self) -> bool:
        """Read what is new; say whether the file was replaced, and is new as a whole.

        Raises OSError.
        """
        again, blocks = self.tail.new()
        if again:
            self._clear()
        for block in blocks:
            self._take(block[:-1].split(b"\n"))
        return again

    def resume(
        self, mark: Mark, columns: tuple[str, ...], count: int, best: Generation | None
    ) -> None:
        """Go on from a mark that fits, in a table that keeps neither keys nor generations."""
        self.tail.resume(mark)
        self._begin(columns)
        self.count = count
        self.parents = [best] if best else []

    def holds(self, key: bytes) -> bool:
        """Say whether these hyps were trained, as far as the file was read."""
        return hash(key) in self.taken

    @property
    def best(self) -> Generation | None:
        """Return the best generation, the first of equals."""
        return self.parents[0] if self.parents else None

    def append(self, metrics: Sequence[float], hyp: Mapping[str, float]) -> str | None:
        """Add a row; the caller holds the study's lock.

        Returns a message when a torn line had to be set aside. Raises OSError, and UsageError when
        the file has other columns.
        """
        return history.append(self._path, metrics, hyp, self.layout)

    def _begin(self, columns: tuple[str, ...]) -> None:
        """Take a header."""
        self.columns = columns
        self._ours = columns == (*self.layout.metrics, *self._names)

    def _take(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            if not (self._ours and self._shape.fits(line) and self._plain(line)):
                self._odd(line)

    def _plain(self, line: bytes) -> bool:
        """Take a row with our own columns and format: only what ranks it is read.

        False for what only looks like one: another header, as wide as a row, has no number in it.
        """
        fitness = 0.0
        try:
            for cell, weight in self._weighed:
                fitness += weight * float(line[cell])
            if self._whole or self._is_among_the_best(self.layout.rank(fitness)):
                self._keep(self._generation([float(cell) for cell in line.split(b",")]))
        except ValueError:
            return False
        self._count(fitness)
        if self._keys:
            self.taken.add(hash(line[self._shape.key]))
        return True

    def _odd(self, line: bytes) -> None:
        """Take a header, or a row of which only the names tell what is where."""
        written = line.decode(errors="replace").split(",")
        cells = tuple(cell.strip() for cell in written)
        cut = len(self.layout.metrics)
        if cells[:cut] == self.layout.metrics:
            self._begin(cells)
            return
        if not history.is_whole(written, len(self.columns), ended=True):
            if cells != ("",):
                self._note("is not a whole row and is left out")
            return
        try:
            generation = self._generation([float(cell) for cell in cells])
        except ValueError:
            self._note("has a cell that is no number and is left out")
            return
        if any(name not in generation.hyp for name in self._names):
            self._note("has other hyps than this study and is left out")
            return
        self._keep(generation)
        self._count(generation.fitness)
        self.taken.add(hash(rows.key(generation.hyp, self._names)))

    def _count(self, fitness: float) -> None:
        self.count += 1
        if self._curve:
            self.curve.append(fitness)

    def _generation(self, values: Sequence[float]) -> Generation:
        cut = len(self.layout.metrics)
        hyp = dict(zip(self.columns[cut:], values[cut:], strict=True))
        return Generation(self.count, tuple(values[:cut]), hyp, self.layout)

    def _keep(self, generation: Generation) -> None:
        if self._whole:
            self.generations.append(generation)
        if self._is_among_the_best(generation.rank):
            best = sorted([*self.parents, generation], key=lambda g: g.rank, reverse=True)
            self.parents = best[:PARENTS]
            if len(best) >= PARENTS:
                self._least = self.parents[-1].rank

    def _is_among_the_best(self, rank: float) -> bool:
        # False also for what is not a number.
        return self._least < rank < math.inf

    def _note(self, what: str) -> None:
        self.problem = self.problem or f"{self._path.name}: a line {what}"
