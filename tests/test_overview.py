"""A session looked at again and again, without tmux: windows come and go, results grow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import study_worker as instant
from test_survey import joined
from test_top_frame import row

from tmuxevolve.errors import NotRunningError, UsageError
from tmuxevolve.multiplexer import Window
from tmuxevolve.session.overview import Watcher, choose, workers
from tmuxevolve.study import history
from tmuxevolve.study.rows import YOLOV5


class Mux:
    """Windows without a multiplexer."""

    def __init__(self, *windows: Window) -> None:
        self.shown = list(windows)
        self.others: list[Window] = []
        self.lines: dict[str, list[str]] = {}

    def windows(self) -> tuple[Window, ...]:
        return tuple(self.shown)

    def all_windows(self) -> tuple[Window, ...]:
        return (*self.windows(), *self.others)

    def screens(self, windows: Sequence[Window], above: int = 1) -> Mapping[str, Sequence[str]]:
        return {window.pane: self.lines.get(window.pane, []) for window in windows}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    made = tmp_path / "r"
    made.mkdir()
    return made


def window(number: int, results: Path, **facts: Any) -> Window:
    made = row(number, on_gpu=False, mode=facts.pop("mode", "cooperative")).window
    changed = msgspec.structs.replace(made.facts, results=str(results), **facts)
    return msgspec.structs.replace(made, facts=changed, pid=2**22 + number)


def watcher(mux: Any, name: str = "demo") -> Watcher:
    return Watcher(mux, name, {})


def test_windows_that_are_gone_stay_as_they_were(results: Path) -> None:
    instant.define(results, 10)
    first, second = window(0, results), window(1, results)
    mux = Mux(first, second)
    watch = watcher(mux)
    found = watch.look()
    assert found
    assert [row.stopped for row in found.rows] == [False, False]
    mux.shown = [second]
    found = watch.look()
    assert found
    assert [row.state for row in found.rows] == ["stopped", "waiting"]
    assert not found.is_over
    # Another server gives its panes the same names.
    mux.shown = []
    mux.lines = {first.pane: ["somebody else's"]}
    found = watch.look()
    assert found
    assert found.is_over
    assert [row.status.progress for row in found.rows] == ["", ""]
    again = msgspec.structs.replace(
        first, facts=msgspec.structs.replace(first.facts, worker="cpu0-new")
    )
    mux.shown = [again]
    found = watch.look()
    assert found
    assert [row.stopped for row in found.rows] == [False, True]
    assert found.rows[0].window.facts.worker == "cpu0-new"


def test_a_session_that_was_never_seen_is_nothing(results: Path) -> None:
    assert watcher(Mux(window(0, results)), "other").look() is None


def test_what_it_says_of_a_study(results: Path) -> None:
    instant.define(results, 10)
    mine = window(0, results)
    worker = joined(results, mine.facts.worker)
    fitness = instant.search().layout.fitness
    told = []
    for _ in range(2):
        reservation = worker.ask()
        assert reservation
        result = instant.result(reservation.hyp)
        worker.tell(reservation, msgspec.structs.replace(result, started=100.0, ended=130.0))
        told.append(fitness(result.metrics))
    at = worker.ask()
    assert at
    found = watcher(Mux(mine)).look()
    assert found
    assert (found.session.generations, found.session.budget) == (2, 10)
    assert found.rows[0].status.generation == at.number
    assert found.rows[0].part.last == told[-1]
    assert [point.top for point in found.points] == pytest.approx(told, abs=1e-3)
    assert found.each == 30.0
    assert found.at_work == 1
    # Seven that nobody has begun, and the one at work, of which half is guessed.
    assert found.eta == 7 * 30 + 15


def test_a_study_that_is_damaged_or_gone_is_a_problem_not_an_end(results: Path) -> None:
    watch = watcher(Mux(window(0, results)))
    found = watch.look()
    assert found
    assert "the study is gone" in str(found.session.problem)
    instant.define(results, 10)
    found = watch.look()
    assert found
    assert found.session.problem is None
    (results / "study" / "study.json").write_text("{")
    found = watch.look()
    assert found
    assert "cannot be read" in str(found.session.problem)


def test_native_windows_share_the_evolve_csv_that_yolov5_writes(results: Path) -> None:
    watch = watcher(Mux(window(0, results, mode="native")))
    found = watch.look()
    assert found
    assert (found.session.generations, found.points) == (0, ())
    for number in range(3):
        history.append(results / "evolve.csv", [0.1 * number] * 7, {"lr0": 0.01 + number}, YOLOV5)
        found = watch.look()
        assert found
        assert found.session.generations == number + 1
    assert [round(point.best, 3) for point in found.points] == [0.0, 0.1, 0.2]
    assert found.eta is None
    command = watcher(Mux(window(0, results, mode="native", trainer="command"))).look()
    assert command
    assert command.session.generations is None


def test_the_window_that_it_runs_in_is_not_listed(results: Path) -> None:
    own = msgspec.structs.replace(window(9, results), pid=os.getpid())
    shell = msgspec.structs.replace(window(8, results), pid=os.getppid())
    other = window(0, results)
    assert workers([own, shell, other], "demo") == [other]


def test_which_session_is_meant(results: Path) -> None:
    one, two = window(0, results), window(1, results, session="other")
    assert choose(Mux(one), None) == "demo"  # type: ignore[arg-type]
    assert choose(Mux(one, two), "other") == "other"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="demo, other; name one: tmuxevolve top NAME"):
        choose(Mux(one, two), None)  # type: ignore[arg-type]
    waiting = Mux()
    waiting.others = [
        msgspec.structs.replace(two, facts=msgspec.structs.replace(two.facts, role="watch"))
    ]
    assert choose(waiting, None) == "other"  # type: ignore[arg-type]
    assert watcher(waiting, "other").look() is None
    with pytest.raises(NotRunningError, match="no session is running"):
        choose(Mux(), None)  # type: ignore[arg-type]
