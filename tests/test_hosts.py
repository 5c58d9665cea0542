"""Several machines at one study: heartbeats, clocks, and hosts that go away and come back."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import study_worker as instant
from support import Box, poll
from test_study import NAMES, asked, distinct, joined, table, told

from tmuxevolve.session import evolve
from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import FORGOTTEN, STALE, Identity, Register, myself
from tmuxevolve.study.rows import YOLOV5
from tmuxevolve.study.study import Study
from tmuxevolve.study.survey import survey


def far(results: Path, worker: str, host: str = "far", **fields: Any) -> Study:
    """Return a worker that looks to this machine like one of another."""
    study = joined(results, worker)
    mine = msgspec.structs.replace(
        myself(worker, "gpu2", "Tesla T4"), host=host, machine=f"boot of {host}", **fields
    )
    Register(study.files.workers).enter(mine)
    return study


def age(study: Study, worker: str, seconds: float) -> None:
    """Set a heartbeat back, as time would."""
    at = time.time() - seconds
    os.utime(study.files.workers / f"{worker}.json", (at, at))


def test_old_files_without_the_new_fields_are_read() -> None:
    old = {"worker": "w", "slot": "gpu0", "host": "h", "machine": "m", "pid": 1, "born": 2}
    found = msgspec.json.decode(json.dumps({**old, "started": 3.0}), type=Identity)
    assert (found.device, found.job, found.ahead) == ("", "", 0.0)


def test_a_survey_lists_the_workers_of_all_hosts(tmp_path: Path) -> None:
    here, there = joined(tmp_path / "r", "here"), far(tmp_path / "r", "there", job="17")
    asked(here)
    asked(there)
    lost = far(tmp_path / "r", "lost")
    age(lost, "lost", STALE + 20)
    found = survey(tmp_path / "r")
    assert found
    seen = {w.worker: w for w in found.workers}
    assert [(w.generation, w.alive, w.here) for w in (seen["here"], seen["there"])] == [
        (0, True, True),
        (1, True, False),
    ]
    assert (seen["there"].device, seen["there"].job, seen["there"].slot) == (
        *("Tesla T4", "17"),
        "gpu2",
    )
    assert not seen["lost"].alive
    assert STALE + 15 < seen["lost"].seen < STALE + 60
    age(lost, "lost", 4000)
    assert "lost" not in {w.worker for w in survey(tmp_path / "r").workers}  # type: ignore[union-attr]


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_clock_that_is_wrong_by_an_hour_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    there = far(tmp_path / "r", "there")
    asked(there)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + off)
    here = joined(tmp_path / "r", "here")
    assert asked(here).number == 1, "there is alive"
    found = survey(tmp_path / "r")
    assert found
    assert {w.worker: w.alive for w in found.workers} == {"here": True, "there": True}
    assert all(w.seen < 60 for w in found.workers)


def test_a_host_comes_back_after_its_generation_was_taken_over(tmp_path: Path) -> None:
    there = far(tmp_path / "r", "there")
    mine = asked(there)
    age(there, "there", STALE + 1)
    here = joined(tmp_path / "r", "here")
    again = asked(here)
    assert (again.number, dict(again.hyp)) == (mine.number, dict(mine.hyp))
    there.beat()
    there.fail(mine, "it was cut off", skip=True)
    there.give_back(mine)
    told(there, mine)
    told(here, again)
    assert len(table(tmp_path / "r")) == 1
    assert asked(there).number != asked(here).number


def test_files_of_the_dead_are_swept_and_one_that_comes_back_enters_again(tmp_path: Path) -> None:
    there, other = far(tmp_path / "r", "there"), far(tmp_path / "r", "young")
    mine = asked(there)
    age(there, "there", FORGOTTEN + 1)
    age(other, "young", FORGOTTEN - 60)
    left = there.files.workers / ".torn.json.1.tmp"
    left.touch()
    os.utime(left, (0, 0))
    own = joined(tmp_path / "r", "own")
    age(own, "own", FORGOTTEN + 1)
    asked(joined(tmp_path / "r", "here"))
    names = {path.name for path in there.files.workers.iterdir()}
    assert names == {"young.json", "own.json", "here.json"}, "what lives here stays"
    there.beat()
    assert (there.files.workers / "there.json").exists()
    told(there, mine)
    there.leave()
    with pytest.raises(FileNotFoundError):
        there.beat()
    assert len(table(tmp_path / "r")) == 1


def test_the_same_window_on_two_hosts_of_the_same_name(tmp_path: Path) -> None:
    one = far(tmp_path / "r", "gpu2-1", host="gpubox")
    two = joined(tmp_path / "r", "gpu2-2")
    other = msgspec.structs.replace(
        myself("gpu2-2", "gpu2"), host="gpubox", machine="another container"
    )
    Register(two.files.workers).enter(other)
    assert asked(one).number != asked(two).number
    found = survey(tmp_path / "r")
    assert found
    assert len(found.at_work) == 2
    assert [w.here for w in found.workers] == [False, False]


def test_another_hosts_budget_counts_when_it_is_larger(tmp_path: Path) -> None:
    joined(tmp_path / "r", budget=5)
    where = Files(tmp_path / "r")
    for wanted, agreed in ((3, 5), (8, 8), (4, 8)):
        mine = Definition(generations=wanted, base=instant.BASE, layout=YOLOV5)
        assert agree(where, mine, budget=None).generations == agreed


def test_nothing_is_mended_while_a_worker_of_any_host_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "r"
    there = far(results, "there")
    told(there, asked(there))
    csv = results / "evolve.csv"
    damaged = csv.read_bytes() + b"0.1,0.2"
    csv.write_bytes(damaged)
    session: Any = msgspec.defstruct("S", [("results", Path)])(results)
    job: Any = msgspec.defstruct("J", [("columns", Any), ("evolution", Any)])(
        (*YOLOV5.metrics, *NAMES), True
    )
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    assert evolve._mend(job, session) == ()
    assert csv.read_bytes() == damaged
    age(there, "there", 3600 + STALE + 1)
    assert "1 rows kept" in evolve._mend(job, session)[0]


def test_a_file_system_that_is_away_for_a_while_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call fails for some time, with what NFS says; another host goes on meanwhile."""
    results, dice = tmp_path / "r", random.Random(1)
    study, other = joined(results, "here", budget=40), far(results, "there")
    away = refused = 0

    def flaky(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal away
            if away or dice.random() < 0.01:
                away = (away or 15) - 1
                code = dice.choice([errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
                raise OSError(code, os.strerror(code))
            return real(*arguments, **named)

        return call

    def insist(call: Any, *arguments: Any) -> Any:
        nonlocal refused
        while True:
            with monkeypatch.context() as patch:
                for name in ("open", "stat", "utime", "fsync", "write", "unlink"):
                    patch.setattr(os, name, flaky(getattr(os, name)))
                patch.setattr("io.open", flaky(open))
                try:
                    return call(*arguments)
                except OSError:
                    refused += 1

    while reservation := insist(study.ask):
        insist(study.tell, reservation, instant.result(reservation.hyp))
        if dice.random() < 0.3 and (theirs := other.ask()):
            told(other, theirs)
    lines = table(results)
    assert len(lines) == distinct(lines) == 40
    assert refused > 20


TRAINER = """
import json, pathlib, sys, time
lr, output = sys.argv[1:]
time.sleep(0.3)
while pathlib.Path("hold").exists():
    time.sleep(0.02)
(pathlib.Path(output) / "r.json").write_text(json.dumps({"fitness": 1 - abs(float(lr) - 0.03)}))
"""


class Host:
    """A machine of its own name, network, mounts and processes, over this one's files."""

    def __init__(self, box: Box, name: str) -> None:
        self.box = box
        kinds = ("--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        script = f"hostname {name}; touch {box.root}/{name}.up; exec sleep 1000"
        self._outside = subprocess.Popen(["unshare", *kinds, "sh", "-c", script], env=box.env)
        poll(lambda: (box.root / f"{name}.up").exists() or self._outside.poll())
        (self._init,) = psutil.Process(self._outside.pid).children()
        (box.sockets / name).mkdir()
        self._env = {**box.env, "TMUX_TMPDIR": str(box.sockets / name)}

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        kinds = ("--net", "--uts", "--mount", "--pid")
        argv = ["nsenter", "-t", str(self._init.pid), *kinds, f"--wd={self.box.root}"]
        return subprocess.run(
            [*argv, sys.executable, "-m", "tmuxevolve", *args],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def power_off(self) -> None:
        """End all of its processes at once, as the kernel does with the first one's end."""
        if self._outside.poll() is None:
            self._init.kill()
            self._outside.wait(20)


def namespaces_are_missing() -> bool:
    unshare = shutil.which("unshare")
    argv = [str(unshare), "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    return not unshare or subprocess.run(argv, capture_output=True, check=False).returncode != 0


@pytest.fixture
def machines(box: Box) -> Iterator[tuple[Host, Host]]:
    if namespaces_are_missing():
        pytest.skip("no namespaces: needs root, and unshare and nsenter of util-linux")
    (box.root / "trainer.py").write_text(TRAINER)
    box.session(
        command=[sys.executable, str(box.root / "trainer.py"), "{hyp.lr}", "{output}"],
        evolve={
            "generations": 24,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "fitness"},
        },
    )
    both = Host(box, "alpha"), Host(box, "beta")
    yield both
    for host in both:
        host.power_off()


def test_two_hosts_share_a_study_and_one_is_switched_off(
    box: Box, machines: tuple[Host, Host]
) -> None:
    alpha, beta = machines
    results = box.root / "results"

    def rows_() -> list[str]:
        path = results / "evolve.csv"
        return path.read_text().splitlines()[1:] if path.exists() else []

    for host in machines:
        done = host.cli("start")
        assert done.returncode == 0, done
    poll(lambda: len(rows_()) >= 4)
    # On a slow machine the budget would be spent before the looks and the power cut.
    (box.root / "hold").touch()
    shown = beta.cli("status").stdout
    assert "HOST   WINDOW  GPU  GEN  LAST SEEN" in shown, shown
    assert [line.split()[:3] for line in shown.splitlines() if line.startswith("alpha")] == [
        ["alpha", "cpu0", "CPU"],
        ["alpha", "cpu1", "CPU"],
    ]
    login = box.cli("status", "demo")
    assert login.returncode == 0, login
    assert {line.split()[0] for line in login.stdout.splitlines() if " ago" in line} == {
        "alpha",
        "beta",
    }
    alpha.power_off()
    assert len(rows_()) < 24
    for path in (results / "study" / "workers").glob("*.json"):
        if msgspec.json.decode(path.read_bytes(), type=Identity).host == "alpha":
            os.utime(path, (time.time() - STALE - 5,) * 2)
    (box.root / "hold").unlink()
    # Without what alpha held this would never be.
    poll(lambda: len(rows_()) == 24)
    poll(lambda: "running" not in beta.cli("status").stdout)
    assert len({row.split(",")[1] for row in rows_()}) == len(rows_()) == 24
    assert ", lost" in beta.cli("status").stdout
    assert sorted(p.name for p in (results / "logs").iterdir()) == ["alpha", "beta"]
    over = box.cli("status", "demo")
    assert over.returncode == 4
    assert "24 of 24" in over.stdout


def test_stop_names_the_hosts_that_go_on(box: Box, machines: tuple[Host, Host]) -> None:
    for host in machines:
        assert host.cli("start", "--generations", "500").returncode == 0
    alpha, beta = machines
    done = alpha.cli("stop")
    assert "2 workers on other hosts go on: beta" in done.stdout
    assert "running" in beta.cli("status").stdout
    assert "other hosts" not in beta.cli("stop").stdout


def test_status_of_what_runs_nowhere(box: Box) -> None:
    box.session(evolve={"mode": "native"})
    for words in (["demo"], ["nope"]):
        done = box.cli("status", *words)
        assert (done.returncode, done.stdout) == (4, "")
        assert "is not running" in done.stderr
    assert "no such file" in box.cli("status", "demo", "-f", "nowhere.yaml").stderr
