"""A study as somebody watches it: the same as a survey, and read once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import study_worker as instant
from test_survey import evolve, joined, steady

from tmuxevolve.errors import UsageError
from tmuxevolve.study import history
from tmuxevolve.study.files import Files
from tmuxevolve.study.record import Part, Watch
from tmuxevolve.study.survey import survey


@pytest.fixture
def results(tmp_path: Path) -> Path:
    made = tmp_path / "r"
    made.mkdir()
    instant.define(made, 1000)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_it_sees_what_a_survey_sees_at_every_step(results: Path, seed: int) -> None:
    watch = Watch(Files(results))
    for step in range(6):
        evolve(results, 10 * seed + step, 15)
        assert steady(watch.look()) == steady(survey(results))
        assert watch.record
        found = history.read(Files(results).table, instant.search().layout).generations
        assert repr([*watch.record.table.curve]) == repr([g.fitness for g in found])


def test_each_workers_part(results: Path) -> None:
    one, two = joined(results, "one"), joined(results, "two")
    watch = Watch(Files(results))
    told = []
    for _ in range(3):
        reservation = one.ask()
        assert reservation
        result = instant.result(reservation.hyp)
        one.tell(reservation, result)
        told.append(instant.search().layout.fitness(result.metrics))
    failing = two.ask()
    assert failing
    two.fail(failing, "out of memory", skip=False)
    two.fail(failing, "out of memory", skip=False)
    watch.look()
    assert watch.record
    assert watch.record.parts["one"] == Part(told[-1], max(told), 0, 0)
    assert watch.record.parts["two"] == Part(None, None, 2, 2)
    assert failing.number in watch.record.begun
    assert len(watch.record.seconds) == 3
    two.tell(failing, instant.result(failing.hyp))
    watch.look()
    part = watch.record.parts["two"]
    assert (part.failures, part.in_a_row) == (2, 0)
    assert part.last == part.best
    assert failing.number not in watch.record.begun


def test_a_diverged_training_is_the_last_but_not_the_best(results: Path) -> None:
    worker = joined(results, "one")
    watch = Watch(Files(results))
    for value in (0.5, math.nan):
        reservation = worker.ask()
        assert reservation
        worker.tell(reservation, instant.Result((value,) * 7, 0.0, 1.0))
    watch.look()
    assert watch.record
    assert watch.record.parts["one"].last is None
    assert watch.record.parts["one"].best == pytest.approx(0.5)


def test_what_was_read_is_not_read_again(results: Path) -> None:
    evolve(results, 1, 60)
    watch = Watch(Files(results))
    watch.look()
    assert watch.record
    before = [*watch.record.table.curve]
    for path in (Files(results).table, Files(results).journal):
        data = path.read_bytes()
        with path.open("r+b") as file:
            # In the first line below the header.
            file.seek(data.index(b"\n") + 1)
            file.write(b"x" * 20)
    evolve(results, 2, 20)
    watch.look()
    assert repr([*watch.record.table.curve][: len(before)]) == repr(before)


def test_another_study_in_its_place_is_read_from_its_start(results: Path) -> None:
    evolve(results, 1, 60)
    watch = Watch(Files(results))
    watch.look()
    results.rename(results.with_name("old"))
    assert watch.look() is None
    results.mkdir()
    instant.define(results, 5)
    worker = joined(results, "new")
    reservation = worker.ask()
    assert reservation
    worker.tell(reservation, instant.result(reservation.hyp))
    found = watch.look()
    assert found
    assert (found.finished, found.budget) == (1, 5)
    assert watch.record
    assert {*watch.record.parts} == {"new"}
    Files(results).definition.write_text("{")
    with pytest.raises(UsageError):
        watch.look()
