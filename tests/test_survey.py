"""A look at a study from outside: with its summary it sees what it sees without."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import study_worker as instant

from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.study import Study
from tmuxevolve.study.survey import Survey, survey
from tmuxevolve.study.values import Result


def joined(results: Path, name: str) -> Study:
    return Study(results, instant.search(), myself(name, name))


def steady(found: Survey | None) -> str:
    """Return all of a survey but the times since heartbeats, which go on."""
    assert found
    still = tuple(msgspec.structs.replace(worker, seen=0.0) for worker in found.workers)
    return repr(msgspec.structs.replace(found, workers=still))


def without_summary(results: Path) -> Survey | None:
    """Look at a copy that has no summary."""
    summary = Files(results).summary
    if not summary.exists():
        return survey(results)
    hidden = summary.rename(summary.with_suffix(".hidden"))
    try:
        return survey(results)
    finally:
        hidden.rename(summary)


def evolve(results: Path, seed: int, steps: int) -> list[Study]:
    """Let three workers do whatever workers do, at random."""
    rng = random.Random(seed)
    workers = [joined(results, f"w{i}") for i in range(3)]
    held = {}
    for _ in range(steps):
        number = rng.randrange(3)
        worker = workers[number]
        if number not in held:
            held[number] = worker.ask()
            continue
        reservation = held.pop(number)
        what = rng.choice(["tell", "tell", "nan", "fail", "skip", "back"])
        if what == "tell":
            worker.tell(reservation, instant.result(reservation.hyp))
        elif what == "nan":
            worker.tell(reservation, Result((float("nan"),) * 7, 0.0, 1.0))
        elif what == "back":
            worker.give_back(reservation)
        else:
            worker.fail(reservation, "out of memory", skip=what == "skip")
            worker.give_back(reservation)
    return workers


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("steps", [5, 60])
def test_a_summary_changes_nothing(tmp_path: Path, seed: int, steps: int) -> None:
    results = tmp_path / "r"
    results.mkdir()
    instant.define(results, 1000)
    evolve(results, seed, steps)
    first = survey(results)
    assert steady(first) == steady(without_summary(results))
    evolve(results, seed + 100, 7)
    assert steady(survey(results)) == steady(without_summary(results))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    results = tmp_path / "r"
    results.mkdir()
    instant.define(results, 1000)
    for worker in evolve(results, 1, 60):
        worker.leave()
    return results


def test_what_was_read_is_not_read_again(results: Path) -> None:
    """A row spoiled in its place, far from the end, is not even looked at."""
    before = survey(results)
    table = Files(results).table
    data = table.read_bytes()
    with table.open("r+b") as file:
        file.seek(data.index(b"\n") + 1)
        file.write(b"x" * 20)
    assert repr(survey(results)) == repr(before)


@pytest.mark.parametrize("name", ["evolve.csv", "study/journal.jsonl"])
def test_a_file_in_anothers_place_is_read_whole(results: Path, name: str) -> None:
    path = results / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join([*lines[:3], *lines[4:]]) + lines[-1] * 40)
    assert steady(survey(results)) == steady(without_summary(results))


@pytest.mark.parametrize("name", ["evolve.csv", "study/journal.jsonl"])
def test_a_file_that_was_cut_or_changed_is_read_whole(results: Path, name: str) -> None:
    path = results / name
    data = path.read_bytes()
    for text in (data[: len(data) // 2], data[:-3] + b"9 \n" + data[-100:], b""):
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(text)
        assert steady(survey(results)) == steady(without_summary(results))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"{}", b"[1]"])
def test_a_damaged_summary_is_none(results: Path, text: bytes) -> None:
    whole = without_summary(results)
    Files(results).summary.write_bytes(text)
    assert repr(survey(results)) == repr(whole)


def test_a_worker_does_not_go_on_from_a_summary(results: Path) -> None:
    """It would draw again what was trained before."""
    found = msgspec.json.decode(Files(results).summary.read_bytes())
    worker = joined(results, "again")
    reservation = worker.ask()
    assert reservation
    assert worker._state.table.count == found["finished"] == len(worker._state.table.taken)
