"""A results directory that fills up, is read-only, goes away, or becomes another one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import Box, box_processes, poll, recorders

from tmuxevolve.study import files, history
from tmuxevolve.study.rows import Layout

LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))
TRAINER = """
import json, pathlib, sys, time
lr, output = sys.argv[1:]
hold = pathlib.Path(__file__).with_name("hold")
pathlib.Path(__file__).with_name("begun").touch()
while hold.exists(): time.sleep(0.02)
(pathlib.Path(output) / "r.json").write_text(json.dumps({"map": float(lr)}))
"""

# They hold nothing.
LOCKS = {"lock", "queue"}


@pytest.fixture
def small_disk(box: Box) -> Iterator[Path]:
    """Return a results directory of 1 MB of its own."""
    results = box.root / "results"
    results.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(results)]
    if os.getuid() or subprocess.run(argv, check=False).returncode:
        pytest.skip("needs to mount a tmpfs")
    yield results
    box.close()
    subprocess.run(["umount", "-l", str(results)], check=True)


def study(box: Box, name: str = "demo", **keys: Any) -> None:
    (box.root / "trainer.py").write_text(TRAINER)
    evolve = {
        "generations": 8,
        "hyp": {"lr": 0.01},
        "space": {"lr": {"min": 0.001, "max": 0.1}},
        "fitness": {"file": "r.json", "key": "map"},
        **keys.pop("evolve", {}),
    }
    command = [sys.executable, "-S", str(box.root / "trainer.py"), "{hyp.lr}", "{output}"]
    restart = {"backoff": 0.1, "attempts": 100, "max_consecutive_failures": 1000}
    box.session(name, command=command, evolve=evolve, restart=restart, **keys)


def rows(results: Path) -> list[float]:
    found = history.read(results / "evolve.csv", LAYOUT)
    assert found.problem is None
    return [generation.hyp["lr"] for generation in found.generations]


def screen(box: Box, window: str = "0") -> str:
    return box.tmux("capture-pane", "-pJt", f"=demo:{window}")


def over(box: Box) -> bool:
    return all(w["exit_status"] is not None for w in box.status().values())


def fill(results: Path) -> None:
    with suppress(OSError), (results / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096) == 4096:
            pass


def test_a_disk_that_fills_up_loses_nothing(box: Box, small_disk: Path) -> None:
    study(box)
    (box.root / "hold").touch()
    box.cli("start")
    poll((box.root / "begun").exists)
    fill(small_disk)
    (box.root / "hold").unlink()
    poll(lambda: "No space left on device" in screen(box), 30)
    before = rows(small_disk)
    (small_disk / "filler").unlink()
    poll(lambda: over(box), 60)
    after = rows(small_disk)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) == 8


def test_starting_on_a_full_disk_is_one_line(box: Box, small_disk: Path) -> None:
    study(box)
    fill(small_disk)
    done = box.cli("start")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "sessions.demo.results: cannot use" in done.stderr
    assert box_processes(box) == []


def test_a_read_only_disk_is_one_line(box: Box, small_disk: Path) -> None:
    study(box)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = box.cli("start")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"cannot use {small_disk}: " in done.stderr


def test_a_directory_that_is_deleted_under_a_running_study(box: Box) -> None:
    study(box)
    results = box.root / "results"
    (box.root / "hold").touch()
    box.cli("start")
    poll((box.root / "begun").exists)
    shutil.rmtree(results)
    assert "the study is gone" in box.cli("status").stdout
    (box.root / "hold").unlink()
    poll(lambda: "tries again" in screen(box) or over(box))
    # What is on the screen is the trainer's own; the worker goes on.
    assert {w["state"] for w in box.status().values()} <= {"running", "waiting", "failed"}
    assert box.cli("stop").returncode == 0
    poll(lambda: box_processes(box) == [])
    assert box.cli("start").returncode == 0
    poll(lambda: over(box))
    assert len(set(rows(results))) == 8


@pytest.mark.parametrize("another", ["a study", "nothing"])
def test_a_link_swapped_in_for_the_directory(box: Box, another: str) -> None:
    """What is finished does not end in somebody else's study."""
    results, other = box.root / "results", box.root / "other"
    study(box, results=str(other), evolve={"generations": 2})
    if another == "a study":
        box.cli("start")
        poll(lambda: over(box))
        box.cli("stop")
        poll(lambda: not recorders(box))
    else:
        (other / "study").mkdir(parents=True)
    before = {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}
    study(box, cpu_slots=1)
    (box.root / "hold").touch()
    box.cli("start")
    poll(lambda: box.status()["cpu0"]["pid"])
    results.rename(box.root / "elsewhere")
    results.symlink_to(other)
    (box.root / "hold").unlink()
    poll(lambda: over(box))
    reason = box.status()["cpu0"]["reason"]
    expected = "another study has taken this one's place" if before else "is gone: run tmuxevolve"
    assert expected in reason
    after = {p: p.read_bytes() for p in other.rglob("*") if p.is_file() and p.name not in LOCKS}
    assert {p: d for p, d in before.items() if p.name not in LOCKS} == {
        p: d for p, d in after.items() if "generations" not in p.parts or p in before
    }


