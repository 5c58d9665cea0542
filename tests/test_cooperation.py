"""Cooperative sessions from start to stop, with a small program as the trainer."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support import Box, Viewer, box_processes, command_line, poll

from tmuxevolve.study import history
from tmuxevolve.study.rows import Layout

pytestmark = pytest.mark.either

LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))

# What it does is in a file, so that a test can change it while the session runs.
TRAINER = """
import json, os, pathlib, sys, time
hyp, lr, output, generation, seed = sys.argv[1:]
how = json.loads(pathlib.Path("how.json").read_text())
print("training", generation, flush=True)
if "wait_for" in how:
    while not pathlib.Path(how["wait_for"]).exists():
        time.sleep(0.02)
if how.get("fail") == "oom":
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
if how.get("fail") == "exit":
    sys.exit(3)
if how.get("fail") == "nothing":
    sys.exit(0)
found = {"val": {"map": 1 - abs(float(lr) - 0.03)}}
(pathlib.Path(output) / "r.json").write_text(json.dumps(found))
"""


@pytest.fixture
def study(box: Box) -> Any:
    """Return a function that writes a session of this trainer."""

    def write(how: dict[str, Any] | None = None, evolve: Any = None, **keys: Any) -> Path:
        (box.root / "trainer.py").write_text(TRAINER)
        behave(box, **(how or {}))
        box.session(
            command=[
                *(sys.executable, str(box.root / "trainer.py"), "{hyp}", "{hyp.lr}"),
                *("{output}", "{generation}", "{seed}"),
            ],
            evolve={
                "generations": 8,
                "hyp": {"lr": 0.01, "still": 5},
                "space": {"lr": {"min": 0.001, "max": 0.1}},
                "fitness": {"file": "r.json", "key": "val.map"},
                **(evolve or {}),
            },
            **{"restart": {"backoff": 0}, **keys},
        )
        return box.root / "results"

    return write


def behave(box: Box, **how: Any) -> None:
    (box.root / "how.tmp").write_text(json.dumps(how))
    (box.root / "how.tmp").replace(box.root / "how.json")


def over(box: Box) -> dict[str, Any]:
    """Wait for the end of all windows."""
    return poll(
        lambda: (w := box.status()) and all(i["exit_status"] is not None for i in w.values()) and w,
        60,
    )


def generations(results: Path) -> list[history.Generation]:
    return list(history.read(results / "evolve.csv", LAYOUT).generations)


def test_a_budget_is_shared_and_every_generation_is_another(box: Box, study: Any) -> None:
    results = study()
    assert box.cli("start").returncode == 0
    windows = over(box)
    assert {w["exit_status"] for w in windows.values()} == {0}
    found = generations(results)
    assert len({tuple(g.hyp.items()) for g in found}) == len(found) == 8
    assert {g.hyp["still"] for g in found} == {5.0}
    assert found[0].hyp["lr"] == 0.01 or found[1].hyp["lr"] == 0.01
    folders = sorted((results / "generations").iterdir())
    assert [folder.name for folder in folders] == [f"{n:04}" for n in range(8)]
    for folder in folders:
        hyp = yaml.safe_load((folder / "hyp.yaml").read_text())
        assert hyp in [g.hyp for g in found]
        assert f"training {int(folder.name)}" in (folder / "train.log").read_text()
    best = yaml.safe_load((results / "hyp_evolve.yaml").read_text())
    assert best == max(found, key=lambda g: g.fitness).hyp
    assert "8 of 8" in box.cli("status").stdout


def test_start_again_continues_and_generations_raises_the_budget(box: Box, study: Any) -> None:
    results = study(evolve={"generations": 3})
    box.cli("start")
    over(box)
    done = box.cli("start")
    assert done.returncode == 0
    assert "the budget is spent" in done.stdout
    assert box.cli("start", "--generations", "5").returncode == 0
    poll(lambda: len(generations(results)) == 5)
    over(box)
    assert len(generations(results)) == 5


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        ("oom", "CUDA out of memory"),
        ("exit", "exit 3"),
        ("nothing", "no fitness: .*r.json: No such file"),
    ],
)
def test_failures_stop_the_window_and_status_names_them(
    box: Box, study: Any, fail: str, reason: str
) -> None:
    import re

    results = study({"fail": fail}, cpu_slots=1)
    box.cli("start")
    (window,) = over(box).values()
    assert window["exit_status"] == 1
    assert re.search(reason, window["reason"]), window
    assert "3 trainings failed here one after another" in window["reason"]
    assert re.search(reason.replace("/", ""), box.cli("status").stdout)
    assert not (results / "evolve.csv").exists(), "no fitness is made up"
    events = (results / "study" / "journal.jsonl").read_text()
    assert events.count('"reason"') == 3
    behave(box)
    box.cli("start")
    over(box)
    assert len(generations(results)) == 8


def test_a_failed_generation_is_tried_again_with_the_same_hyps(box: Box, study: Any) -> None:
    results = study({"fail": "exit"}, cpu_slots=1, restart={"backoff": "2s", "attempts": 5})
    box.cli("start")
    poll(lambda: "failed: " in box.hands.text(0))
    behave(box)
    over(box)
    assert generations(results)[0].hyp["lr"] == 0.01
    assert len(list((results / "generations" / "0000").glob("*train.log"))) == 2


def test_stop_gives_the_generation_back(box: Box, study: Any) -> None:
    results = study({"wait_for": str(box.root / "go")})
    box.cli("start")
    poll(lambda: len(list(results.glob("generations/*/hyp.yaml"))) == 2)
    assert box.cli("stop").returncode == 0
    poll(lambda: not [p for p in box_processes(box) if "trainer.py" in str(command_line(p))])
    before = [(results / "generations" / f"000{n}" / "hyp.yaml").read_text() for n in (0, 1)]
    (box.root / "go").touch()
    box.cli("start")
    over(box)
    found = generations(results)
    assert len(found) == 8
    for text in before:
        assert yaml.safe_load(text) in [g.hyp for g in found]
    assert len(list((results / "generations").iterdir())) == 8


def test_drain_waits_for_the_running_generations(box: Box, study: Any) -> None:
    results = study({"wait_for": str(box.root / "go")}, stop={"grace": 60})
    box.cli("start")
    poll(lambda: len(list(results.glob("generations/*/hyp.yaml"))) == 2)
    viewer = Viewer(box)
    viewer.run("tmuxevolve stop --drain; echo status $?")
    viewer.see("2 windows end after the generation running there")
    (box.root / "go").touch()
    viewer.see("status 0", 60)
    viewer.close()
    assert len(generations(results)) == 2
    assert box.cli("status").stdout.startswith("no session")


def test_ctrl_c_in_the_window_ends_it_and_gives_the_generation_back(box: Box, study: Any) -> None:
    results = study({"wait_for": str(box.root / "go")}, cpu_slots=1)
    box.cli("start")
    poll(lambda: "training 0" in box.hands.text(0))
    box.hands.press(0, "C-c")
    (window,) = over(box).values()
    assert window["exit_status"] == 130
    assert '{"type":"back","number":0,' in (results / "study" / "journal.jsonl").read_text()


def test_a_killed_workers_generation_is_finished_by_another(box: Box, study: Any) -> None:
    results = study({"wait_for": str(box.root / "go")})
    box.cli("start")
    poll(lambda: len(list(results.glob("generations/*/hyp.yaml"))) == 2)
    worker = next(p for p in box_processes(box) if "worker_entry" in " ".join(command_line(p)[:5]))
    trainers = worker.children()
    worker.send_signal(signal.SIGKILL)
    for trainer in trainers:
        trainer.kill()
    psutil.wait_procs([worker, *trainers], timeout=10)
    (box.root / "go").touch()
    poll(lambda: (results / "evolve.csv").exists() and len(generations(results)) == 8, 60)
    assert len(list((results / "generations").iterdir())) == 8


def test_a_result_that_cannot_be_written_is_kept_and_written_later(box: Box, study: Any) -> None:
    results = study({"wait_for": str(box.root / "go")}, cpu_slots=1)
    box.cli("start")
    poll(lambda: list(results.glob("generations/*/hyp.yaml")))
    # In the way of the file, for root too.
    (results / "evolve.csv").mkdir()
    (box.root / "go").touch()
    poll(lambda: "cannot write its result" in box.hands.text(0))
    (results / "evolve.csv").rmdir()
    over(box)
    assert len(generations(results)) == 8
    assert not list(results.glob("generations/0000/*.train.log")), "trained once"


def test_minimize(box: Box, study: Any) -> None:
    source = {"file": "r.json", "key": "val.map", "direction": "minimize"}
    results = study(evolve={"fitness": source, "generations": 4})
    box.cli("start")
    over(box)
    best = yaml.safe_load((results / "hyp_evolve.yaml").read_text())
    assert best == min(generations(results), key=lambda g: g.fitness).hyp


def test_dry_run_shows_a_generation_and_writes_nothing(box: Box, study: Any) -> None:
    results = study()
    done = box.cli("start", "--dry-run")
    assert done.returncode == 0
    assert f"{results}/generations/0000/hyp.yaml" in done.stdout
    assert not results.exists()


@pytest.mark.parametrize(
    ("evolve", "message"),
    [
        ({"space": {"lrx": "fixed"}}, "evolve.space.lrx: there is no such hyp; did you mean 'lr'"),
        ({"space": {"lr": {"min": 1}}}, "evolve.space.lr: give it both min and max"),
        ({"space": {}}, "evolve.space: no hyp can move"),
        ({"sampler": "optuna-tpee"}, "evolve.sampler"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    box: Box, study: Any, evolve: dict[str, Any], message: str
) -> None:
    study(evolve=evolve)
    done = box.cli("start")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
