"""Ask and tell by a database, in place of the results directory's lock.

The database says who trains what and what is finished. evolve.csv, the journal and hyp_evolve.yaml
are written as ever, for all that reads them; what a killed worker has not written there, the next
one that joins or leaves adds (derived.py).
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import msgspec

from tmuxevolve.errors import TmuxEvolveError, UsageError
from tmuxevolve.study import definition, rows, samplers
from tmuxevolve.study.database import Database, Note, Told, Trial, as_told, finished
from tmuxevolve.study.derived import Derived
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Identity, Register
from tmuxevolve.study.history import Generation
from tmuxevolve.study.samplers import Pending, View
from tmuxevolve.study.table import PARENTS
from tmuxevolve.study.values import Progress, Reservation, Result, Search

_ROLL_CALL = 1.0
_DRAWS = 1000


class RdbStudy:
    """One worker's view of a study whose truth is in a database."""

    def __init__(self, url: str, results: Path, search: Search, identity: Identity) -> None:
        """Join the study. Raises OSError, and MissingError when a library is not installed."""
        self.files = Files(results)
        self._search = search
        self._base = {name: rows.canonical(value) for name, value in search.base.items()}
        self._sampler = samplers.make(search.sampler)
        self._worker = identity.worker
        self._definition = definition.Watch(self.files)
        self._register = Register(self.files.workers)
        self._register.enter(identity)
        self._mine: dict[int, Trial] = {}
        self._next_roll_call = 0.0
        self._best: Generation | None = None
        self._database = Database(url, name_of(self._found()))
        self._derived = Derived(self.files, search.layout, list(self._base))
        self._derived.complete(self._database.trials())

    def ask(self) -> Reservation | None:
        """Reserve a generation, as the directory's study does. Raises OSError."""
        trials = self._database.trials()
        taken = self._take_over(trials)
        if taken:
            return taken
        if _alive(trials) >= self._budget():
            return None
        # Its number is the database's to give, and nobody else's.
        trial = self._database.reserve(Note(generation=-1, owner=self._worker))
        trials = self._database.trials()
        rank = _rank(trial, trials)
        if rank >= self._budget():
            # Others were quicker: of those that stay, no more than the budget have a lower rank.
            self._database.fail(trial)
            return None
        return self._begin(trial, self._drawn(trial, rank, trials))

    def tell(self, reservation: Reservation, result: Result) -> Progress:
        """Finish a generation; of two workers that trained it, the first one counts.

        Raises OSError, after which it may be called again.
        """
        trial = self._mine[reservation.number]
        fitness = self._search.layout.fitness(result.metrics)
        told = Told(as_told(result.metrics), result.started, result.ended)
        note = msgspec.structs.replace(trial.note, told=told)
        # In two steps: whoever finds it between them, after a kill, does the second one.
        counted = self._database.write(trial, note) and self._complete(trial, fitness)
        counted = counted or self._tell_late(note, fitness)
        trials = self._database.trials()
        done = self._generations(trials)
        before, best = self._best, _best(done)
        self._best = best
        if counted:
            self._derived.told(note)
        improved = bool(before and best and best.fitness != before.fitness)
        self._derived.best(final=improved or before is None)
        return Progress(len(done), self._budget(), fitness, best, None, improved)

    def fail(self, reservation: Reservation, reason: str, *, skip: bool) -> None:
        """Record a failed training; ``skip`` gives its hyps up. Raises OSError."""
        trial = self._mine[reservation.number]
        if skip:
            if not self._database.fail(trial):
                return
        else:
            note = msgspec.structs.replace(trial.note, failures=reservation.failures + 1)
            if not self._database.write(trial, note):
                return
            self._mine[reservation.number] = msgspec.structs.replace(trial, note=note)
        self._derived.failed(reservation.number, reason, self._worker, skip=skip)

    def give_back(self, reservation: Reservation) -> None:
        """Leave the generation to whoever asks next. Raises OSError."""
        trial = self._mine[reservation.number]
        if self._database.write(trial, msgspec.structs.replace(trial.note, owner="")):
            self._derived.given_back(reservation.number, self._worker)

    def left(self) -> int:
        """Return how many generations of the budget nobody has begun yet. Raises OSError."""
        return max(0, self._budget() - _alive(self._database.trials()))

    def beat(self) -> None:
        """Say that this worker is alive. Raises OSError."""
        self._register.beat(self._worker)

    def leave(self) -> None:
        """End this worker's part. Raises OSError."""
        try:
            self._derived.complete(self._database.trials())
            self._derived.best(final=True)
        finally:
            self._database.close()
            self._register.leave(self._worker)

    def _found(self) -> definition.Definition:
        found = self._definition.now()
        if found is None:
            raise UsageError(f"{self.files.definition} is gone: run tmuxevolve start again")
        return found

    def _budget(self) -> int:
        return self._found().generations

    def _begin(self, trial: Trial, note: Note) -> Reservation:
        assert note.hyp is not None  # noqa: S101  (it was drawn just now, or before)
        self._mine[note.generation] = msgspec.structs.replace(trial, note=note)
        self._derived.asked(note)
        return Reservation(note.generation, note.hyp, note.failures)

    def _take_over(self, trials: list[Trial]) -> Reservation | None:
        """Take a generation that was given back, or whose worker is dead."""
        running = [trial for trial in trials if trial.is_running]
        free = [trial for trial in running if not trial.note.owner]
        full = _alive(trials) >= self._budget()
        if not free and (full or time.monotonic() >= self._next_roll_call):
            self._next_roll_call = time.monotonic() + _ROLL_CALL
            now = self._register.now(self._worker)
            free = [t for t in running if not self._lives(t.note.owner, now)]
        for trial in free:
            if trial.note.told is not None:
                self._complete(trial, self._search.layout.fitness(trial.note.told.values))
            elif trial.note.hyp is None:
                self._database.fail(trial)
            elif taken := self._replace(trial, trial.note):
                return taken
        return None

    def _replace(self, trial: Trial, held: Note) -> Reservation | None:
        """Train in another's place; None when somebody else does, or has come between."""
        note = msgspec.structs.replace(held, owner=self._worker)
        # First the new one: nobody is to see a place where there is none.
        new = self._database.reserve(note)
        if self._database.fail(trial) and _rank(new, self._database.trials()) < self._budget():
            return self._begin(new, note)
        self._database.fail(new)
        return None

    def _lives(self, owner: str, now: float) -> bool:
        if owner == self._worker:
            # What this worker itself still holds is left from a call that failed half way.
            return False
        return self._register.alive(owner, now)

    def _complete(self, trial: Trial, fitness: float) -> bool:
        return self._database.complete(trial, self._search.layout.rank(fitness))

    def _tell_late(self, note: Note, fitness: float) -> bool:
        """Finish a generation that another worker has taken over, and is still training."""
        for other in self._database.trials():
            if other.is_running and other.note.generation == note.generation:
                told = msgspec.structs.replace(other.note, told=note.told)
                return self._database.write(other, told) and self._complete(other, fitness)
        return False

    def _drawn(self, trial: Trial, rank: int, trials: list[Trial]) -> Note:
        """Draw hyps that nobody has trained or is training, and write them down."""
        number = trial.number
        rng = Random(f"{self._search.seed}/{number}")
        for _ in range(_DRAWS):
            hyp, notes = self._draw(rng, rank, trials)
            if self._is_taken(hyp, number, trials):
                rank = max(rank, 1)
                continue
            note = Note(generation=number, owner=self._worker, hyp=hyp, notes=notes)
            self._database.write(trial, note)
            # Of two who have drawn the same at once, the one with the larger number draws again.
            trials = self._database.trials()
            if not self._is_taken(hyp, number, trials):
                return note
        raise TmuxEvolveError(
            f"{_DRAWS} draws gave no hyps that were not trained before: widen evolve.space"
        )

    def _draw(
        self, rng: Random, rank: int, trials: list[Trial]
    ) -> tuple[dict[str, float], dict[str, object]]:
        if rank == 0:
            return self._base, {}
        done = self._generations(trials)
        whole = self._sampler.whole_history
        view = View(
            base=self._base,
            space=self._search.space,
            layout=self._search.layout,
            parents=sorted(_ranked(done), key=lambda g: g.rank, reverse=True)[:PARENTS],
            finished=done if whole else (),
            pending=self._pending(trials) if whole else (),
            notes={self._key(t.note.hyp): t.note.notes for t in trials if t.note.hyp}
            if whole
            else {},
        )
        drawn = self._sampler.draw(view, rng)
        hyp = {name: rows.canonical(drawn.hyp[name]) for name in self._base}
        return hyp, dict(drawn.notes)

    def _is_taken(self, hyp: dict[str, float], number: int, trials: list[Trial]) -> bool:
        key = self._key(hyp)
        others = (t for t in trials if t.note.hyp and (t.is_complete or t.number < number))
        return any(self._key(t.note.hyp or {}) == key for t in others)

    def _key(self, hyp: dict[str, float]) -> bytes:
        return rows.key(hyp, tuple(self._base))

    def _pending(self, trials: list[Trial]) -> list[Pending]:
        running = (trial.note for trial in trials if trial.is_running)
        return [Pending(note.generation, note.hyp) for note in running if note.hyp]

    def _generations(self, trials: list[Trial]) -> list[Generation]:
        """Return the finished ones in the order in which they were told."""
        return [
            Generation(number, told.values, hyp, self._search.layout)
            for number, (hyp, told, _) in enumerate(finished(trials))
        ]


def name_of(found: definition.Definition) -> str:
    """Return a study's name in the database: other directories' studies have others."""
    return f"tmuxevolve-{found.id}"


def _counts(trial: Trial) -> bool:
    return trial.is_running or trial.is_complete


def _rank(trial: Trial, trials: list[Trial]) -> int:
    """Return how many trials that count have a lower number: it never grows."""
    return sum(_counts(other) for other in trials if other.number < trial.number)


def _alive(trials: list[Trial]) -> int:
    return sum(map(_counts, trials))


def _ranked(done: list[Generation]) -> list[Generation]:
    return [generation for generation in done if generation.counts]


def _best(done: list[Generation]) -> Generation | None:
    return max(_ranked(done), key=lambda generation: generation.rank, default=None)
