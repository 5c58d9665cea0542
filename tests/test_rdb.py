"""A study's contract, kept by the directory and by a database: a real PostgreSQL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import rdb_worker
import study_worker as instant
from postgres import Postgres, programs
from support import Box, poll

from tmuxevolve.study import history, survey
from tmuxevolve.study.database import Database, DatabaseAwayError, Told, as_told
from tmuxevolve.study.definition import load
from tmuxevolve.study.files import Files
from tmuxevolve.study.opening import AskTell
from tmuxevolve.study.rdb import name_of
from tmuxevolve.study.values import Result

pytest.importorskip("optuna")
pytest.importorskip("psycopg")

Joined = Callable[..., AskTell]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (make postgres)")
    made = Postgres(folder)
    made.start()
    poll(lambda: _answers(made))
    yield made
    made.close()


def _answers(server: Postgres) -> bool:
    try:
        Database(server.url, "ready").close()
    except DatabaseAwayError:
        return False
    return True


@pytest.fixture(params=["directory", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Return where the study's truth is."""
    if request.param == "directory":
        return None
    server: Postgres = request.getfixturevalue("server")
    return server.url


@pytest.fixture
def results(tmp_path: Path) -> Path:
    instant.define(tmp_path / "r", 6)
    return tmp_path / "r"


@pytest.fixture
def join(url: str | None, results: Path) -> Iterator[Joined]:
    made: list[Any] = []

    def make(name: str, sampler: str = "yolov5") -> AskTell:
        made.append(rdb_worker.joined(url, results, name, sampler))
        study: AskTell = made[-1]
        return study

    yield make
    for study in made:
        if url:
            study._database.close()


def rows_of(results: Path) -> list[bytes]:
    return (results / "evolve.csv").read_bytes().splitlines()[1:]


def exactly(results: Path, budget: int) -> None:
    """Check that so many generations are finished, each once, in every file."""
    hyps = [row.split(b",", 7)[-1] for row in rows_of(results)]
    assert len(hyps) == len({*hyps}) == budget
    found = survey.survey(results)
    assert found
    assert (found.finished, found.waiting) == (budget, 0)
    lines = (results / "study" / "journal.jsonl").read_text().splitlines()
    tells = [event["number"] for line in lines if (event := json.loads(line))["type"] == "tell"]
    assert len(tells) == len({*tells}) <= budget
    best = history.read(results / "evolve.csv").best
    assert best
    assert f"# Best generation: {best.number}\n" in (results / "hyp_evolve.yaml").read_text()


def begin(url: str | None, results: Path, name: str) -> subprocess.Popen[bytes]:
    words = [url or "directory", str(results), name]
    return subprocess.Popen([sys.executable, rdb_worker.__file__, *words])


def test_one_worker_trains_the_base_first_and_then_others(join: Joined, results: Path) -> None:
    study = join("w")
    seen = []
    while reservation := study.ask():
        seen.append(reservation)
        progress = study.tell(reservation, instant.result(reservation.hyp))
        assert progress.finished == len(seen)
    assert progress.budget == 6
    study.leave()
    assert [reservation.number for reservation in seen] == list(range(6))
    assert dict(seen[0].hyp) == dict(load_base(results))
    exactly(results, 6)


def load_base(results: Path) -> dict[str, float]:
    found = load(Files(results))
    assert found
    return found.base


def test_the_budget_is_exact_with_four_processes(url: str | None, results: Path) -> None:
    instant.define(results, 40)
    workers = [begin(url, results, f"w{i}") for i in range(4)]
    assert [worker.wait(120) for worker in workers] == [0] * 4
    exactly(results, 40)


def test_killed_at_random_moments_nothing_is_lost_or_doubled(
    url: str | None, results: Path
) -> None:
    instant.define(results, 30)
    rng = Random(str(url and url.partition(":")[0]))
    workers = [begin(url, results, f"k{n}") for n in range(2)]
    for count in range(4):
        time.sleep(0.8 + rng.random())
        victim = rng.choice(workers)
        victim.kill()
        victim.wait()
        workers[workers.index(victim)] = begin(url, results, f"n{count}")
    assert [worker.wait(120) for worker in workers] == [0, 0]
    last = begin(url, results, "last")
    assert last.wait(60) == 0
    exactly(results, 30)


