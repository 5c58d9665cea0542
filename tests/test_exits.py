"""How commands end: exit codes as documented, readers that go away, full disks, Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from nvml_stub import NvmlStub
from support import Box, poll

COMMANDS = ("start", "attach", "status", "stop", "gpus")
VERSION = '[ "$1" = -V ] && { echo tmux 3.4; exit; }'


@pytest.fixture(autouse=True)
def buffered(box: Box) -> None:
    """Leave something to be flushed at the end, as there is for most people."""
    box.env.pop("PYTHONUNBUFFERED", None)


def fake_tmux(box: Box, script: str) -> None:
    """Put a tmux in front of the real one."""
    folder = box.root / "fake"
    folder.mkdir(exist_ok=True)
    path = folder / "tmux"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(stat.S_IRWXU)
    if not box.env["PATH"].startswith(str(folder)):
        box.env["PATH"] = f"{folder}:{box.env['PATH']}"


def nothing(box: Box) -> None:
    box.session()


def running(box: Box) -> None:
    box.session()
    assert box.cli("start").returncode == 0


def two_running(box: Box) -> None:
    entry = {
        "command": ["sleep", "1000"],
        "trainer": "command",
        "cpu_slots": 1,
        "gpus": {"use": "none"},
        "evolve": {"mode": "native"},
    }
    box.write(json.dumps({"sessions": {n: {**entry, "results": n} for n in ("one", "two")}}))
    for name in ("one", "two"):
        assert box.cli("start", name).returncode == 0


def no_file(box: Box) -> None:
    box.config.unlink(missing_ok=True)


def wrong_file(box: Box) -> None:
    box.write("sessions: {demo: {}}")


def no_tmux(box: Box) -> None:
    box.session()
    (box.root / "empty").mkdir()
    box.env["PATH"] = str(box.root / "empty")


def old_tmux(box: Box) -> None:
    box.session()
    fake_tmux(box, "echo tmux 3.1c")


def failing_tmux(box: Box) -> None:
    box.session()
    fake_tmux(
        box, '[ "$1" = -V ] && { echo tmux 3.4; exit; }; echo "protocol mismatch" >&2; exit 1'
    )


def silent_tmux(box: Box) -> None:
    box.session()
    fake_tmux(box, f"{VERSION}; exit 1")


def no_driver(box: Box) -> None:
    box.session(cpu_slots=0, gpus={"use": "free"})


def broken_driver(box: Box) -> None:
    stub = NvmlStub(box.root)
    box.env |= stub.env
    stub.write(["driver init_error=18", "gpu"])
    no_driver(box)


def nothing_free(box: Box) -> None:
    stub = NvmlStub(box.root)
    box.env |= stub.env
    stub.write(["gpu uuid=GPU-a mode=2"])
    no_driver(box)


def no_such_program(box: Box) -> None:
    box.session(command=["no-such-program"])


TABLE: list[tuple[Callable[[Box], None], dict[str, int]]] = [
    (
        nothing,
        {
            "--help": 0,
            "--version": 0,
            "": 2,
            "nope": 2,
            "status": 0,
            "status demo": 4,
            "stop": 0,
            "stop --all": 0,
            "stop -s demo": 0,
            "stop 3": 0,
            "attach": 4,
            "attach 3": 4,
            "attach -s demo": 4,
            "gpus": 0,
            "gpus demo": 0,
            "gpus nope": 2,
            "start nope": 2,
            "start --dry-run": 0,
            "start --gpus 0,,1": 2,
            "start --generations 0": 2,
            "start -f nope.yaml": 2,
            "start -f .": 2,
            "stop --grace soon": 2,
            "stop --drain --now": 2,
            "status a b": 2,
            "attach --json": 2,
        },
    ),
    (
        running,
        {
            "start": 0,
            "status": 0,
            "status --json": 0,
            "status nope": 4,
            "attach": 4,
            "attach 9": 4,
            "stop 9": 4,
            "stop --drain": 2,
            "stop -s nope": 0,
            "stop --now": 0,
        },
    ),
    (
        two_running,
        {
            "start": 2,
            "status": 0,
            "attach": 2,
            "attach cpu0": 2,
            "stop": 2,
            "stop cpu0": 2,
            "stop --all --now": 0,
        },
    ),
    (no_file, {"start": 2, "gpus demo": 2, "gpus": 0, "status": 0, "stop": 0, "attach": 4}),
    (wrong_file, {"start": 2, "gpus demo": 2, "gpus": 0, "status": 0, "stop": 0, "attach": 4}),
    (no_tmux, {"start": 5, "start --dry-run": 5, "attach": 5, "status": 5, "stop": 5, "gpus": 0}),
    (old_tmux, {"start": 5, "start --dry-run": 5}),
    (failing_tmux, dict.fromkeys(COMMANDS, 1)),
    (silent_tmux, dict.fromkeys(COMMANDS, 1)),
    (no_driver, {"start": 5, "start --dry-run": 5, "gpus": 0}),
    (broken_driver, {"start": 5, "start --dry-run": 5, "gpus": 0}),
    (nothing_free, {"start": 3, "start --dry-run": 3, "start --json": 3, "gpus": 0}),
    (no_such_program, {"start": 1, "start --json": 1, "status": 0, "stop": 0}),
]


@pytest.mark.parametrize(("situation", "expected"), TABLE, ids=[f.__name__ for f, _ in TABLE])
def test_exit_codes_are_as_documented(
    box: Box, situation: Callable[[Box], None], expected: dict[str, int]
) -> None:
    situation(box)
    found = {}
    for line in expected:
        done = box.cli(*line.split())
        found[line] = done.returncode
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        # `start` says in its table which worker failed, and for which GPU there was no room.
        assert len(lines) == (done.returncode not in {0, 3} and not done.stdout), done
        assert all(line.startswith("tmuxevolve: ") for line in lines)
    assert found == expected


SHOWN = ("--help", "--version", "start --dry-run", "status", "status --json", "gpus", "gpus --json")


@pytest.fixture
def shut() -> Iterator[int]:
    """Return a pipe's writing end whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def ended(box: Box, line: str, redirection: str = "", **streams: Any) -> tuple[int, str]:
    """Run a command; return its exit status and what a person sees on stderr."""
    argv = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "tmuxevolve"]
    streams = {"stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams}
    done = subprocess.run(
        [*argv, *line.split()],
        env=box.env,
        cwd=box.root,
        timeout=60,
        check=False,
        text=True,
        **streams,
    )
    return done.returncode, done.stderr or ""


def test_a_reader_that_is_gone(box: Box, shut: int) -> None:
    running(box)
    for line in (*SHOWN, "start", "stop --now --json"):
        assert ended(box, line, stdout=shut) == (1, ""), line
    assert box.status() == {}


def test_a_full_disk_is_one_line(box: Box) -> None:
    running(box)
    with Path("/dev/full").open("w") as disk:
        for line in (*SHOWN, "start", "stop --now --json"):
            seen = (1, "tmuxevolve: No space left on device\n")
            assert ended(box, line, stdout=disk) == seen, line
            assert ended(box, line, stdout=disk, stderr=disk)[0] in {0, 1}
    assert box.status() == {}


def test_a_file_that_cannot_grow_is_one_line(box: Box) -> None:
    """Unlike /dev/full, a file leaves what could not be written for the interpreter to flush."""
    running(box)
    with (box.root / "output").open("w") as file:
        for line in SHOWN:
            seen = ended(box, line, "", stdout=file, preexec_fn=no_room)
            assert seen == (1, "tmuxevolve: File too large\n"), line


def no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("redirection", [">&-", ">&- <&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(box: Box, redirection: str) -> None:
    """What is opened next would get their numbers, and what is printed with them."""
    box.session(command=["sh", "-c", "echo to the window; exec sleep 1000"], cpu_slots=1)
    lines = ("start", *SHOWN, "start", "attach")
    found = {line: ended(box, line, redirection) for line in lines}
    unsaid = "2>&-" in redirection
    needs = "" if unsaid else "tmuxevolve: attach needs a terminal\n"
    assert found == {**dict.fromkeys(lines, (0, "")), "attach": (4, needs)}
    poll(lambda: box.status()["cpu0"]["progress"] == "to the window")
    assert ended(box, "stop", redirection) == (0, "")
    assert sorted(path.name for path in box.root.iterdir()) == ["home", "results", "sessions.yaml"]


def test_nobody_reads_the_errors(box: Box, shut: int) -> None:
    codes = {"nope": 2, "start --nope": 2, "start": 2, "attach": 4, "status nope": 4}
    for line, code in codes.items():
        assert ended(box, line, stderr=shut) == (code, "")
        assert ended(box, line, "2>&-") == (code, "")


def test_a_directory_that_is_gone(box: Box) -> None:
    gone = box.root / "gone"
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    for line in ("start", "start --dry-run", "gpus demo", "start -f x.yaml"):
        argv = ["sh", "-c", script, "sh", sys.executable, "-m", "tmuxevolve", *line.split()]
        done = subprocess.run(
            argv, env=box.env, cwd=box.root, capture_output=True, text=True, check=False
        )
        assert not gone.exists()
        assert (done.returncode, done.stderr.count("\n")) in {(1, 1), (2, 1)}, done
        assert done.stderr.startswith("tmuxevolve: ")


def started(box: Box, line: str, *options: str, **keys: Any) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [sys.executable, *options, "-m", "tmuxevolve", *line.split()],
        env=box.env,
        cwd=box.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **keys,
    )


def interrupted_at(box: Box, line: str, moment: int) -> tuple[int, list[str]]:
    """Press Ctrl-C when so many modules are loaded; return exit status and what is on stderr."""
    process = started(box, line, "-X", "importtime")
    assert process.stderr
    lines = ours(process.stderr)
    seen = next((number for number, _ in enumerate(lines) if number == moment), None)
    if seen is not None:
        os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    shown = [text for text in error.splitlines() if not text.startswith("import time:")]
    return process.returncode, shown


def ours(stderr: IO[str]) -> Iterator[str]:
    """Return the lines for modules that are loaded when Ctrl-C is ours to handle."""
    for line in stderr:
        if line.endswith(("| tmuxevolve.streams\n", "|   tmuxevolve.streams\n")):
            break
    yield from stderr


MOMENTS = (0, 1, 10, 40, 80, 120, 160, 200)


@pytest.mark.parametrize(
    "line", ["--help", "start", "start --dry-run", "status --json", "gpus", "stop --now", "attach"]
)
def test_ctrl_c_at_any_moment(box: Box, line: str) -> None:
    """Also while modules are loaded: no traceback, and nothing that is ignored with a remark."""
    running(box)
    interrupted = 0
    for moment in MOMENTS:
        status, shown = interrupted_at(box, line, moment)
        if status == 130:
            interrupted += 1
            assert shown == ["tmuxevolve: interrupted"], (line, moment)
        else:
            # It was faster; the interpreter's very end is the system's own, without a word.
            assert status in {0, 4, -signal.SIGINT}, (line, moment, shown)
            assert shown in (
                [],
                ["tmuxevolve: attach needs a terminal"],
                ["tmuxevolve: no session is running"],
            )
    assert interrupted >= 4
    assert box.cli("stop", "--now").returncode == 0


@pytest.mark.parametrize("line", COMMANDS)
def test_ctrl_c_while_tmux_does_not_answer(box: Box, line: str) -> None:
    box.session()
    asked = box.root / "asked"
    fake_tmux(box, f"{VERSION}; touch {asked}; exec sleep 1000")
    process = started(box, line)
    poll(asked.exists)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=30)
    assert (process.returncode, *said) == (130, "", "tmuxevolve: interrupted\n")


def test_ctrl_c_is_ignored_where_the_caller_ignores_it(box: Box) -> None:
    """As a shell lets `tmuxevolve status &` do."""
    box.session()
    asked, go = box.root / "asked", box.root / "go"
    wait = f"touch {asked}; while ! [ -e {go} ]; do sleep 0.05; done"
    fake_tmux(box, f"{wait}; echo no server running on /x >&2; exit 1")
    process = started(
        box, "status", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    poll(asked.exists)
    os.kill(process.pid, signal.SIGINT)
    go.touch()
    said = process.communicate(timeout=30)
    assert (process.returncode, *said) == (0, "no session is running\n", "")


def test_the_installed_command_handles_ctrl_c_before_it_loads_anything() -> None:
    """An entry point in cli would have all of click loaded first."""
    lines = (Path(__file__).parents[1] / "pyproject.toml").read_text().splitlines()
    assert 'tmuxevolve = "tmuxevolve.__main__:main"' in lines
    code = "import sys, tmuxevolve.__main__; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"click", "pathlib", "tmuxevolve.cli"} & set(loaded)
