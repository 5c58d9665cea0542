"""Starting a trainer: environment, descriptors, signals, and what goes wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from support import poll

from tmuxevolve.spawn import Child, PrepareError, Program, spawn

SHOW = """
import json, os, signal
print(json.dumps({
    "argv": __import__("sys").argv[1:],
    "cwd": os.getcwd(),
    "env": dict(os.environ),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd")),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
}), file=open("out", "w"))
"""


def nothing() -> None:
    """Prepare nothing."""


def run(*argv: str, folder: Path, env: dict[str, str] | None = None) -> Child:
    return spawn(Program(argv, str(folder), env or {"PATH": os.environ["PATH"]}, nothing))


def status(child: Child) -> int:
    poll(lambda: child.poll() is not None)
    return child.status


def test_the_program_is_run_as_given(tmp_path: Path) -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    words = ("a b", "$HOME", ";", "")
    env = {"PATH": "/nowhere", "A": "\udcff\n"}
    child = run(sys.executable, "-I", "-c", SHOW, *words, folder=tmp_path, env=env)
    os.close(inherited)
    assert (status(child), child.returncode) == (0, 0)
    shown = json.loads((tmp_path / "out").read_text())
    assert shown["argv"] == [*words]
    assert shown["cwd"] == str(tmp_path)
    assert {k: shown["env"][k] for k in env} == env
    # 3 is the folder being listed.
    assert shown["descriptors"] in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    assert shown["blocked"] == []


def test_ignored_signals_are_pythons_own_and_not_passed_on(tmp_path: Path) -> None:
    script = "grep SigIgn /proc/self/status > out"
    assert status(run("sh", "-c", script, folder=tmp_path)) == 0
    ignored = int((tmp_path / "out").read_text().split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))


def test_how_it_ended(tmp_path: Path) -> None:
    assert status(run("sh", "-c", "exit 7", folder=tmp_path)) == 7
    child = run("sh", "-c", "kill -TERM $$", folder=tmp_path)
    assert (status(child), child.returncode) == (143, -15)


@pytest.mark.parametrize(
    ("program", "number"), [("no-such-program", errno.ENOENT), ("/", errno.EACCES)]
)
def test_a_program_that_cannot_be_run(tmp_path: Path, program: str, number: int) -> None:
    with pytest.raises(OSError, match=r"No such file|denied") as error:
        run(program, folder=tmp_path)
    assert (error.value.errno, error.value.filename) == (number, program)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        run("true", folder=tmp_path / "gone")
    assert error.value.filename == str(tmp_path / "gone")


def test_a_preparation_that_fails(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.EPERM, "no")

    program = Program(("touch", "out"), str(tmp_path), dict(os.environ), fail)
    with pytest.raises(PrepareError, match="not permitted"):
        spawn(program)
    assert not (tmp_path / "out").exists()


def test_no_zombie_is_left_by_a_failure(tmp_path: Path) -> None:
    def children() -> set[str]:
        return {*Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}

    before = children()
    with pytest.raises(FileNotFoundError):
        run("no-such-program", folder=tmp_path)
    assert children() <= before


def test_a_signal_between_fork_and_exec_acts_on_the_trainer(tmp_path: Path) -> None:
    """It was lost: the copy of the worker's handler noted it where nobody looks."""
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        program = Program(
            ("touch", "out"),
            str(tmp_path),
            dict(os.environ),
            lambda: os.kill(os.getpid(), signal.SIGUSR1),
        )
        child = spawn(program)
        assert status(child) == 128 + signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not (tmp_path / "out").exists()
    assert seen == []
