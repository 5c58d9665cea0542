"""One session as a value, looked at again and again: what `tmuxevolve top` draws."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tmuxevolve import trainers
from tmuxevolve.errors import UsageError
from tmuxevolve.multiplexer import Facts, Multiplexer, State, Window
from tmuxevolve.session import curve, eta, jobs, status
from tmuxevolve.session.attach import refuse_several, select
from tmuxevolve.session.curve import Point
from tmuxevolve.session.status import Results, Seen, SessionStatus, WindowStatus
from tmuxevolve.study import history
from tmuxevolve.study.files import Files
from tmuxevolve.study.record import Part, Watch
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.table import Table, Tally
from tmuxevolve.terminal import NOTICE
from tmuxevolve.trainers.progress import Progress


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One window; ``stopped`` when it is not there any more. ``eta`` is its training's, seconds.

    ``doing`` is what whoever looks is doing to it at the moment.
    """

    window: Window
    status: WindowStatus
    stopped: bool
    progress: Progress | None
    eta: float | None
    part: Part
    doing: str | None = None

    @property
    def state(self) -> str:
        """Return the state in a word."""
        return self.doing or ("stopped" if self.stopped else self.status.state.value)


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A session at one moment. Times in seconds.

    ``each`` is what a generation takes, ``eta`` how long it is to the end of the budget, and
    ``at_work`` how many workers share it, on all machines; None where nobody can say.
    """

    session: SessionStatus
    rows: tuple[Row, ...]
    points: tuple[Point, ...]
    each: float | None
    eta: float | None
    at_work: int

    @property
    def is_over(self) -> bool:
        """Say whether the session has no window any more."""
        return all(row.stopped for row in self.rows)


class Watcher:
    """Looks at one session; what it has read of its results is not read again."""

    def __init__(self, mux: Multiplexer, session: str, environ: Mapping[str, str]) -> None:
        """Name the session; nothing is looked at yet."""
        self._mux = mux
        self._session = session
        self._environ = environ
        self._windows: dict[str, Window] = {}
        self._results: _Study | _Table | None = None

    def look(self) -> Overview | None:
        """Return the session as it is now; None when none of its windows was ever seen.

        Windows that are gone stay in it, as they were. Raises TmuxEvolveError.
        """
        live = {w.facts.slot: w for w in workers(jobs.all_windows(self._mux), self._session)}
        self._windows |= live
        if not self._windows:
            return None
        known = sorted(self._windows.values(), key=lambda window: window.index)
        windows = [w if w.facts.slot in live else _gone(w) for w in known]
        facts = next(iter(live.values()), windows[0]).facts
        seen = status.see(self._mux, [*live.values()], self._environ)
        results = self._results_of(facts)
        found = status.of_session(windows, seen, results.look())
        rows = (
            _row(window, state, seen, results)
            for window, state in zip(windows, found.windows, strict=True)
        )
        return _overview(found, tuple(rows), results)

    def _results_of(self, facts: Facts) -> _Study | _Table:
        if self._results is None or self._results.of != (facts.results, facts.mode):
            self._results = _Table(facts) if facts.mode == "native" else _Study(facts)
        return self._results


def choose(mux: Multiplexer, name: str | None) -> str:
    """Return the session of this name, or the only one that runs.

    Raises what ``attach`` does when it is not running, or several are.
    """
    windows = select(mux.all_windows(), name, [])
    refuse_several(windows, "name one: tmuxevolve top NAME")
    return windows[0].facts.session


def workers(windows: Sequence[Window], session: str) -> list[Window]:
    """Return a session's windows that hold workers, or follow jobs.

    Not the one that the caller itself runs in.
    """
    mine = {os.getpid(), os.getppid()}
    found = (w for w in windows if w.facts.role in status.WORK and w.pid not in mine)
    return [window for window in found if window.facts.session == session]


class _Study:
    """A study's results, in cooperative mode."""

    def __init__(self, facts: Facts) -> None:
        self.of = (facts.results, facts.mode)
        self._facts = facts
        self._watch = Watch(Files(Path(facts.results)))
        self._curve = _Curve()
        self.at_work: Mapping[str, int] = {}
        self._in_jobs: Mapping[str, str] = {}

    def look(self) -> Results:
        try:
            survey = self._watch.look()
        except (OSError, UsageError) as error:
            return Results(problem=str(error))
        self.at_work = survey.at_work if survey else {}
        self._in_jobs = survey.in_jobs if survey else {}
        return status.of_study(self._facts.results, survey)

    def worker_of(self, window: Window, state: WindowStatus) -> str:
        """Return the window's worker; of a job, the one that it runs as since it last began."""
        return self._in_jobs.get(state.job.id if state.job else "", window.facts.worker)

    def part(self, worker: str) -> Part:
        record = self._watch.record
        return record.parts.get(worker, Part()) if record else Part()

    def elapsed(self, worker: str) -> float | None:
        """Return how long this worker's generation has been trained."""
        record, number = self._watch.record, self.at_work.get(worker)
        begun = record.begun.get(number) if record and number is not None else None
        return None if begun is None else max(0.0, time.time() - begun)

    @property
    def seconds(self) -> Sequence[float]:
        record = self._watch.record
        return record.seconds if record else ()

    @property
    def points(self) -> tuple[Point, ...]:
        record = self._watch.record
        return self._curve.of(record.table if record else None)


