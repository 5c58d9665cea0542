"""What a worker of a thousand does while all the others wait for the lock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import study_worker

from tmuxevolve.study import lock
from tmuxevolve.study import study as study_module
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register, myself
from tmuxevolve.study.study import Study

MANY = 120


def join(results: Path, name: str) -> Study:
    return Study(results, study_worker.search(), myself(name, name))


def far(results: Path, name: str) -> None:
    """Write the file of a living worker of another machine."""
    who = msgspec.structs.replace(myself(name, name), machine="elsewhere")
    Files(results).workers.joinpath(f"{name}.json").write_bytes(msgspec.json.encode(who))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a study in which many workers of another machine each train a generation."""
    results = tmp_path / "results"
    study_worker.define(results, 10_000)
    for i in range(MANY):
        assert join(results, f"w{i}").ask()
        far(results, f"w{i}")
    return results


def lose(results: Path, name: str) -> None:
    """Let a worker of another machine have been silent for long."""
    os.utime(Files(results).workers / f"{name}.json", (time.time() - 1000,) * 2)


def before_the_lock(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> list[bool]:
    """Have this called each time before a study's lock is taken; return whether it is held."""
    held = [False]

    @contextmanager
    def prepared(*arguments: Any) -> Iterator[None]:
        call()
        with lock.prepared(*arguments):
            held[0] = True
            yield
        held[0] = False

    monkeypatch.setattr(study_module, "prepared", prepared)
    return held


def test_nobody_waits_while_others_are_asked_after(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = before_the_lock(monkeypatch, lambda: None)
    asked: list[bool] = []
    real = Register.alive
    monkeypatch.setattr(Register, "alive", lambda *a: asked.append(held[0]) or real(*a))
    assert join(results, "me").ask()
    assert 0 < len(asked) <= 100
    assert not any(asked)


def test_each_of_many_dead_workers_is_found_in_the_end(results: Path) -> None:
    lose(results, "w70")
    study = join(results, "me")
    for _ in range(100):
        study._next_roll_call = 0.0
        reservation = study.ask()
        assert reservation
        if reservation.number == 70:
            return
        study.tell(reservation, study_worker.result(reservation.hyp))
    pytest.fail("nobody took over what a dead worker left")


def test_when_the_budget_is_all_asked_for_every_worker_is_asked_after(results: Path) -> None:
    study_worker.define(results, MANY)
    lose(results, "w119")
    reservation = join(results, "me").ask()
    assert reservation
    assert reservation.number == 119


def test_one_that_comes_back_before_the_lock_is_taken_keeps_its_generation(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_worker.define(results, MANY)
    lose(results, "w119")
    before_the_lock(monkeypatch, lambda: far(results, "w119"))
    assert join(results, "me").ask() is None


def test_of_many_that_tell_within_a_second_one_keeps_the_summary(results: Path) -> None:
    studies = [join(results, "first"), join(results, "second")]
    reservations = [study.ask() for study in studies]
    kept = []
    for study, reservation in zip(studies, reservations, strict=True):
        assert reservation
        study.tell(reservation, study_worker.result(reservation.hyp))
        kept.append(Files(results).summary.stat().st_ino)
        now = Files(results).table.stat().st_mtime
        os.utime(Files(results).summary, (now, now))
    assert kept[0] == kept[1]
    earlier = now - 10
    os.utime(Files(results).summary, (earlier, earlier))
    reservation = studies[1].ask()
    assert reservation
    studies[1]._next_best_yaml = 0.0
    studies[1].tell(reservation, study_worker.result(reservation.hyp))
    assert Files(results).summary.stat().st_mtime > earlier + 1
