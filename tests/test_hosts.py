"""Two machines and one results directory: each host is a set of namespaces, with its own tmux."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import Box, command_line, poll

from tmuxevolve.study import history
from tmuxevolve.study.heartbeat import STALE
from tmuxevolve.study.rows import Layout

LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))

TRAINER = """
import json, pathlib, sys, time
lr, output, pace = sys.argv[1:]
until = pathlib.Path(pace)
began = time.monotonic()
while time.monotonic() - began < float(until.read_text()):
    time.sleep(0.02)
(pathlib.Path(output) / "r.json").write_text(json.dumps({"map": 1 - abs(float(lr) - 0.03)}))
"""


class Host:
    """A machine of its own: host name, network, processes, mounts; its clock is the kernel's."""

    def __init__(self, box: Box, name: str) -> None:
        self._box = box
        self.name = name
        self._sockets = Path(tempfile.mkdtemp(prefix="th", dir="/tmp"))
        argv = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc"]
        self._unshare = subprocess.Popen(
            [*argv, "sh", "-c", f"hostname {name}; exec sleep 1000"], stderr=subprocess.DEVNULL
        )
        here = psutil.Process(self._unshare.pid)
        inits = poll(lambda: [p for p in here.children() if command_line(p)[:1] == ["sleep"]])
        self._init = inits[0]

    def cli(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on this host."""
        enter = ["nsenter", "-t", str(self._init.pid), "--net", "--uts", "--pid", "--mount"]
        return subprocess.run(
            [*enter, "env", "-C", str(self._box.root), sys.executable, "-m", "tmuxevolve", *args],
            env={**self._box.env, "TMUX_TMPDIR": str(self._sockets), **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        done = self.cli("status", "--json")
        assert done.returncode == 0, done
        (session,) = json.loads(done.stdout)
        return dict(session)

    def power_off(self) -> None:
        """End every process of this host at once; nobody can say goodbye."""
        self._init.kill()
        self._unshare.wait(30)

    def close(self) -> None:
        self._unshare.poll()
        if self._unshare.returncode is None:
            self.power_off()
        shutil.rmtree(self._sockets, ignore_errors=True)


def unshares() -> bool:
    argv = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "true"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture
def hosts(box: Box) -> Iterator[list[Host]]:
    if not unshares():
        pytest.skip("no namespaces of one's own here (root has them)")
    (box.root / "trainer.py").write_text(TRAINER)
    pace(box, 1000)
    box.session(
        command=[
            *(sys.executable, str(box.root / "trainer.py"), "{hyp.lr}", "{output}"),
            str(box.root / "pace"),
        ],
        evolve={
            "generations": 12,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "map"},
        },
        restart={"backoff": 0},
    )
    made = [Host(box, "nodea"), Host(box, "nodeb")]
    yield made
    for host in made:
        host.close()


def pace(box: Box, seconds: float) -> None:
    """Say how long a training takes, those that are running too."""
    (box.root / "pace.tmp").write_text(str(seconds))
    (box.root / "pace.tmp").replace(box.root / "pace")


def rows(box: Box) -> list[history.Generation]:
    return list(history.read(box.root / "results" / "evolve.csv", LAYOUT).generations)


def exactly(box: Box, budget: int) -> None:
    found = rows(box)
    assert len(found) == len({g.hyp["lr"] for g in found}) == budget
    lines = (box.root / "results" / "study" / "journal.jsonl").read_text().splitlines()
    tells = [event["number"] for line in lines if (event := json.loads(line))["type"] == "tell"]
    assert len(tells) == len({*tells}) == budget


def at_work(host: Host) -> dict[str, Any]:
    """Return what a host sees of the workers, by host and window, once all four are at work."""

    def look() -> dict[str, Any] | None:
        seen = host.status()["workers"]
        busy = {f"{w['host']} {w['slot']}": w for w in seen if w["generation"] is not None}
        return busy if len(busy) == 4 else None

    found = poll(look)
    assert found
    return found


def test_two_hosts_share_a_study_and_each_sees_the_other(box: Box, hosts: list[Host]) -> None:
    first, second = hosts
    assert first.cli("start").returncode == 0
    assert second.cli("start").returncode == 0
    seen = at_work(first)
    assert sorted(seen) == ["nodea cpu0", "nodea cpu1", "nodeb cpu0", "nodeb cpu1"]
    assert {w["generation"] for w in seen.values()} == {0, 1, 2, 3}
    assert {w["device"] for w in seen.values()} == {"CPU"}
    assert {name: w["here"] for name, w in seen.items()} == {n: "nodea" in n for n in seen}
    text = second.cli("status").stdout
    table = text.partition("at work on the same results:\n")[2]
    assert re.search(
        r"^HOST +WINDOW +GPU +GEN +LAST SEEN\nnodea +cpu0 +CPU +\d +\d+s ago$", table, re.M
    )
    assert "nodeb" not in table
    # A machine that runs nothing of it: the sessions file says where to look.
    named = box.cli("status", "demo")
    assert named.returncode == 0
    assert {"nodea", "nodeb"} <= {*named.stdout.split()}
    assert box.cli("status").stdout == "no session is running\n"
    stopped = second.cli("stop")
    assert stopped.returncode == 0
    assert stopped.stdout.splitlines()[-1] == "workers on other hosts go on: nodea"
    # Its generations were given back, and the other host takes them.
    pace(box, 0.05)
    poll(lambda: len(rows(box)) == 12)
    exactly(box, 12)
    poll(lambda: all(w["state"] == "finished" for w in first.status()["windows"]))
    assert first.status()["workers"] == []
    assert box.cli("status", "demo").returncode == 4


def test_a_host_without_power_loses_nothing(box: Box, hosts: list[Host]) -> None:
    first, second = hosts
    first.cli("start")
    second.cli("start")
    lost = {w["worker"]: w for w in at_work(second).values() if w["host"] == "nodea"}
    first.power_off()
    pace(box, 0.05)
    # The others come to the end of what is not reserved; they cannot know yet.
    poll(lambda: len(rows(box)) == 10)
    windows = poll(lambda: all(w["state"] == "finished" for w in second.status()["windows"]))
    assert windows
    assert second.cli("start").returncode == 0
    alive = {w["worker"]: w["alive"] for w in second.status()["workers"]}
    assert alive == dict.fromkeys(lost, True)
    for worker in lost:
        path = box.root / "results" / "study" / "workers" / f"{worker}.json"
        before = path.stat().st_mtime - STALE - 60
        os.utime(path, (before, before))
    seen = second.cli("status").stdout
    assert re.search(r"^nodea +cpu0 +CPU +\d +4m\d*s? ago, taken for dead$", seen, re.MULTILINE), (
        seen
    )
    assert second.cli("start").returncode == 0
    poll(lambda: len(rows(box)) == 12)
    exactly(box, 12)


def test_two_hosts_of_one_name_are_two(box: Box, hosts: list[Host]) -> None:
    """Cloned images: the kernel's boot id and process namespace tell them apart."""
    first, second = hosts
    for host in hosts:
        enter = ["nsenter", "-t", str(host._init.pid), "--uts", "hostname", "clone"]
        subprocess.run(enter, check=True)
    first.cli("start")
    second.cli("start")

    def all_seen() -> bool:
        return len([w for w in first.status()["workers"] if w["generation"] is not None]) == 4

    poll(all_seen)
    assert sorted(w["here"] for w in first.status()["workers"]) == [False, False, True, True]
    pace(box, 0.05)
    poll(lambda: len(rows(box)) == 12)
    exactly(box, 12)
