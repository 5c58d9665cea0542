"""What Slurm's jobs are to us, without Slurm: comments, states, the session's keys."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Box

from tmuxevolve import batch, configfile, slurm
from tmuxevolve.errors import UsageError
from tmuxevolve.multiplexer import Facts, State
from tmuxevolve.session import jobs
from tmuxevolve.session.jobs import Posted
from tmuxevolve.slurm import Job, JobState

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


def facts(**others: Any) -> Facts:
    plain = {
        "worker": "job3-0123456789abcdef",
        "session": "demo",
        "slot": "job3",
        "trainer": "yolov5",
        "command": "python train.py",
        "results": "/runs/search",
        "started": 1.0,
        "stop_signal": "SIGINT",
        "stop_grace": 30.0,
        "role": jobs.ROLE,
    }
    return Facts(**{**plain, **others})


def job(state: JobState, **others: Any) -> Job:
    return Job(**{"id": "12", "state": state, "reason": "None", "node": "", **others})


@given(session=TEXT, command=TEXT, results=TEXT)
def test_facts_survive_squeue(session: str, command: str, results: str) -> None:
    known = facts(session=session, command=command, results=results)
    comment = jobs.comment(known)
    assert comment.isascii()
    assert not re.search(r"\s", comment)
    # As squeue prints it: a line, fields with bars between them.
    found = slurm._parse(f"12|RUNNING|None|node0|{comment}")
    (read,) = [f for f in [jobs._facts(found.comment)] if f]
    assert (read.session, read.results, read.worker) == (session, results, known.worker)
    assert command.startswith(read.command)


@given(TEXT)
def test_other_peoples_comments_are_no_mistake(comment: str) -> None:
    assert jobs._facts(comment) is None
    assert jobs._facts(f"tmuxevolve:{comment}") is None


def test_every_state_is_one_of_three_kinds() -> None:
    over = {state for state in JobState if state.is_over()}
    queued = {state for state in JobState if state.is_queued()}
    assert not over & queued
    assert {*JobState} - over - queued == {
        *(JobState.RUNNING, JobState.SUSPENDED, JobState.STOPPED),
        *(JobState.COMPLETING, JobState.OTHER),
    }
    # A later Slurm's: whatever that is, it may still run.
    assert JobState("POWER_UP_NODE") is JobState.OTHER


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (JobState.PENDING, State.WAITING),
        (JobState.CONFIGURING, State.WAITING),
        (JobState.RUNNING, State.RUNNING),
        (JobState.COMPLETING, State.RUNNING),
        (JobState.OTHER, State.RUNNING),
        (JobState.COMPLETED, State.FINISHED),
        (JobState.CANCELLED, State.FAILED),
        (JobState.NODE_FAIL, State.FAILED),
        (JobState.TIMEOUT, State.FAILED),
    ],
)
def test_our_word_for_slurms_state(state: JobState, expected: State) -> None:
    posted = Posted(facts(), job(state))
    assert jobs.state(posted.window, posted.job) is expected
    assert (posted.window.index, posted.window.name, posted.window.pane) == (3, "job3", "")


def test_what_slurm_has_forgotten_is_gone_unless_its_window_has_seen_the_end() -> None:
    import msgspec

    window = Posted(facts(), job(JobState.RUNNING)).window
    assert jobs.state(window, None) is State.GONE
    ended = msgspec.structs.replace(window, dead=True, dead_status=0)
    assert jobs.state(ended, None) is State.FINISHED


def test_the_warning_leaves_time_for_a_trainer_to_end() -> None:
    assert batch.warning(30.0) == 120
    assert batch.LIMIT.name == "SIGHUP"


def load(folder: Path, **keys: Any) -> Any:
    path = folder / "sessions.yaml"
    entry = {"command": ["train"], "trainer": "command", "results": "r", "launcher": "slurm"}
    path.write_text(json.dumps({"sessions": {"demo": {**entry, **keys}}}))
    return configfile.load(path).session("demo", {})


WORKERS = {"slurm": {"workers": 2}}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"launcher: say how many jobs"),
        ({"slurm": {}}, r"slurm: missing required field workers"),
        ({"slurm": {"workers": 0}}, r"slurm\.workers: 0: expected"),
        ({**WORKERS, "gpus": {"use": [0]}}, r"gpus: with launcher: slurm GPUs, memory and times"),
        ({**WORKERS, "cpu_slots": 2}, r"cpu_slots: with launcher: slurm"),
        ({**WORKERS, "schedule": "22:00-07:00"}, r"schedule: with launcher: slurm"),
        ({**WORKERS, "min_free_memory": "1G"}, r"min_free_memory: with launcher: slurm"),
        ({**WORKERS, "evolve": {"mode": "native"}}, r"evolve\.mode: launcher: slurm shares one"),
        ({"slurm": {"workers": 2, "extra": ["--signal=B:INT@5"]}}, r"--signal: tmuxevolve sets it"),
        ({"slurm": {"workers": 2, "extra": ["-Jname"]}}, r"-J: tmuxevolve sets it"),
        ({"launcher": "kubernetes"}, r"launcher: .*invalid enum value"),
    ],
)
def test_keys_that_do_not_go_together(tmp_path: Path, keys: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, **keys)
    assert len(str(caught.value).splitlines()) == 1


def test_slurm_beside_the_local_launcher_means_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, **WORKERS).slurm.workers == 2
    assert load(tmp_path, **WORKERS, launcher="local").slurm is None
    assert load(tmp_path, slurm={"workers": 1, "gres": "gpu:a100:1"}).slurm.on_gpu
    assert load(tmp_path, slurm={"workers": 1, "extra": ["--gpus-per-task=1"]}).slurm.on_gpu
    assert not load(tmp_path, slurm={"workers": 1, "partition": "cpu"}).slurm.on_gpu


def test_a_machine_without_slurm(box: Box, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("tmux", "env", "sh", "cat", "nice"):
        found = next(p for f in os.get_exec_path() if (p := Path(f) / name).exists())
        (programs / name).symlink_to(found)
    box.session(launcher="slurm", slurm={"workers": 1}, gpus={}, cpu_slots=0, evolve={})
    done = box.cli("start", env={"PATH": str(programs)})
    assert done.returncode == 5
    assert done.stderr == (
        "tmuxevolve: sbatch is not on the PATH: launcher: slurm needs Slurm's own\n"
    )
    done = box.cli("start", "--follow", env={"PATH": str(programs)})
    assert done.returncode in {2, 5}
    assert box.cli("status", env={"PATH": str(programs)}).stdout == "no session is running\n"


def test_a_machine_with_slurms_programs_and_no_cluster(box: Box, tmp_path: Path) -> None:
    programs = tmp_path / "opt" / "bin"
    programs.mkdir(parents=True)
    squeue = programs / "squeue"
    squeue.write_text("#!/bin/sh\necho called >>\"$0.log\"\necho 'squeue: error: no' >&2; exit 1\n")
    squeue.chmod(0o755)
    env = {"PATH": f"{programs}:{box.env['PATH']}"}
    assert box.cli("status", env=env).stdout == "no session is running\n"
    assert not Path(f"{squeue}.log").exists()
    # With a configuration it is asked; that it does not answer matters to nobody here.
    assert box.cli("status", env={**env, "SLURM_CONF": "x"}).stdout == "no session is running\n"
    assert Path(f"{squeue}.log").exists()
    (tmp_path / "opt" / "etc").mkdir()
    (tmp_path / "opt" / "etc" / "slurm.conf").touch()
    Path(f"{squeue}.log").unlink()
    assert box.cli("stop", env=env).stdout == "nothing is running\n"
    assert Path(f"{squeue}.log").exists()
