"""One study, many workers: ask, tell, and what is left when one of them dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
import study_worker as instant
import yaml
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support import poll

from tmuxevolve.errors import TmuxEvolveError, UsageError
from tmuxevolve.study import files, heartbeat, history, rows
from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Identity, myself
from tmuxevolve.study.mutation import META, Bounds
from tmuxevolve.study.rows import YOLOV5
from tmuxevolve.study.study import Study
from tmuxevolve.study.values import Reservation, Result, Search

NAMES = tuple(instant.BASE)
WORKER = Path(instant.__file__)


def joined(results: Path, name: str = "w0", budget: int = 100, **search: object) -> Study:
    """Return a worker of a study that is made if it is not there."""
    results.mkdir(exist_ok=True)
    if not Files(results).definition.exists():
        instant.define(results, budget)
    return Study(results, instant.search(**search), myself(name, name))  # type: ignore[arg-type]


def asked(study: Study) -> Reservation:
    reservation = study.ask()
    assert reservation is not None
    return reservation


def told(study: Study, reservation: Reservation) -> None:
    study.tell(reservation, instant.result(reservation.hyp))


def evolve(study: Study, count: int) -> list[Mapping[str, float]]:
    found = []
    for _ in range(count):
        reservation = asked(study)
        told(study, reservation)
        found.append(dict(reservation.hyp))
    return found


def table(results: Path) -> list[bytes]:
    """Return the rows of evolve.csv, which must have one header and no torn line."""
    data = (results / "evolve.csv").read_bytes()
    header, *lines = data.split(b"\n")
    assert lines.pop() == b"", "a torn last line"
    assert header + b"\n" == rows.header((*YOLOV5.metrics, *NAMES))
    assert header not in lines
    assert all(line.count(b",") == header.count(b",") for line in lines)
    return lines


def distinct(lines: list[bytes]) -> int:
    return len({line[len(YOLOV5.metrics) * (rows.WIDTH + 1) :] for line in lines})


def test_the_base_is_trained_once_and_meanwhile_its_children(tmp_path: Path) -> None:
    workers = [joined(tmp_path / "r", f"w{i}") for i in range(4)]
    first, *others = [asked(worker) for worker in workers]
    assert dict(first.hyp) == pytest.approx(instant.BASE)
    assert [r.number for r in (first, *others)] == [0, 1, 2, 3]
    keys = {rows.key(r.hyp, NAMES) for r in (first, *others)}
    assert len(keys) == 4


def test_the_budget_counts_finished_generations(tmp_path: Path) -> None:
    one, two = joined(tmp_path / "r", "one", budget=2), joined(tmp_path / "r", "two")
    a, b = asked(one), asked(two)
    assert joined(tmp_path / "r", "three").ask() is None, "what is left is pending"
    told(one, a)
    assert one.ask() is None
    two.fail(b, "out of memory", skip=True)
    assert asked(one).number == 2, "a skipped generation is none of the budget"


def test_a_budget_can_be_raised_while_workers_run(tmp_path: Path) -> None:
    study = joined(tmp_path / "r", budget=1)
    evolve(study, 1)
    assert study.ask() is None
    wanted = Definition(generations=1, base=instant.BASE, layout=YOLOV5)
    assert agree(Files(tmp_path / "r"), wanted, budget=3).generations == 3
    evolve(study, 2)
    assert study.ask() is None
    assert agree(Files(tmp_path / "r"), wanted, budget=None).generations == 3, "it stays"


def test_what_is_given_back_is_given_out_again(tmp_path: Path) -> None:
    one, two = joined(tmp_path / "r", "one"), joined(tmp_path / "r", "two")
    reservation = asked(one)
    one.give_back(reservation)
    again = asked(two)
    assert (again.number, dict(again.hyp)) == (reservation.number, dict(reservation.hyp))
    told(two, again)
    told(one, reservation)
    assert len(table(tmp_path / "r")) == 1, "the first tell counts"


def test_failures_are_counted_and_skipped_hyps_never_come_back(tmp_path: Path) -> None:
    study = joined(tmp_path / "r")
    reservation = asked(study)
    study.fail(reservation, "out of memory", skip=False)
    study.give_back(reservation)
    again = asked(study)
    assert (again.number, again.failures) == (reservation.number, 1)
    study.fail(again, "out of memory", skip=True)
    following = [asked(study)] + [asked(joined(tmp_path / "r", f"w{i}")) for i in range(5)]
    assert reservation.number not in {r.number for r in following}
    assert rows.key(reservation.hyp, NAMES) not in {rows.key(r.hyp, NAMES) for r in following[1:]}


def test_a_dead_workers_generation_goes_to_the_next_one(tmp_path: Path) -> None:
    results = tmp_path / "r"
    study = joined(results)
    code = (
        "import sys, study_worker as i; from pathlib import Path\n"
        "from tmuxevolve.study.study import Study; from tmuxevolve.study.heartbeat import myself\n"
        "s = Study(Path(sys.argv[1]), i.search(), myself('dead', 'gpu1'))\n"
        "print(s.ask().number, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, results],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(WORKER.parent)},
    )
    assert child.stdout
    assert child.stdout.readline() == b"0\n"
    mine = asked(study)
    assert mine.number == 1, "the other one is alive"
    child.kill()
    child.communicate()
    told(study, mine)
    again = poll(lambda: (r := asked(study)).number == 0 and r)
    assert rows.key(again.hyp, NAMES) == rows.key(instant.BASE, NAMES)


def other_machine(results: Path, worker: str = "far") -> Path:
    """Make a worker of another machine that has a reservation; return its file."""
    study = joined(results, worker)
    asked(study)
    register = heartbeat.Register(study.files.workers)
    mine = myself(worker, "gpu0")
    there = {name: getattr(mine, name) for name in ("worker", "slot", "host", "born", "started")}
    register.enter(Identity(**there, machine="another boot", pid=1))
    return study.files.workers / f"{worker}.json"


def test_another_machines_worker_lives_by_its_heartbeat(tmp_path: Path) -> None:
    file = other_machine(tmp_path / "r")
    study = joined(tmp_path / "r", "here")
    assert asked(study).number == 1
    past = time.time() - heartbeat.STALE - 5
    os.utime(file, (past, past))
    late = joined(tmp_path / "r", "late")
    assert asked(late).number == 0


def test_a_pid_that_was_used_again_is_another_process(tmp_path: Path) -> None:
    study = joined(tmp_path / "r", "old")
    asked(study)
    mine = myself("old", "gpu0")
    fields = {n: getattr(mine, n) for n in ("worker", "slot", "host", "machine", "pid", "started")}
    heartbeat.Register(study.files.workers).enter(Identity(**fields, born=mine.born - 1))
    assert asked(joined(tmp_path / "r", "new")).number == 0


def test_a_run_can_be_repeated(tmp_path: Path) -> None:
    """The same seed and the same order of tells give the same hyps; another seed does not."""
    first = evolve(joined(tmp_path / "a"), 30)
    assert evolve(joined(tmp_path / "b"), 30) == first
    restarted = evolve(joined(tmp_path / "c"), 11)
    restarted += evolve(joined(tmp_path / "c", "later"), 19)
    assert restarted == first
    other = evolve(joined(tmp_path / "d", seed=1), 30)
    assert other[0] == first[0]
    assert not [hyp for hyp in other[1:] if hyp in first]


def test_an_evolve_csv_from_elsewhere_is_history(tmp_path: Path) -> None:
    """As v7.0 writes it: duplicates and all; other column order among the hyps."""
    results = tmp_path / "r"
    results.mkdir()
    names = (*YOLOV5.metrics, *reversed(NAMES))
    better = {**instant.BASE, "lr0": 0.02}
    for hyp, fitness in ((instant.BASE, 0.1), (instant.BASE, 0.1), (better, 0.9)):
        metrics = (0.5, 0.5, fitness, fitness, 0.1, 0.1, 0.1)
        values = dict(zip(YOLOV5.metrics, metrics, strict=True)) | hyp
        with (results / "evolve.csv").open("ab") as file:
            file.write(rows.header(names) if not file.tell() else b"")
            file.write(rows.row(values[name] for name in names))
    study = joined(results, budget=5)
    child = asked(study)
    assert child.number == 3
    told(study, child)
    evolve(study, 1)
    assert study.ask() is None, "three came before"
    found = history.read(results / "evolve.csv").generations
    assert len(found) == 5
    assert found[0].hyp == pytest.approx(instant.BASE)
    assert yaml.safe_load((results / "hyp_evolve.yaml").read_text()) == pytest.approx(better)


@pytest.mark.parametrize(
    "garbage",
    [b'{"type":"back","worker":"\xff","number":0}\n', b'{"type":"ask","num\n', b"[]\n", b"\n"],
)
def test_garbage_in_the_journal_is_passed_over(tmp_path: Path, garbage: bytes) -> None:
    one = joined(tmp_path / "r", "one")
    first = asked(one)
    with Files(tmp_path / "r").journal.open("ab") as journal:
        journal.write(garbage)
    assert asked(joined(tmp_path / "r", "two")).number == first.number + 1
    told(one, first)
    assert len(table(tmp_path / "r")) == 1


def test_hyps_that_somebody_has_spoiled_are_given_to_nobody(tmp_path: Path) -> None:
    asked(joined(tmp_path / "r", "one"))
    journal = Files(tmp_path / "r").journal
    text = journal.read_text().replace('"lr0":', '"lr9":').replace('"one"', '"somebody"')
    journal.write_text(text)
    assert asked(joined(tmp_path / "r", "two")).number == 1


def test_hyps_that_were_spoiled_and_skipped_are_passed_over(tmp_path: Path) -> None:
    one = joined(tmp_path / "r", "one")
    one.fail(asked(one), "out of memory", skip=True)
    journal = Files(tmp_path / "r").journal
    journal.write_text(journal.read_text().replace('"lr0":', '"lr9":'))
    assert asked(joined(tmp_path / "r", "two")).number == 1


def test_a_tell_that_failed_half_way_is_made_whole_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row was there, and so the journal had the generation reserved for ever."""
    one, two = joined(tmp_path / "r", "one", budget=2), joined(tmp_path / "r", "two")
    first, _ = asked(one), asked(two)
    with monkeypatch.context() as patch:
        patch.setattr(one._state, "append", Mock(side_effect=OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            told(one, first)
    told(one, first)
    assert len(table(tmp_path / "r")) == 1
    assert Files(tmp_path / "r").journal.read_text().count('"tell"') == 1


def test_the_yaml_says_how_many_generations_there_were(tmp_path: Path) -> None:
    one = joined(tmp_path / "r", "one", budget=5)
    evolve(one, 5)
    one.leave()
    assert "Last generation: 4" in Files(tmp_path / "r").best.read_text()


def test_other_hyps_are_refused(tmp_path: Path) -> None:
    joined(tmp_path / "r")
    base = {**instant.BASE, "gamma": 1.0}
    del base["lr0"]
    with pytest.raises(UsageError, match=r"other hyps \(\+gamma, -lr0\)"):
        agree(
            Files(tmp_path / "r"),
            Definition(generations=5, base=base, layout=YOLOV5),
            budget=None,
        )


def test_a_torn_line_is_set_aside_with_a_message(tmp_path: Path) -> None:
    results = tmp_path / "r"
    study = joined(results)
    evolve(study, 2)
    with (results / "evolve.csv").open("ab") as file:
        file.write(b"      0.123,   0.4")
    reservation = asked(study)
    progress = study.tell(reservation, instant.result(reservation.hyp))
    assert "ended in the middle of a line" in str(progress.message)
    assert b"0.123" in (results / "evolve.csv.torn").read_bytes()
    assert len(table(results)) == 3
    evolve(study, 1)


def test_a_diverged_training_is_never_a_parent_or_the_best(tmp_path: Path) -> None:
    study = joined(tmp_path / "r")
    nan = float("nan")
    reservation = asked(study)
    progress = study.tell(reservation, Result((nan,) * 7, 0.0, 1.0))
    assert progress.best is None
    assert progress.finished == 1
    assert not (tmp_path / "r" / "hyp_evolve.yaml").exists()
    evolve(study, 3)
    assert len(table(tmp_path / "r")) == 4


def test_best_is_what_the_table_says(tmp_path: Path) -> None:
    study = joined(tmp_path / "r")
    evolve(study, 25)
    best = history.read(tmp_path / "r" / "evolve.csv").best
    assert best
    text = (tmp_path / "r" / "hyp_evolve.yaml").read_text()
    assert yaml.safe_load(text) == pytest.approx(dict(best.hyp))
    assert all(isinstance(value, float) for value in yaml.safe_load(text).values())


def test_nothing_new_can_be_drawn(tmp_path: Path) -> None:
    bounds = {"a": Bounds(1, 0.0, 0.00002)}
    search = Search(base={"a": 0.00001}, space=bounds, layout=YOLOV5, sampler="random", seed=0)
    (tmp_path / "r").mkdir()
    wanted = Definition(generations=9, base=search.base, layout=YOLOV5)
    agree(Files(tmp_path / "r"), wanted, budget=9)
    study = Study(tmp_path / "r", search, myself("w", "w"))
    seen = [asked(study)]
    told_one = Result((0.0,) * 7, 0.0, 1.0)
    for _ in range(2):
        study.tell(seen[-1], told_one)
        seen.append(asked(study))
    with pytest.raises(TmuxEvolveError, match=r"widen evolve\.space"):
        Study(tmp_path / "r", search, myself("other", "other")).ask()
    assert sorted(r.hyp["a"] for r in seen) == [0.0, 1e-05, 2e-05]


def test_the_space_is_kept(tmp_path: Path) -> None:
    study = joined(tmp_path / "r")
    for hyp in evolve(study, 60)[1:]:
        for name, bounds in META.items():
            assert bounds.lower <= hyp[name] <= bounds.upper
            if not bounds.gain:
                assert hyp[name] == instant.BASE[name]


class Many(RuleBasedStateMachine):
    """Any order of calls by four workers, some of which vanish."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.results = Path(self.folder.name) / "r"
        self.workers = {f"w{i}": joined(self.results, f"w{i}", budget=12) for i in range(4)}
        self.held: dict[str, Reservation] = {}
        self.rows = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    free = precondition(lambda self: len(self.held) < 4)
    some = precondition(lambda self: self.held)

    @free
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([n for n in self.workers if n not in self.held]))
        reservation = self.workers[name].ask()
        left = 12 - self.rows
        assert (reservation is None) == (len(self.held) >= left)
        if reservation:
            keys = [rows.key(r.hyp, NAMES) for r in self.held.values()]
            assert rows.key(reservation.hyp, NAMES) not in keys
            self.held[name] = reservation

    @some
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        told(self.workers[name], self.held.pop(name))
        self.rows += 1

    @some
    @rule(data=st.data(), skip=st.booleans())
    def fail(self, data: st.DataObject, skip: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.workers[name].fail(self.held[name], "why", skip=skip)
        if skip:
            del self.held[name]

    @some
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.workers[name].give_back(self.held.pop(name))

    @rule(data=st.data())
    def begin_anew(self, data: st.DataObject) -> None:
        """The worker loses all it knew; what it held is its own to take up."""
        name = data.draw(st.sampled_from(sorted(self.workers)))
        if name in self.held:
            self.workers[name].give_back(self.held.pop(name))
        self.workers[name] = joined(self.results, name)

    @invariant()
    def is_whole(self) -> None:
        if self.rows:
            lines = table(self.results)
            assert len(lines) == distinct(lines) == self.rows


TestMany = Many.TestCase
TestMany.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("step", ["write", "append", "replace", "sync"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_death_at_every_step_of_ask_and_tell(tmp_path: Path, step: str, when: str) -> None:
    """A worker dies at the n-th write of its life, for every n: others finish the budget."""
    results = tmp_path / "r"
    results.mkdir()
    instant.define(results, 12)
    code = (
        "import os, sys, study_worker as i; from pathlib import Path\n"
        "from tmuxevolve.study import files\n"
        "step, when, n = sys.argv[2], sys.argv[3], int(sys.argv[4])\n"
        "real, calls = getattr(files, step), [0]\n"
        "def dying(*a, **k):\n"
        "    calls[0] += 1\n"
        "    if calls[0] == n and when == 'before': os._exit(9)\n"
        "    real(*a, **k)\n"
        "    if calls[0] == n: os._exit(9)\n"
        "setattr(files, step, dying)\n"
        "i.work(Path(sys.argv[1]), f'{step}{n}')"
    )
    died = 0
    for number in range(1, 6):
        argv = [sys.executable, "-c", code, str(results), step, when, str(number)]
        env = {**os.environ, "PYTHONPATH": str(WORKER.parent)}
        died += subprocess.run(argv, env=env, check=False, timeout=60).returncode == 9
    assert died
    subprocess.run([sys.executable, WORKER, results, "last"], check=True, timeout=60)
    lines = table(results)
    assert len(lines) == distinct(lines) == 12


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of every line fits, once at each of the first writes; then there is room again."""
    results = tmp_path / "r"
    study = joined(results, budget=30)
    real, full = os.write, random.Random(0)

    def short(descriptor: int, data: bytes) -> int:
        cut = full.random() < 0.5 and len(data) > 100
        return real(descriptor, data[: len(data) // 2] if cut else data)

    monkeypatch.setattr(files.os, "write", short)
    refused = 0

    def insist(call: object, *arguments: object) -> object:
        nonlocal refused
        while True:
            try:
                return call(*arguments)  # type: ignore[operator]
            except OSError:
                refused += 1

    while reservation := insist(study.ask):
        assert isinstance(reservation, Reservation)
        insist(told, study, reservation)
    assert refused > 10
    lines = table(results)
    assert len(lines) == distinct(lines) == 30


def test_an_unwritable_directory_says_so_and_can_be_tried_again(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    study = joined(tmp_path / "r")
    reservation = asked(study)
    (tmp_path / "r").chmod(0o500)
    with pytest.raises(OSError, match=r"evolve\.csv"):
        told(study, reservation)
    (tmp_path / "r").chmod(0o700)
    told(study, reservation)
    assert len(table(tmp_path / "r")) == 1


def stress(results: Path, workers: int, budget: int, pause: float) -> tuple[int, float]:
    """Run workers, kill one at random moments, begin a new one for it; return kills, seconds."""
    results.mkdir()
    instant.define(results, budget)
    dice, begun, kills = random.Random(0), time.monotonic(), 0
    started = 0

    def start() -> subprocess.Popen[bytes]:
        nonlocal started
        started += 1
        return subprocess.Popen([sys.executable, WORKER, results, f"w{started}"])

    running = [start() for _ in range(workers)]
    while any(child.poll() is None for child in running):
        time.sleep(dice.uniform(0, 2 * pause))
        victim = dice.randrange(workers)
        if running[victim].poll() is None:
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            kills += 1
            running[victim] = start()
    # The last one may have been killed with a reservation that nobody was left to take up.
    subprocess.run([sys.executable, WORKER, results, "last"], check=True)
    return kills, time.monotonic() - begun


def verify(results: Path, budget: int) -> None:
    lines = table(results)
    assert len(lines) == distinct(lines) == budget
    returned = [n for f in results.parent.glob("*.told") for n in f.read_text().splitlines()]
    assert len(returned) == len(set(returned)) <= budget
    events = (results / "study" / "journal.jsonl").read_text().splitlines()
    assert len(events) >= budget


def test_workers_killed_at_random_lose_nothing(tmp_path: Path) -> None:
    kills, _ = stress(tmp_path / "r", workers=6, budget=400, pause=0.3)
    verify(tmp_path / "r", 400)
    assert kills


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_sixteen_workers_with_two_thousand_each(tmp_path: Path) -> None:
    kills, seconds = stress(tmp_path / "r", workers=16, budget=32_000, pause=0.5)
    verify(tmp_path / "r", 32_000)
    print(f"\n32,000 generations, {kills} kills, {seconds:.0f} s")