def test_links_in_place_of_our_files_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    for name in ("evolve.csv", f".hyp_evolve.yaml.{os.getpid()}.tmp", "journal.jsonl"):
        (tmp_path / name).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        history.append(tmp_path / "evolve.csv", [0.5], {"lr": 1.0}, LAYOUT)
    with pytest.raises(OSError, match="symbolic links"):
        files.append(tmp_path / "journal.jsonl", b"x\n")
    files.replace(tmp_path / "hyp_evolve.yaml", "lr: 1.0\n")
    assert (tmp_path / "hyp_evolve.yaml").read_text() == "lr: 1.0\n"
    assert victim.read_text() == ""


def test_a_link_in_place_of_a_generations_folder_is_not_emptied(box: Box) -> None:
    precious = box.root / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    study(box, cpu_slots=1, evolve={"generations": 1})
    (box.root / "hold").touch()
    box.cli("start")
    poll((box.root / "begun").exists)
    folder = box.root / "results" / "generations" / "0000"
    box.cli("stop")
    shutil.rmtree(folder)
    folder.symlink_to(precious)
    (box.root / "hold").unlink()
    box.cli("start")
    poll(lambda: over(box))
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert len(rows(box.root / "results")) == 1


def test_two_studies_in_one_directory_are_refused_by_name(box: Box) -> None:
    study(box, "first", cpu_slots=1)
    (box.root / "hold").touch()
    box.cli("start")
    poll(lambda: box.status()["cpu0"]["pid"])
    study(box, "second", cpu_slots=1, evolve={"hyp": {"lr": 0.02}})
    refused = box.cli("start")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "(lr: 0.01 there, 0.02 here)" in refused.stderr
    study(box, "third", cpu_slots=1, evolve={"hyp": {"lr": 0.01, "wd": 1}})
    refused = box.cli("start")
    assert refused.returncode == 2
    assert "+wd" in refused.stderr
    # Those that agree share it.
    study(box, "fourth", cpu_slots=1)
    assert box.cli("start").returncode == 0
    (box.root / "hold").unlink()
    poll(lambda: over(box))
    assert len(set(rows(box.root / "results"))) == 8
    study(box, "second", cpu_slots=1, evolve={"hyp": {"lr": 0.02}, "generations": 9})
    assert box.cli("start").returncode == 0


def test_an_older_study_has_no_id_and_is_continued(box: Box) -> None:
    study(box, evolve={"generations": 2})
    box.cli("start")
    poll(lambda: over(box))
    path = box.root / "results" / "study" / "study.json"
    old = json.loads(path.read_text())
    assert len(old.pop("id")) == 16
    path.write_text(json.dumps(old))
    assert box.cli("start", "--generations", "4").returncode == 0
    poll(lambda: over(box))
    assert len(set(rows(box.root / "results"))) == 4
