"""What is shipped: the sdist, the wheel that is built from it, and the man pages in that."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import click
import pytest

from tmuxevolve.cli import main

ROOT = Path(__file__).parents[1]
COMMANDS = main.list_commands(click.Context(main))


def test_the_sdist_builds_a_wheel_with_a_man_page_for_every_command(tmp_path: Path) -> None:
    """In one test, because building takes two seconds."""
    pytest.importorskip("build")
    # No environment of its own: that would be downloaded. `make wheel` builds in one.
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    all_that_is_tracked(sdist)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.glob("*.data/data/share/man/man1")
    pages = {page.stem: page for page in folder.iterdir()}
    assert set(pages) == {"tmuxevolve", *(f"tmuxevolve-{name}" for name in COMMANDS)}
    for name in COMMANDS:
        assert rf"\fB{name}\fP" in pages["tmuxevolve"].read_text()
        every_option_and_example(name, pages[f"tmuxevolve-{name}"].read_text())
    if shutil.which("man"):
        for page in pages.values():
            renders(page)


def all_that_is_tracked(sdist: Path) -> None:
    """The tests and the docs of an sdist are complete."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    argv = ["git", "ls-files"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    tracked = {name for name in done.stdout.splitlines() if not name.startswith(".")}
    assert tracked - names == set()
    assert not [name for name in names if "__pycache__" in name or name.startswith((".v", "runs"))]


def every_option_and_example(name: str, text: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command
    shown = {word for option in command.params for word in option.opts if word.startswith("-")}
    assert {word for word in shown if word.replace("-", r"\-") not in text} == set()
    assert "\b" not in text
    assert text.count(".nf") == text.count(".fi") == (command.help or "").count("\b")


def renders(page: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", page],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert re.search(rf"^ +{page.stem}\s+\S\s+\w", done.stdout, re.MULTILINE), done.stdout