def test_what_is_given_back_is_asked_for_next(join: Joined, results: Path) -> None:
    one, two = join("one"), join("two")
    first = one.ask()
    assert first
    one.give_back(first)
    again = two.ask()
    assert again
    assert (again.number, dict(again.hyp)) == (first.number, dict(first.hyp))
    # It is another's now: a late word about it changes nothing.
    one.give_back(first)
    one.fail(first, "late", skip=True)
    two.tell(again, instant.result(again.hyp))
    assert len(rows_of(results)) == 1


def test_a_reservation_takes_one_tell_whoever_comes_late(join: Joined, results: Path) -> None:
    old, new = join("old"), join("new")
    first = old.ask()
    assert first
    # Taken for dead: it has left the register, and is only slow.
    (results / "study" / "workers" / "old.json").unlink()
    taken = poll(lambda: _same(new, first.number))
    assert dict(taken.hyp) == dict(first.hyp)
    progress = old.tell(first, instant.result(first.hyp))
    assert progress.finished == 1
    assert new.tell(taken, instant.result(taken.hyp)).finished == 1
    assert len(rows_of(results)) == 1


def _same(study: AskTell, number: int) -> Any:
    """Ask until this generation comes; give others back."""
    reservation = study.ask()
    if reservation and reservation.number != number:
        study.give_back(reservation)
        return None
    return reservation


def test_failures_count_and_given_up_hyps_are_replaced(join: Joined, results: Path) -> None:
    study = join("w")
    first = study.ask()
    assert first
    study.fail(first, "CUDA out of memory", skip=False)
    study.give_back(first)
    again = study.ask()
    assert again
    assert (again.number, again.failures) == (first.number, 1)
    study.fail(again, "CUDA out of memory", skip=True)
    while reservation := study.ask():
        assert dict(reservation.hyp) != dict(first.hyp)
        study.tell(reservation, instant.result(reservation.hyp))
    study.leave()
    exactly(results, 6)
    found = survey.survey(results)
    assert found
    assert (found.failed, found.skipped) == (2, 1)


def test_a_raised_budget_goes_on_and_a_lowered_one_ends(join: Joined, results: Path) -> None:
    study = join("w")
    for _ in range(3):
        reservation = study.ask()
        assert reservation
        study.tell(reservation, instant.result(reservation.hyp))
    assert study.left() == 3
    instant.define(results, 3)
    assert study.ask() is None
    instant.define(results, 5)
    while reservation := study.ask():
        study.tell(reservation, instant.result(reservation.hyp))
    study.leave()
    exactly(results, 5)


def test_a_fitness_that_is_no_number_is_kept_and_never_best(join: Joined, results: Path) -> None:
    study = join("w")
    first = study.ask()
    assert first
    nan = float("nan")
    done = study.tell(first, Result((nan, nan, nan, nan, nan, nan, nan), 1.0, 2.0))
    assert (done.finished, done.best) == (1, None)
    while reservation := study.ask():
        study.tell(reservation, instant.result(reservation.hyp))
    study.leave()
    exactly(results, 6)


@pytest.mark.parametrize("sampler", ["random", "optuna-tpe"])
def test_samplers_draw_from_what_is_finished(join: Joined, results: Path, sampler: str) -> None:
    instant.define(results, 14)
    study = join("w", sampler)
    while reservation := study.ask():
        study.tell(reservation, instant.result(reservation.hyp))
    study.leave()
    exactly(results, 14)


def test_a_directorys_generations_are_taken_along_and_back(results: Path, tmp_path: Path) -> None:
    def train(url: str | None, budget: int, name: str) -> None:
        instant.define(results, budget)
        study: Any = rdb_worker.joined(url, results, name)
        while reservation := study.ask():
            study.tell(reservation, instant.result(reservation.hyp))
        study.leave()

    url = f"sqlite:///{tmp_path}/study.db"
    train(None, 3, "one")
    before = rows_of(results)
    train(url, 6, "two")
    train(None, 8, "three")
    assert rows_of(results)[:3] == before
    exactly(results, 8)
    found = load(Files(results))
    assert found
    # The database does not know of the last two; it says so by what it goes on with.
    database = Database(url, name_of(found))
    assert sum(trial.is_complete for trial in database.trials()) == 6
    database.close()