class _Table:
    """The evolve.csv that trainers write themselves, in native mode."""

    seconds: Sequence[float] = ()
    at_work: Mapping[str, int] = {}

    def __init__(self, facts: Facts) -> None:
        self.of = (facts.results, facts.mode)
        self._results = Path(facts.results)
        self._trainer = trainers.find(facts.trainer, ())
        self._table: Table | None = None
        self._curve = _Curve()

    def look(self) -> Results:
        try:
            return status.of_tally(self._tally())
        except OSError as error:
            return Results(problem=str(error))

    def _tally(self) -> Tally | None:
        layout = self._trainer.layout(self._results)
        if layout is None:
            return None
        self._table = self._table or self._open(layout)
        if self._table is None:
            return Tally()
        self._table.refresh()
        return Tally(self._table.count, self._table.best, self._table.problem)

    def _open(self, layout: Layout) -> Table | None:
        path = Files(self._results).table
        names = history.columns(path)[len(layout.metrics) :]
        return Table(path, layout, names, keys=False, curve=True) if names else None

    def worker_of(self, window: Window, state: WindowStatus) -> str:
        del state
        return window.facts.worker

    def part(self, worker: str) -> Part:
        del worker
        return Part()

    def elapsed(self, worker: str) -> float | None:
        del worker
        return None

    @property
    def points(self) -> tuple[Point, ...]:
        return self._curve.of(self._table)


class _Curve:
    """A table's points, made anew when it has grown."""

    def __init__(self) -> None:
        self._of: tuple[Table | None, int] = (None, 0)
        self._points: tuple[Point, ...] = ()

    def of(self, table: Table | None) -> tuple[Point, ...]:
        now = (table, table.count if table else 0)
        if now != self._of:
            self._points = curve.thin(table.curve, table.layout.rank) if table else ()
            self._of = now
        return self._points


def _gone(window: Window) -> Window:
    # A new server gives the pane's name to another one.
    return msgspec.structs.replace(window, dead=True, pane="")


def _row(window: Window, state: WindowStatus, seen: Seen, results: _Study | _Table) -> Row:
    worker, progress = results.worker_of(window, state), None
    if state.state is State.RUNNING:
        trainer = trainers.find(window.facts.trainer, ())
        progress = trainer.progress(_of_this_training(seen.screens.get(window.pane, ())))
    return Row(
        window=window,
        status=state,
        stopped=window.dead and not window.pane,
        progress=progress,
        eta=eta.of_training(progress, results.elapsed(worker)),
        part=results.part(worker),
    )


def _of_this_training(screen: Sequence[str]) -> Sequence[str]:
    """Return what stands below our last notice, such as that a generation begins."""
    ours = [number for number, line in enumerate(screen) if line.startswith(NOTICE)]
    return screen[ours[-1] + 1 :] if ours else screen


def _overview(session: SessionStatus, rows: tuple[Row, ...], results: _Study | _Table) -> Overview:
    seconds = results.seconds
    rests = {results.worker_of(row.window, row.status): row.eta for row in rows}
    running = [rests.get(worker) for worker in results.at_work]
    left = None if session.budget is None else session.budget - (session.generations or 0)
    return Overview(
        session=session,
        rows=rows,
        points=results.points,
        each=sum(seconds) / len(seconds) if seconds else None,
        eta=None if left is None else eta.of_study(left, seconds, running),
        at_work=len(results.at_work),
    )
