"""The command line itself: help, completion, JSON, pipes, interrupts, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Box, Viewer, poll

import tmuxevolve
from tmuxevolve.cli import COMMANDS, main
from tmuxevolve.session.status import SessionStatus

SCHEMA = Path(__file__).parents[1] / "docs" / "status.schema.json"


def complete(box: Box, *words: str) -> list[str]:
    """Return what the shell would offer for the last word."""
    env = {
        "_TMUXEVOLVE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("tmuxevolve", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        ["tmuxevolve"],
        env={**box.env, **env},
        cwd=box.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_version_and_help(box: Box) -> None:
    assert box.cli("--version").stdout == f"tmuxevolve {tmuxevolve.__version__}\n"
    for command in ("start", "attach", "status", "stop", "gpus"):
        assert command in box.cli("--help").stdout
        assert "--" in box.cli(command, "--help").stdout
    for command in ("start", "attach", "status", "stop"):
        assert "Examples:" in box.cli(command, "-h").stdout


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_the_table_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    (shown,) = (section[name][1] for section in COMMANDS.values() if name in section)
    assert command
    assert command.get_short_help_str(200).rstrip(".") == shown.rstrip(".")
    assert command.name == name


def test_completion(box: Box) -> None:
    assert complete(box, "start", "") == []
    box.session()
    assert complete(box, "st") == ["start", "stop", "status"]
    assert complete(box, "start", "d") == ["demo"]
    assert complete(box, "attach", "") == []
    box.cli("start")
    assert complete(box, "attach", "c") == ["cpu0", "cpu1"]
    assert complete(box, "stop", "cpu1", "") == ["cpu0", "cpu1"]
    assert complete(box, "stop", "-s", "") == ["demo"]
    assert complete(box, "status", "") == ["demo"]


def test_status_json_is_as_documented(box: Box) -> None:
    box.session()
    box.cli("start")
    text = box.cli("status", "--json").stdout
    (session,) = msgspec.json.decode(text, type=tuple[SessionStatus, ...])
    assert [w.slot for w in session.windows] == ["cpu0", "cpu1"]
    schema = msgspec.json.schema(tuple[SessionStatus, ...])
    # Python 3.13 takes the indentation out of docstrings, which are descriptions here.
    assert one_blank(json.loads(SCHEMA.read_text())) == one_blank(schema)


def one_blank(schema: object) -> str:
    return re.sub(r"(?:\\n|\s)+", " ", json.dumps(schema, sort_keys=True))


def test_wrong_usage_is_exit_2(box: Box) -> None:
    for words in (["nope"], ["start", "--nope"], ["start", "a", "b"], ["stop", "--grace", "soon"]):
        done = box.cli(*words)
        assert done.returncode == 2, words
        assert "Traceback" not in done.stderr
    done = box.cli("start", "-f", "nope.yaml")
    assert (done.returncode, done.stderr) == (
        2,
        f"tmuxevolve: {box.root}/nope.yaml: no such file\n",
    )


def test_a_reader_that_goes_away_leaves_no_traceback(box: Box) -> None:
    box.session(cpu_slots=8)
    box.cli("start")
    for command in ("status", "status --json", "--help"):
        line = f"set -o pipefail; tmuxevolve {command} | true"
        argv = ["bash", "-c", line]
        done = subprocess.run(
            argv, env=box.env, cwd=box.root, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        assert done.returncode in {0, 1}


def test_ctrl_c_is_130_without_a_traceback(box: Box) -> None:
    """While stop waits for a trainer that takes its time."""
    asked = box.root / "asked"
    slow = (
        "import signal, sys, time; signal.signal(2, lambda *_: open(sys.argv[1], 'w').close())\n"
        "while 1: time.sleep(1)"
    )
    box.session(command=[sys.executable, "-c", slow, str(asked)], cpu_slots=1)
    box.cli("start")
    pid = box.status()["cpu0"]["pid"]
    ignoring = "000000000000000"
    poll(lambda: f"SigCgt:\t{ignoring}" in Path(f"/proc/{pid}/status").read_text())
    process = subprocess.Popen(
        [sys.executable, "-m", "tmuxevolve", "stop"],
        env=box.env,
        cwd=box.root,
        stderr=subprocess.PIPE,
        text=True,
    )
    poll(asked.exists)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "tmuxevolve: interrupted\n")
    assert box.cli("stop", "--now").returncode == 0


def test_stop_grace_and_now(box: Box) -> None:
    stubborn = (
        "import signal, sys, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)];"
        "open(sys.argv[1], 'w').close(); time.sleep(1000)"
    )
    ready = box.root / "ready"
    box.session(command=[sys.executable, "-c", stubborn, str(ready)], cpu_slots=1)
    box.cli("start")
    poll(ready.exists)
    (stopped,) = box.json("stop", "--now")
    assert (stopped["signal"], stopped["left"]) == ("SIGKILL", [])


def test_colour_only_on_a_terminal_that_wants_it(box: Box) -> None:
    box.session()
    box.cli("start")
    assert "\x1b" not in box.cli("status").stdout
    viewer = Viewer(box)
    viewer.run("tmuxevolve status")
    viewer.see("cpu1 .*running")
    coloured = box.tmux("capture-pane", "-ept", "=me:", socket="viewer")
    assert "\x1b[32mrunning" in coloured
    viewer.run("NO_COLOR=1 tmuxevolve status; echo plain")
    viewer.see("^plain")
    assert "\x1b[32mrunning" not in box.tmux("capture-pane", "-ept", "=me:", socket="viewer")


VERBS = ["start", "status", "stop", "attach", "gpus"]
OPTIONS = ["-s", "-f", "-L", "--gpus", "--json", "--dry-run", "--grace", "--all", "--now"]
HOSTILE = ["", "1:0", "0,1", "=", "#{pane_id}", "a;b", "$(id)", "\n", "é", "%1", "-"]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
WORDS = st.sampled_from([*VERBS, *OPTIONS, *HOSTILE]) | TEXT


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WORDS, max_size=5))
def test_any_words_end_in_an_exit_code(
    own_tmux: Box, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """No argument leads to a traceback; nothing is running and there is no sessions.yaml."""
    os.chdir(own_tmux.root)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in {0, 1, 2, 4, 5}
    assert "Traceback" not in capfd.readouterr().err