def test_a_worker_killed_between_its_result_and_the_end_of_the_trial_loses_nothing(
    results: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    old: Any = rdb_worker.joined(url, results, "old")
    first = old.ask()
    assert first
    result = instant.result(first.hyp)
    told = Told(as_told(result.metrics), result.started, result.ended)
    trial = old._mine[first.number]
    old._database.write(trial, msgspec.structs.replace(trial.note, told=told))
    old._database.close()
    (results / "study" / "workers" / "old.json").unlink()
    new: Any = rdb_worker.joined(url, results, "new")
    seen = []
    while reservation := new.ask():
        seen.append(reservation.number)
        new.tell(reservation, instant.result(reservation.hyp))
    new.leave()
    assert first.number not in seen
    exactly(results, 6)


def test_nobody_sees_a_place_where_a_dead_workers_generation_is_taken_over(
    server: Postgres, results: Path
) -> None:
    made: list[Any] = [rdb_worker.joined(server.url, results, f"w{n}") for n in range(8)]
    for study in made[:6]:
        assert study.ask()
    (results / "study" / "workers" / "w0.json").unlink()
    taker, other = made[6:]
    fail = taker._database.fail

    def racing(trial: Any) -> bool:
        done: bool = fail(trial)
        assert other.ask() is None
        return done

    taker._database.fail = racing
    taken = taker.ask()
    assert taken
    assert dict(taken.hyp) == load_base(results)
    trials = taker._database.trials()
    assert sum(trial.is_running or trial.is_complete for trial in trials) == 6
    for study in made:
        study._database.close()


def test_two_studies_in_one_database_do_not_mix(server: Postgres, tmp_path: Path) -> None:
    for name in ("a", "b"):
        instant.define(tmp_path / name, 3)
        study: Any = rdb_worker.joined(server.url, tmp_path / name, name)
        while reservation := study.ask():
            study.tell(reservation, instant.result(reservation.hyp))
        study.leave()
    exactly(tmp_path / "a", 3)
    exactly(tmp_path / "b", 3)


def session(box: Box, url: str, generations: int) -> None:
    code = (
        "import json, pathlib, sys, time; time.sleep(0.2);"
        "(pathlib.Path(sys.argv[2]) / 'r.json').write_text(json.dumps({'map': float(sys.argv[1])}))"
    )
    box.session(
        command=[sys.executable, "-c", code, "{hyp.lr}", "{output}"],
        evolve={
            "generations": generations,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "map"},
            "storage": url,
        },
        restart={"backoff": 0},
        env={"DB_PASSWORD": Postgres.PASSWORD},
    )


def test_start_with_a_database_that_goes_away_and_comes_back(box: Box) -> None:
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (make postgres)")
    server = Postgres(folder)
    server.start()
    try:
        session(box, server.url.replace(Postgres.PASSWORD, "$DB_PASSWORD"), 12)
        poll(lambda: _answers(server))
        done = box.cli("start")
        assert done.returncode == 0, done
        table = box.root / "results" / "evolve.csv"
        poll(lambda: table.exists() and len(table.read_text().splitlines()) > 3, 60)
        server.stop()
        poll(lambda: "the database does not answer" in box.hands.text(0) + box.hands.text(1))
        server.start()
        poll(lambda: len(table.read_text().splitlines()) == 13, 90)
        windows = poll(
            lambda: (w := box.status()) and all(i["exit_status"] == 0 for i in w.values()) and w, 60
        )
        assert windows
        assert len({row.split(",")[1] for row in table.read_text().splitlines()[1:]}) == 12
        assert "12 of 12" in box.cli("status").stdout
        assert box.cli("best").returncode == 0
        secret = Postgres.PASSWORD
        for command in (["status", "--json"], ["logs"], ["check"], ["start", "--dry-run"]):
            assert secret not in box.cli(*command).stdout
        kept = [p for p in (box.root / "results").rglob("*") if p.is_file()]
        assert not [path for path in kept if secret.encode() in path.read_bytes()]
        server.stop()
        away = box.cli("start", "--generations", "14")
        assert away.returncode == 1
        assert "sessions.demo.evolve.storage: the database does not answer" in away.stderr
        assert secret not in away.stderr
        assert len(away.stderr.splitlines()) == 1
        server.start()
    finally:
        server.close()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "expected a URL, such as postgresql://host/name"),
        ("postgresql://me:$NOT_SET@host/x", r"a \$NAME in it is not set"),
        (7, "evolve.storage: expected"),
    ],
)
def test_what_is_no_storage(box: Box, storage: Any, message: str) -> None:
    session(box, storage, 3)
    done = box.cli("start")
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert "7" not in done.stderr.partition("storage:")[2]
