"""What a command imports is most of what it costs: it is listed here, and kept short."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from support import Box

GROUP = {"__main__", "cli", "errors", "streams"}
# And the command's own module, which importlib loads unseen by -X importtime.
COMMAND = {*GROUP, "cli.completion", "cli.options", "cli.world"}
# What knows windows: values, tmux, what the facts on a window are made of.
WINDOWS = {"memory", "multiplexer", "multiplexer.client", "multiplexer.tmux", "units"}
WINDOWS |= {"multiplexer.choice", "multiplexer.consoles", "programs"}
# Puts what the user got wrong into one line.
MISTAKE = {"yamlfile"}
# Where no window is found there may be a Slurm job without one.
JOBS = {"session.jobs", "slurm"}
STATUS = {
    *(COMMAND | WINDOWS | JOBS),
    *("backoff", "census", "claims", "config", "counter", "diagnosis", "environment"),
    *(
        "evolution",
        "foreground",
        "gpus",
        "handover",
        "interrupts",
        "order",
        "processes",
        "render",
        "render_hosts",
        "render_jobs",
        "render_status",
        "slots",
        "standby",
    ),
    *("schedule", "session", "session.attach", "session.evolve", "session.idle"),
    *("session.limits", "session.orders", "session.plan", "session.preparation"),
    *(
        "session.gpu_list",
        "session.hosts",
        "study.opening",
        "study.values",
        "session.services",
        "session.start",
        "session.status",
        "session.stop",
        "session.windows",
    ),
    *("procfs", "spawn"),
    *("study", "study.definition", "study.files", "study.heartbeat", "study.history"),
    *("study.journal", "study.lock", "study.mutation", "study.rows", "study.samplers"),
    *("study.space", "study.state", "study.study", "study.summary", "study.survey"),
    *("study.table", "study.tail", "terminal", "trainers"),
}
# Each of these takes longer to import than the whole of such a command may.
NEVER = {
    "asyncio",
    "libtmux",
    "numpy",
    "optuna",
    "tqdm",
    "concurrent",
    "logging",
    "multiprocessing",
    "textual",
    "rich",
}


def imported(box: Box, *args: str) -> tuple[set[str], set[str]]:
    """Return the modules of ours, and the packages of others."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tmuxevolve", *args],
        env=box.env,
        cwd=box.root,
        capture_output=True,
        text=True,
        check=False,
    )
    names = {*re.findall(r"^import time:[ \d]+\|[ \d]+\| +(\S+)$", done.stderr, re.MULTILINE)}
    ours = {name.removeprefix("tmuxevolve.") for name in names if name.startswith("tmuxevolve.")}
    # runpy imports the package, then runs __main__ without another import.
    return ours | {"__main__"}, {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_the_command_line_alone(box: Box, option: str) -> None:
    ours, packages = imported(box, option)
    assert ours == GROUP
    assert not packages & {*NEVER, "msgspec", "yaml", "psutil", "pynvml"}


def test_attach_imports_windows_and_nothing_else(box: Box) -> None:
    ours, packages = imported(box, "attach", "2")
    assert ours == COMMAND | WINDOWS | MISTAKE | JOBS | {"session", "session.attach"}
    assert not packages & {*NEVER, "yaml", "psutil", "pynvml", "socket"}


def test_completion_imports_what_attach_does(box: Box) -> None:
    box.env |= {"_TMUXEVOLVE_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    box.env |= {"COMP_WORDS": "tmuxevolve attach "}
    ours, packages = imported(box)
    assert ours <= COMMAND | WINDOWS | MISTAKE | {"session", "session.attach"}
    assert not packages & {*NEVER, "yaml", "psutil", "pynvml", "socket"}


def test_status_imports_what_it_looks_at(box: Box) -> None:
    ours, packages = imported(box, "status")
    assert ours == STATUS
    assert not packages & {*NEVER, "yaml", "pynvml"}


def test_top_loads_its_library_when_there_is_something_to_show(box: Box) -> None:
    _, packages = imported(box, "top")
    assert not packages & {"textual", "rich", "asyncio", "pynvml"}


@pytest.mark.parametrize("command", ["best", "plot", "report"])
def test_results_are_read_without_what_draws_them(box: Box, command: str) -> None:
    ours, packages = imported(box, command, "--results", "nowhere")
    assert not packages & {"matplotlib", "plotly", "optuna", "numpy", "libtmux", "psutil"}
    assert "multiplexer.tmux" not in ours
