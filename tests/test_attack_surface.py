"""What comes from outside: files, arguments, names, paths, values. Run verbatim, or refused."""

from __future__ import annotations

import copy
import json
import os
import pty
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import Box, box_processes, poll

from tmuxevolve import streams
from tmuxevolve.cli import main

FUZZ = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def here(own_tmux: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Run the command line in this process, in the box: no process to start for each example."""
    monkeypatch.chdir(own_tmux.root)
    for name in ("TMUXEVOLVE_CONFIG", "TMUXEVOLVE_SOCKET_NAME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return own_tmux


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run a command here; whatever is wrong is one line. Return exit status and that line."""
    streams.prepare()
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    code = ended.value.code
    error = capfd.readouterr().err
    assert isinstance(code, int)
    assert "Traceback" not in error
    if code in {0, 3}:
        assert error == ""
    else:
        assert error.startswith("tmuxevolve: ")
        assert error.endswith("\n")
        assert error[:-1].isprintable()
        assert len(error) < 8_000
    return code, error


STUDY = {
    "workdir": ".",
    "command": "python train.py --lr {hyp.lr} --out {output} --seed {seed}",
    "trainer": "command",
    "results": "runs/study",
    "evolve": {
        "mode": "cooperative",
        "generations": 3,
        "sampler": "yolov5",
        "seed": 1,
        "space": {"lr": {"min": 0.001, "max": 0.1, "gain": 1}, "still": "fixed"},
        "hyp": {"lr": 0.01, "still": 5},
        "fitness": {"file": "r.json", "key": "val.map", "direction": "maximize"},
    },
    "gpus": {"use": "none", "max_memory_used": "1G", "per_gpu": 2, "ignore_processes": ["x*"]},
    "cpu_slots": 2,
    "env": {"A": 1, "B": "x y", "C": "$HOME/x"},
    "stagger": "3s",
    "restart": {"attempts": 1, "backoff": "1s", "max_consecutive_failures": 3},
    "stop": {"signal": "SIGINT", "grace": "1m"},
}
NATIVE = {
    "command": ["sleep", "1000"],
    "results": "runs/native",
    "cpu_slots": 1,
    "gpus": {"use": "none"},
    "evolve": {"mode": "native"},
}
YOLO = {
    "command": "python train.py --data coco.yaml --epochs 3 --evolve 5 --name x --project y",
    "trainer": "yolov5",
    "results": "runs/yolo",
    "cpu_slots": 1,
    "gpus": {"use": "none"},
    "evolve": {"mode": "native", "generations": 3},
}
ULTRA = {**YOLO, "command": "yolo detect train data=coco8.yaml epochs=3", "trainer": "ultralytics"}
NAMES = {"study": STUDY, "native": NATIVE, "yolo": YOLO, "ultra": ULTRA}
VALID = {"default": "study", "sessions": NAMES}

WORDS = st.sampled_from(
    [*("", " ", "~", "~/", "$", "$HOME", "${HOME", "#{pid}", "a;b", "-", "--", "--evolve", "free"),
     *("1:0", "0", "-1", "1e999", "nan", ".inf", "fixed", "x" * 300, "\n", "é", "🚀", "{hyp.x}"),
     *("{", "[", "(", "yolov5", "native", "/dev/null", "/proc/self/mem", "/root/x", ".", ".."),
     *("python train.py --evolve", "yolo train", "0x10", "2020-01-01", "off", "'", '"', "\\")]
)  # fmt: skip
SCALARS = (
    WORDS
    | st.text(max_size=8)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the paths of everything in a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """Return a valid document in which a few things are other things, elsewhere, or not there."""
    document: dict[str, Any] = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        *parents, last = draw(st.sampled_from(found))
        parent: Any = document
        for key in parents:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "nest"]))
        if how == "remove":
            del parent[last]
        elif how == "rename" and isinstance(parent, dict):
            parent[draw(SCALARS)] = parent.pop(last)
        elif how == "nest":
            parent[last] = [parent[last]]
        else:
            parent[last] = draw(VALUES)
    return document


SESSION = st.sampled_from([(), ("study",), ("native",), ("yolo",), ("ultra",)])


@settings(FUZZ, max_examples=250)
@given(spoilt(), SESSION)
def test_spoilt_documents(
    here: Box, capfd: pytest.CaptureFixture[str], document: Any, session: tuple[str, ...]
) -> None:
    here.write(yaml.safe_dump(document, allow_unicode=True))
    code, _ = run(capfd, "start", "--dry-run", *session)
    assert code in {0, 2, 3, 5}


