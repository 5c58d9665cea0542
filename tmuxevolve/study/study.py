"""Ask and tell: one evolution, shared by every worker through its results directory.

Any number of processes on any number of machines may do this at once. Each holds the study's lock
for a few milliseconds, and may be killed at any instant.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from random import Random, sample

import msgspec

from tmuxevolve.errors import TmuxEvolveError, UsageError
from tmuxevolve.study import definition, files, history, rows, samplers, summary
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Identity, Register
from tmuxevolve.study.history import Generation
from tmuxevolve.study.journal import Asked, Failed, GivenBack, Told, text_of
from tmuxevolve.study.lock import locked, prepared
from tmuxevolve.study.samplers import Drawn, Pending, View
from tmuxevolve.study.state import Open, State
from tmuxevolve.study.values import Progress, Reservation, Result, Search

# How often to ask whether the workers that hold reservations are alive, in seconds.
_ROLL_CALL = 1.0
# How many of them are asked after at a time; of a thousand the others are other askers' to find.
_CALLED = 100
# How often hyp_evolve.yaml is written for its count of generations alone, in seconds.
_BEST_YAML = 1.0
_DRAWS = 1000


class Study:
    """One worker's view of the study."""

    def __init__(self, results: Path, search: Search, identity: Identity) -> None:
        """Join the study. Raises OSError, and MissingError when the sampler is not installed."""
        self.files = Files(results)
        self._search = search
        self._base = {name: rows.canonical(value) for name, value in search.base.items()}
        self._sampler = samplers.make(search.sampler)
        whole = self._sampler.whole_history
        self._state = State(self.files, search.layout, list(search.base), whole=whole)
        self._worker = identity.worker
        self._definition = definition.Watch(self.files)
        self._id: str | None = None
        self._register = Register(self.files.workers)
        self._register.enter(identity)
        self._joined = False
        self._next_roll_call = 0.0
        self._best_yaml: tuple[Generation | None, int] = (None, 0)
        self._next_best_yaml = 0.0

    def ask(self) -> Reservation | None:
        """Reserve a generation: one that was given back or whose worker died, or else a new one.

        None when all that is left of the budget is being trained by others. Raises OSError when
        nothing can be written, TmuxEvolveError when no new hyps can be drawn.
        """
        # A long history is read and many workers are asked after before others have to wait.
        self._state.refresh()
        if not self._joined:
            self._register.sweep(self._register.now(self._worker))
        missing = self._roll_call()
        with self._turn():
            if not self._joined:
                summary.write(self.files, self._state)
                self._joined = True
            reservation = self._reserved(missing)
        if reservation:
            # After a power cut, what was begun is known, and is trained again.
            files.sync(self.files.journal)
        return reservation

    def _reserved(self, missing: Iterable[str]) -> Reservation | None:
        state = self._state
        self._refresh()
        left = self._budget() - state.table.count
        orphan = self._orphan(missing)
        if orphan:
            hyp = orphan.hyp
            return self._reserve(orphan.number, Drawn({name: hyp[name] for name in self._base}))
        if len(state.open) >= left:
            return None
        number = self._free_number()
        return self._reserve(number, self._draw(number))

    def tell(self, reservation: Reservation, result: Result) -> Progress:
        """Add a finished generation to evolve.csv; it is on the disk when this returns.

        Of two workers that trained the same generation the first one counts. Raises OSError, after
        which it may be called again.
        """
        fitness = self._search.layout.fitness(result.metrics)
        state, message = self._state, None
        with self._turn():
            budget = self._budget()
            self._refresh()
            before = state.table.best
            if not state.table.holds(state.key(reservation.hyp)):
                message = state.table.append(result.metrics, reservation.hyp)
            if reservation.number in state.open:
                state.append(self._told(reservation, result, fitness))
            state.refresh()
            self._write_best()
            message = message or state.table.problem
            best = state.table.best
            improved = bool(before and best and best.fitness != before.fitness)
            progress = Progress(state.table.count, budget, fitness, best, message, improved)
        files.sync(self.files.table)
        return progress

    def fail(self, reservation: Reservation, reason: str, *, skip: bool) -> None:
        """Record a failed training; ``skip`` gives its hyps up. Raises OSError."""
        with locked(self.files.lock):
            if self._is_mine(reservation):
                event = Failed(
                    number=reservation.number,
                    reason=reason,
                    worker=self._worker,
                    at=time.time(),
                    skipped=skip,
                )
                self._state.append(event)

    def give_back(self, reservation: Reservation) -> None:
        """Leave the generation to whoever asks next. Raises OSError."""
        with locked(self.files.lock):
            if self._is_mine(reservation):
                self._state.append(GivenBack(number=reservation.number, worker=self._worker))

    def left(self) -> int:
        """Return how many generations of the budget nobody has begun yet. Raises OSError."""
        self._state.refresh()
        return max(0, self._budget() - self._state.table.count - len(self._state.open))

    def beat(self) -> None:
        """Say that this worker is alive. Raises OSError."""
        self._register.beat(self._worker)

    def leave(self) -> None:
        """End this worker's part. Raises OSError."""
        try:
            if self._best_yaml[0] and self._state.table.count != self._best_yaml[1]:
                with locked(self.files.lock):
                    self._state.refresh()
                    self._write_best(final=True)
        finally:
            self._register.leave(self._worker)

    def _refresh(self) -> None:
        """Read what is new, the first row of all too, which another host may just have written."""
        if not self._state.table.count:
            files.look_again(self.files.results)
            files.look_again(self.files.journal.parent)
        self._state.refresh()

    def _turn(self) -> AbstractContextManager[None]:
        return prepared(self.files.queue, self.files.lock, self._state.refresh)

    def _budget(self) -> int:
        found = self._definition.now()
        if found is None:
            raise UsageError(f"{self.files.definition} is gone: run tmuxevolve start again")
        self._id = found.id if self._id is None else self._id
        if found.id != self._id:
            raise UsageError(f"{self.files.results}: another study has taken this one's place")
        return found.generations

    def _roll_call(self) -> set[str]:
        """Return workers that hold reservations and are dead; nobody has to wait for this."""
        full = len(self._state.open) >= self._budget() - self._state.table.count
        if not full and time.monotonic() < self._next_roll_call:
            return set()
        self._next_roll_call = time.monotonic() + _ROLL_CALL
        workers = {found.worker for found in self._state.open.values() if found.worker}
        called = workers if full else sample(sorted(workers), min(len(workers), _CALLED))
        return self._register.missing({*called, *workers & {self._worker}}, self._worker)

    def _orphan(self, missing: Iterable[str]) -> Open | None:
        """Return the oldest reservation that nobody works on any more."""
        waiting = self._held_by(None)
        if not waiting and missing:
            # One of the same name may have come meanwhile.
            waiting = self._held_by(*self._register.missing(missing, self._worker))
        oldest_first = sorted(waiting, key=lambda found: found.number)
        return next((found for found in oldest_first if not self._state.is_over(found)), None)

    def _held_by(self, *workers: str | None) -> list[Open]:
        return [found for found in self._state.open.values() if found.worker in workers]

    def _free_number(self) -> int:
        number = self._state.next_number
        while self.files.generation(number).exists():
            number += 1
        return number

    def _draw(self, number: int) -> Drawn:
        """Return hyps that nobody has trained or is training: the base's once, then the sampler's.

        The generator is seeded with the study's seed and the generation's number, so the draw
        follows from what was told before it.
        """
        rng = Random(f"{self._search.seed}/{number}")
        state = self._state
        if not state.table.count and not state.is_taken(self._base):
            return Drawn(self._base)
        view = self._view()
        for _ in range(_DRAWS):
            drawn = self._sampler.draw(view, rng)
            hyp = {name: rows.canonical(drawn.hyp[name]) for name in self._base}
            if not state.is_taken(hyp):
                return Drawn(hyp, drawn.notes)
        raise TmuxEvolveError(
            f"{_DRAWS} draws gave no hyps that were not trained before: widen evolve.space"
        )

    def _view(self) -> View:
        state = self._state
        return View(
            base=self._base,
            space=self._search.space,
            layout=self._search.layout,
            parents=state.table.parents,
            finished=state.table.generations,
            pending=[*self._pending()] if self._sampler.whole_history else (),
            notes=state.notes,
        )

    def _pending(self) -> Iterator[Pending]:
        for found in self._state.open.values():
            with suppress(msgspec.DecodeError):
                yield Pending(found.number, found.hyp)

    def _reserve(self, number: int, drawn: Drawn) -> Reservation:
        event = Asked(
            number=number,
            hyp=msgspec.Raw(text_of(drawn.hyp)),
            worker=self._worker,
            at=time.time(),
            notes=dict(drawn.notes),
        )
        self._state.append(event)
        return Reservation(number, drawn.hyp, self._state.failures[number])

    def _is_mine(self, reservation: Reservation) -> bool:
        """Say whether nobody has taken this over meanwhile, believing this worker dead."""
        self._state.refresh()
        found = self._state.open.get(reservation.number)
        return found is not None and found.worker == self._worker

    def _told(self, reservation: Reservation, result: Result, fitness: float) -> Told:
        return Told(
            number=reservation.number,
            fitness=fitness,
            worker=self._worker,
            started=result.started,
            ended=result.ended,
        )

    def _write_best(self, *, final: bool = False) -> None:
        """Bring hyp_evolve.yaml and the summary up to date: at once with a new best one, or else
        once a second, for their count of generations.
        """
        best, count = self._state.table.best, self._state.table.count
        due = final or time.monotonic() >= self._next_best_yaml
        if best and (best is not self._best_yaml[0] or (due and count != self._best_yaml[1])):
            files.replace(self.files.best, history.best_yaml(best, count))
            summary.write(self.files, self._state, anew=final)
            self._best_yaml = (best, count)
            self._next_best_yaml = time.monotonic() + _BEST_YAML
