"""An evolve.csv as a worker needs it: what was trained, the best of it, and only what is new.

history.py reads all of a file, however odd; this keeps up with one that grows to 100,000 rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tmuxevolve.study import history, rows
from tmuxevolve.study.history import Generation
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.tail import Tail

PARENTS = 5
"""How many of the best generations are kept: as many as YOLOv5 draws a parent from."""


class Table:
    """The rows of one evolve.csv, as far as they were read."""

    def __init__(self, path: Path, layout: Layout, names: Sequence[str], *, whole: bool) -> None:
        """Take the hyps' names in the order of their keys; ``whole`` keeps every generation."""
        self._path = path
        self._layout = layout
        self._names = tuple(names)
        self._whole = whole
        self._tail = Tail(path)
        self._columns: tuple[str, ...] = ()
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self.taken: set[int] = set()
        self.parents: list[Generation] = []
        self.generations: list[Generation] = []
        self.problem: str | None = None

    def refresh(self) -> tuple[bool, list[bytes]]:
        """Read what is new; return the keys of the new rows.

        The first value is True when the file was replaced, and all of it is new. Raises OSError.
        """
        again, lines = self._tail.new()
        if again:
            self._clear()
        return again, list(self._take(lines))

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
        return history.append(self._path, metrics, hyp, self._layout)

    def _take(self, lines: Sequence[bytes]) -> Iterator[bytes]:
        cut = len(self._layout.metrics)
        ours = (*self._layout.metrics, *self._names)
        for line in lines:
            key = rows.key_of_line(line, cut) if self._columns == ours else None
            try:
                found = self._either(line, key)
            except ValueError:
                self._note("has a cell that is no number and is left out")
                continue
            if found is not None:
                yield found

    def _either(self, line: bytes, key: bytes | None) -> bytes | None:
        if key is not None:
            # Another header, as wide as a row, has no number in it.
            with suppress(ValueError):
                return self._plain(line, key)
        return self._odd(line)

    def _plain(self, line: bytes, key: bytes) -> bytes:
        """Take a row with our own columns and format: only what ranks it is read."""
        cells = [line[i : i + rows.WIDTH] for i in self._starts()]
        metrics = [float(cell) if weight else 0.0 for cell, weight in self._weighed(cells)]
        rank = self._layout.rank(self._layout.fitness(metrics))
        if self._whole or self._is_among_the_best(rank):
            self._keep(self._generation([float(cell) for cell in line.split(b",")]))
        self._count(key)
        return key

    def _starts(self) -> range:
        return range(0, len(self._layout.metrics) * (rows.WIDTH + 1), rows.WIDTH + 1)

    def _weighed(self, cells: Sequence[bytes]) -> Iterator[tuple[bytes, float]]:
        return zip(cells, self._layout.weights, strict=True)

    def _odd(self, line: bytes) -> bytes | None:
        """Take a header, or a row of which only the names tell what is where."""
        written = line.decode(errors="replace").split(",")
        cells = tuple(cell.strip() for cell in written)
        cut = len(self._layout.metrics)
        if cells[:cut] == self._layout.metrics:
            self._columns = cells
            return None
        if not history.is_whole(written, len(self._columns), ended=True):
            if cells != ("",):
                self._note("is not a whole row and is left out")
            return None
        generation = self._generation([float(cell) for cell in cells])
        if any(name not in generation.hyp for name in self._names):
            self._note("has other hyps than this study and is left out")
            return None
        self._keep(generation)
        key = rows.key(generation.hyp, self._names)
        self._count(key)
        return key

    def _generation(self, values: Sequence[float]) -> Generation:
        cut = len(self._layout.metrics)
        hyp = dict(zip(self._columns[cut:], values[cut:], strict=True))
        return Generation(self.count, tuple(values[:cut]), hyp, self._layout)

    def _keep(self, generation: Generation) -> None:
        if self._whole:
            self.generations.append(generation)
        if self._is_among_the_best(generation.rank):
            best = sorted([*self.parents, generation], key=lambda g: g.rank, reverse=True)
            self.parents = best[:PARENTS]

    def _is_among_the_best(self, rank: float) -> bool:
        if not abs(rank) < float("inf"):  # also what is not a number
            return False
        return len(self.parents) < PARENTS or rank > self.parents[-1].rank

    def _count(self, key: bytes) -> None:
        self.count += 1
        self.taken.add(hash(key))

    def _note(self, what: str) -> None:
        self.problem = self.problem or f"{self._path.name}: a line {what}"