def test_the_valid_document_is_valid(here: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise its spoilt copies would all be refused for one and the same reason."""
    here.write(yaml.safe_dump(VALID))
    codes = {name: run(capfd, "start", "--dry-run", name)[0] for name in NAMES}
    assert codes["study"] == codes["native"] == 0
    print(codes)


BYTES = yaml.safe_dump(VALID).encode()
CUTS = st.tuples(st.integers(0, len(BYTES)), st.integers(0, 6), st.binary(max_size=6))


@settings(FUZZ, max_examples=200)
@given(st.lists(CUTS, min_size=1, max_size=4), SESSION)
@example([(0, 0, b"\xff\xfe")], ())
@example([(0, 0, b"\xef\xbb\xbf")], ())
@example([(0, len(BYTES), b"\r\n" * 6)], ())
def test_bytes_that_are_flipped_lost_or_added(
    here: Box,
    capfd: pytest.CaptureFixture[str],
    cuts: list[tuple[int, int, bytes]],
    session: tuple[str, ...],
) -> None:
    content = BYTES
    for start, length, added in cuts:
        content = content[:start] + added + content[start + length :]
    here.config.write_bytes(content)
    code, _ = run(capfd, "start", "--dry-run", *session)
    assert code in {0, 2, 3, 5}


@settings(FUZZ, max_examples=60)
@given(st.binary(max_size=300))
def test_random_bytes_are_no_sessions_file(
    here: Box, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    here.config.write_bytes(content)
    code, error = run(capfd, "start", "--dry-run")
    assert code == 2
    assert error.startswith(f"tmuxevolve: {here.config}")


# What execve can hand over: any bytes but NUL.
ANY = st.binary(max_size=12).map(lambda b: os.fsdecode(b.replace(b"\0", b"")))
HOSTILE_WORDS = st.sampled_from(
    [*("", "-", "--", "-1", "=", "=demo", "@1", "%0", "$0", ":", ".", "demo:0", "demo.0", "{last}"),
     *("#{pid}", "#(id)", ";", "a;", "\\;", "\n", "\r", "\x1b[31m", "\x7f", "\u202e", "é", "🚀"),
     *("x" * 300, "x" * 5000, "../../x", "/", "~", "$(id)", "`id`", "9" * 30, "cpu0", "0,1", ","),
     *("1:0", "GPU-", "nan", "inf", "1e400s", "-5s", "\u0661", "demo", "\udcff", "a\udc80b")]
)  # fmt: skip
VALUE = (
    HOSTILE_WORDS
    | ANY
    | st.text(st.characters(exclude_characters="\0"), max_size=6).map(
        lambda text: os.fsdecode(text.encode("utf-8", "ignore"))
    )
)
OPTIONS = {
    "start": ["-f", "--file", "-L", "--socket-name", "--gpus", "--generations"],
    "attach": ["-s", "--session", "-L"],
    "status": ["-L", "--json"],
    "stop": ["-s", "--session", "--grace", "-L", "--drain", "--all"],
    "gpus": ["-f", "-L", "--json"],
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Return a command with options of its own and values that nobody would give it."""
    command = draw(st.sampled_from(sorted(OPTIONS)))
    words = [command] + ["--dry-run"] * (command == "start") + ["-s", "x"] * (command == "stop")
    for _ in range(draw(st.integers(0, 3))):
        option = draw(st.sampled_from([*OPTIONS[command], ""]) | VALUE)
        words += [option] * bool(option) + [draw(VALUE)]
    return words


@settings(FUZZ, max_examples=250)
@given(command_lines())
@example(["status", "-L", "x" * 300])
@example(["status", "-L", "a/b"])
@example(["gpus", "-L", "x" * 300])
@example(["start", "--dry-run", "-f", "\udcff"])
@example(["start", "--dry-run", "--generations", "9" * 30])
@example(["start", "--dry-run", "--generations", "9" * 5000])
@example(["start", "--dry-run", "--gpus", "9" * 5000])
@example(["start", "--dry-run", "\n"])
@example(["attach", "\x1b[31m"])
def test_arguments(here: Box, capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    if not here.config.exists():
        here.write(yaml.safe_dump(VALID))
    code, _ = run(capfd, *words)
    assert code in {0, 1, 2, 3, 4, 5}
    # tmux is asked for a socket that cannot be; all else is a matter of usage.
    assert code != 1 or "-L" in words or "--socket-name" in words
