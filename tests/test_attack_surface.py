"""What comes from outside: files, arguments, names, paths, values. Run verbatim, or refused."""

from __future__ import annotations

import copy
import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
        assert len(error) < 8_000 + 10 * sum(map(len, words))
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


@settings(FUZZ, max_examples=150)
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


BYTES = yaml.safe_dump(VALID).encode()
CUTS = st.tuples(st.integers(0, len(BYTES)), st.integers(0, 6), st.binary(max_size=6))


@settings(FUZZ, max_examples=120)
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


@settings(FUZZ, max_examples=150)
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


SAY = """
import json, os, sys, time
said = {"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}
with open("said.tmp", "w") as file:
    json.dump(said, file)
os.rename("said.tmp", "said.json")
time.sleep(1000)
"""
# {c} is the path of a file that appears if anything takes them for more than text.
HOSTILE = (
    *("a b", "two  blanks ", "it's", 'a "q" b', "x;", "a;b", ";touch {c};", "$(touch {c})"),
    *("`touch {c}`", "#(touch {c})", "#{{pid}}", "#{{?1,x,y}}#[fg=red]", "%1 %H", "a:b.c", "$HOME"),
    *("a\nb", "\ntouch {c}\n", "日本語 é 🚀", "-x", "--", "~", "~root", "*?[a]", "\\", "\\;"),
    *("\x1b[31m", "\x7f\u202e", "&& touch {c}", "| touch {c} #", "> {c}", "'; touch {c}; '", "#"),
)
LONG = "long " * 60
TAKEN = (
    *("a b", "日本語 🚀", "a;b", "it's", 'a"b', "a`touch x`", "&& touch x", "(x)", "12", "x" * 64),
    *("a'*?[b]", "a/b", "a,b", "a|b>c", "[1m", "!"[:0] + "*"),
)
REFUSED = (
    *("", " a", "a ", "x;", ";", "a:b", "a.b", "#{pid}", "#(touch x)", "$(touch x)", "-x", "=x"),
    *(
        "~",
        "~x",
        "@1",
        "%1",
        "+",
        "{last}",
        "!",
        "^",
        "a\nb",
        "a\x1bb",
        "x" * 65,
        "x" * 300,
        "a\\b",
    ),
)


def unexpanded(text: str) -> str:
    """Write a text as it must be written where variables are filled in."""
    return text.replace("$", "$$") if text[:1] != "~" else "~" + text.replace("$", "$$")


def canary(box: Box) -> Path:
    return box.sockets / "x"


def hostile(box: Box, texts: Sequence[str] = HOSTILE) -> list[str]:
    return [text.format(c=canary(box)) for text in texts]


def verbatim_session(box: Box, text: str, name: str) -> Path:
    """Write a session in which everything is hostile; return its file."""
    file, workdir = box.root / f"c{text}" / "sessions.yaml", box.root / f"w{text}"
    file.parent.mkdir(parents=True)
    workdir.mkdir(parents=True)
    (box.root / "say.py").write_text(SAY)
    words = hostile(box)
    entry = {
        **NATIVE,
        "workdir": unexpanded(str(workdir)),
        "results": unexpanded(f"{box.root}/r{text}"),
        "trainer": "command",
        "command": [sys.executable, str(box.root / "say.py"), *words, LONG],
        "env": {f"V{number}": unexpanded(word) for number, word in enumerate([*words, LONG])},
    }
    file.write_text(yaml.safe_dump({"sessions": {name: entry}}))
    return file


def check_said(box: Box, text: str) -> None:
    """See what the trainer saw, in the directory that it should have been started in."""
    workdir = box.root / f"w{text}"
    poll((workdir / "said.json").exists)
    said = json.loads((workdir / "said.json").read_text())
    words = [*hostile(box), LONG]
    assert said["argv"] == words
    assert [said["env"][f"V{number}"] for number in range(len(words))] == words
    assert said["cwd"] == said["env"]["PWD"] == os.path.normpath(workdir)


def check_attach(box: Box, name: str) -> None:
    """Attach as a person does, and see at which session the terminal is."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tmuxevolve", "attach", "cpu0", "-s", name],
        env={**box.env, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    poll(lambda: box.tmux("list-clients", "-F", "#{session_name}") == f"{name}\n")
    process.kill()
    process.wait()
    os.close(master)
    os.close(slave)
    poll(lambda: not box.tmux("list-clients"))


@pytest.mark.parametrize("part", range(4))
def test_names_paths_words_and_values_are_verbatim(box: Box, part: int) -> None:
    texts = hostile(box)[part::4]
    names = TAKEN[part::4]
    for number, text in enumerate(texts):
        name = names[number] if number < len(names) else f"s{number}"
        done = box.cli("start", "-f", str(verbatim_session(box, text, name)))
        assert (done.returncode, done.stderr) == (0, ""), (text, name, done)
        check_said(box, text)
        if number < len(names):
            assert list(box.status(name)) == ["cpu0"]
            check_attach(box, name)
    found = {session["results"]: session for session in box.json("status")}
    assert set(found) == {os.path.normpath(f"{box.root}/r{text}") for text in texts}
    assert {w["state"] for session in found.values() for w in session["windows"]} == {"running"}
    assert not canary(box).exists()
    assert box.cli("stop", "--all", "--now").returncode == 0
    assert box_processes(box) == []
    assert not canary(box).exists()


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_names_that_are_refused(here: Box, capfd: pytest.CaptureFixture[str], name: str) -> None:
    here.session(name)
    code, error = run(capfd, "start")
    assert code == 2
    assert "cannot be a session's name" in error


def test_words_as_long_as_they_come(box: Box) -> None:
    """Also those that are many bytes each in tmux's messages."""
    words = ["🚀" * 30_000, "é" * 60_000, *["x" * 10] * 1000]
    (box.root / "say.py").write_text(SAY)
    command = [sys.executable, str(box.root / "say.py"), *words]
    box.write(yaml.safe_dump({"sessions": {"demo": {**NATIVE, "command": command}}}))
    done = box.cli("start")
    assert (done.returncode, done.stderr) == (0, "")
    poll((box.root / "said.json").exists)
    assert json.loads((box.root / "said.json").read_text())["argv"] == words
    assert list(box.status()) == ["cpu0"]


@pytest.mark.parametrize("word", ["x" * (128 << 10), "é" * (64 << 10)], ids=["x", "é"])
def test_a_word_that_is_too_long_for_the_system(
    here: Box, capfd: pytest.CaptureFixture[str], word: str
) -> None:
    here.session(command=["echo", "a", word])
    code, error = run(capfd, "start")
    assert code == 2
    assert error.endswith("sessions.demo.command.2: 128 KiB or more, which no program can take\n")


def test_bytes_that_are_no_text(box: Box) -> None:
    """A caller's variables, and so paths, may be of any bytes; JSON and the screen are not."""
    odd = os.fsdecode(b"\xff\xe9")
    (box.root / f"w{odd}").mkdir()
    (box.root / "say.py").write_text(SAY)
    command = f"{sys.executable} {box.root}/say.py $ODD"
    where = {"workdir": "w$ODD", "results": "r$ODD"}
    box.session(command=command, cpu_slots=1, env={"MORE": "a$ODD"}, **where)
    box.env["ODD"] = odd
    for line in ("start --dry-run", "start --dry-run --json", "start --json", "start", "status"):
        done = box.cli(*line.split())
        assert (done.returncode, done.stderr) == (0, ""), line
    path = box.root / f"w{odd}" / "said.json"
    poll(path.exists)
    said = json.loads(path.read_text())
    assert (said["argv"], said["env"]["MORE"], said["env"]["ODD"]) == ([odd], f"a{odd}", odd)
    (session,) = box.json("status")
    assert session["results"] == f"{box.root}/r{odd}"
    assert box.cli("stop", "--now").returncode == 0


LEARN = """
import json, os, sys
json.dump({"argv": sys.argv[1:], "cwd": os.getcwd()}, open(sys.argv[1] + "/said.json", "w"))
json.dump({"fitness": float(sys.argv[2])}, open(sys.argv[1] + "/r.json", "w"))
"""
TAIL = "$(touch x) #{pid} ;"


def test_a_study_in_a_hostile_place(box: Box) -> None:
    """Folders of generations are made below it, and placeholders filled in once."""
    text = " {{seed}} {{hyp}} $(touch {c}) #(touch {c}) `touch {c}`; '\n {{output}}".format(
        c=canary(box)
    )
    (box.root / "learn.py").write_text(LEARN)
    workdir, results = box.root / f"w{text}", box.root / f"r{text}"
    workdir.mkdir(parents=True)
    study = {
        **NATIVE,
        "workdir": unexpanded(str(workdir)),
        "results": unexpanded(str(results)),
        "command": [sys.executable, f"{box.root}/learn.py", "{output}", "{hyp.lr}", "{hyp}", TAIL],
        "evolve": {
            "generations": 3,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "fitness"},
        },
    }
    box.write(yaml.safe_dump({"sessions": {"demo": study}}))
    assert box.cli("start").returncode == 0
    poll(lambda: box.status()["cpu0"]["state"] == "finished")
    (session,) = box.json("status")
    assert (session["generations"], session["failed"], session["problem"]) == (3, 0, None)
    said = [json.loads(path.read_text()) for path in results.rglob("said.json")]
    assert len(said) == 3
    for one in said:
        assert one["cwd"] == str(workdir)
        assert one["argv"][0].startswith(f"{results}/")
        assert Path(one["argv"][2]).is_file()
        assert one["argv"][3] == TAIL
    assert not canary(box).exists()
    assert box.cli("stop").returncode == 0


def nested(levels: int, part: str) -> str:
    """Return as many levels, each of which holds the one before it twice."""
    lines = [f"a{n}: &a{n} {part.format(f'*a{n - 1}', f'*a{n - 1}')}" for n in range(1, levels)]
    return "\n".join(["a0: &a0 {k: v}", *lines])


def sparse(path: Path) -> None:
    path.write_bytes(b"sessions:\n")
    os.truncate(path, 100 << 20)


MIB = 1_040_000
BOMBS = {
    "aliases": nested(40, "[{}, {}]"),
    "merges": nested(40, "{{<<: [{}, {}]}}"),
    "itself": "a: &a [*a, *a]",
    "itself merged": "a: &a {<<: *a}",
    "lists": "[" * MIB,
    "mappings": "{a: " * (MIB // 4),
    "sequences": "- " * (MIB // 2),
    "keys": "? " * (MIB // 2),
    "values": f"[{'a,' * (MIB // 2)}]",
    "documents": "---\n" * (MIB // 4),
    "digits": f"x: {'9' * MIB}",
    "sexagesimal": f"x: 1{':1' * (MIB // 2)}",
    "shorter sexagesimal": f"x: 1{':1' * 60_000}",
    "fractions": f"x: 1{':1' * 60_000}.5",
    "quotes": f"sessions: {{d: {{results: r, command: '{'${' * 60_000}'}}}}",
    "names": "sessions:\n" + "".join(f"  s{n}: {{command: x, results: r}}\n" for n in range(1_200)),
    "tag": "sessions: {demo: {command: !!python/object/apply:os.system ['touch {c}']}}",
    "name tag": "sessions: !!python/name:os.system",
    "module": "sessions: !!python/module:antigravity",
    "binary": f"sessions: !!binary {'QUFB' * (MIB // 5)}",
}


@pytest.mark.parametrize("bomb", [*BOMBS, "sparse"])
def test_bombs_are_refused_fast_and_in_little_memory(box: Box, bomb: str) -> None:
    if bomb == "sparse":
        sparse(box.config)
    else:
        box.write(BOMBS[bomb].replace("{c}", str(canary(box))))
    process = subprocess.Popen(
        [sys.executable, "-m", "tmuxevolve", "start"],
        env=box.env,
        cwd=box.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    with process.stderr as stream:
        error = stream.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, error.count("\n")) == (2, 1), error
    assert error.startswith(f"tmuxevolve: {box.config}")
    assert len(error) < 1_000
    # An ordinary `start` takes about 0.15 s and 30 MiB.
    assert used.ru_utime + used.ru_stime < 5
    assert used.ru_maxrss < 150 << 10
    assert not canary(box).exists()


SECRET, CALLERS = "s3cret-of-the-file", "s3cret-of-the-caller"
SHOWN = ("start", "status", "status --json", "start", "start --json", "gpus", "attach", "attach 9")


def readable(box: Box) -> Iterator[tuple[str, bytes]]:
    """Return everything of a session's that is there to be read, by where it is."""
    for process in psutil.process_iter(["cmdline"]):
        yield f"argv of {process.pid}", "\0".join(process.info["cmdline"] or []).encode()
    for scope in ("-g", "-s", "-gw", "-w", "-p", "-t"):
        where = [scope] if scope != "-t" else []
        for target in ([], ["-t", "=demo:0"]):
            yield f"options {scope}", box.tmux("show-options", *where, *target).encode()
    yield "environment", box.tmux("show-environment", "-t", "=demo").encode()
    yield "windows", box.tmux("list-windows", "-a").encode()
    yield (
        "panes",
        box.tmux("list-panes", "-a", "-F", "#{pane_start_command} #{pane_title}").encode(),
    )
    yield "screen", box.tmux("capture-pane", "-pS", "-", "-t", "=demo:0").encode()
    for path in box.root.rglob("*"):
        if path.is_file() and path != box.config:
            yield str(path), path.read_bytes()


@pytest.mark.parametrize("mode", ["native", "cooperative"])
def test_secrets_are_the_trainers_alone(box: Box, mode: str) -> None:
    evolve: dict[str, Any] = {"mode": mode}
    seen = box.sockets / "seen"
    script = f"echo $TOKEN $CALLERS >{seen}; exec sleep 1000"
    if mode == "cooperative":
        evolve |= {
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"file": "r.json", "key": "fitness"},
        }
    command = ["sh", "-c", script, "{hyp.lr}"]
    box.session(command=command, cpu_slots=1, env={"TOKEN": SECRET}, evolve=evolve)
    said = [box.cli(*line.split(), env={"CALLERS": CALLERS}) for line in SHOWN]
    poll(lambda: seen.exists() and seen.read_text() == f"{SECRET} {CALLERS}\n")
    for done in said:
        assert "s3cret" not in done.stdout + done.stderr
    found = [where for where, content in readable(box) if b"s3cret" in content]
    assert found == []
    assert SECRET not in box.tmux("show-environment", "-g")
    done = box.cli("stop", "--now")
    assert "s3cret" not in done.stdout + done.stderr
    assert not [path for path in box.root.rglob("*") if path != box.config and holds(path)]


def holds(path: Path) -> bool:
    return path.is_file() and b"s3cret" in path.read_bytes()


def test_messages_about_variables_keep_their_values(
    here: Box, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLERS", CALLERS)
    for env in (
        {"TOKEN": f"{SECRET}$NOPE"},
        {"TOKEN": [SECRET]},
        {"TO-KEN": SECRET},
        {"CUDA_VISIBLE_DEVICES": SECRET},
        {"TOKEN": f"{SECRET}\0"},
        {"TOKEN": f"{SECRET}${{"},
        {"TOKEN": SECRET * 10_000},
    ):
        here.session(env=env)
        code, error = run(capfd, "start")
        assert code == 2
        assert "s3cret" not in error


PROGRAMS = ("#(touch {c})", "#{{pid}},}}", "$(touch {c});", "`touch {c}`", "-x y;", "é\n🚀", "~")


def test_programs_and_the_reasons_why_they_do_not_run(box: Box) -> None:
    """What is in a name reaches tmux's formats once more, as the reason."""
    names = hostile(box, PROGRAMS)
    sessions = {
        f"s{number}": {**NATIVE, "command": [name], "results": f"r{number}", "trainer": "command"}
        for number, name in enumerate(names)
    }
    box.write(yaml.safe_dump({"sessions": sessions}))
    for session in sessions:
        assert box.cli("start", session).returncode == 1
    found = {session["session"]: session for session in box.json("status")}
    for number, name in enumerate(names):
        (window,) = found[f"s{number}"]["windows"]
        assert (window["state"], window["exit_status"]) == ("failed", 127)
        assert window["reason"] == f"cannot run {name!r}: No such file or directory"
        assert found[f"s{number}"]["command"] == shlex.join([name])
    assert not canary(box).exists()


@pytest.mark.parametrize("name", HOSTILE[::3], ids=ascii)
def test_a_program_of_a_hostile_name_is_run(box: Box, name: str) -> None:
    program = box.root / f"p{name.format(c=canary(box))}"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    entry = {**NATIVE, "command": [str(program)], "trainer": "command"}
    box.write(yaml.safe_dump({"sessions": {"demo": entry}}))
    done = box.cli("start")
    assert (done.returncode, done.stderr) == (0, "")
    assert box.status()["cpu0"]["state"] == "running"
    assert not canary(box).exists()


@pytest.mark.parametrize("name", ["é ;", "\udcff", "-x", "../q", "#{pid}", "a;b$(x)"], ids=ascii)
def test_socket_names(box: Box, name: str) -> None:
    box.session(cpu_slots=1)
    assert box.cli("start", "-L", name).returncode == 0
    assert (box.sockets / f"tmux-{os.getuid()}" / name).exists()
    assert list(box.status("-L", name)) == ["cpu0"]
    assert box.cli("stop", "--now", "-L", name).returncode == 0


ENVIRONMENTS: list[dict[str, str]] = [
    {"HOME": ""},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "nonsense", "TERM": "", "COLUMNS": "x", "LINES": "-1"},
    {"TMUX": "nonsense"},
    {"TMUX": ",,,"},
    {"TMPDIR": "/nope"},
]


def test_environments_that_nobody_should_have(box: Box) -> None:
    entry = {**NATIVE, "command": ["sh", "-c", "printf 'é █ 🚀'; exec sleep 1000"]}
    box.write(yaml.safe_dump({"sessions": {"demo": entry}}))
    assert box.cli("start").returncode == 0
    poll(lambda: box.status()["cpu0"]["progress"] == "é █ 🚀")
    for env in ENVIRONMENTS:
        for line in ("start", "status", "status --json"):
            done = box.cli(*line.split(), env=env)
            assert (done.returncode, done.stderr) == (0, ""), (env, line)


@pytest.fixture
def one_running(here: Box) -> int:
    """Start a session; return its trainer's pid."""
    here.session(cpu_slots=1)
    assert here.cli("start").returncode == 0
    return int(here.status()["cpu0"]["pid"])


@settings(FUZZ, max_examples=30)
@given(st.sampled_from(["attach", "status", "stop"]), VALUE, st.booleans())
def test_arguments_while_something_runs(
    one_running: int, capfd: pytest.CaptureFixture[str], command: str, word: str, as_session: bool
) -> None:
    """Nothing that is not the name of a window ends one, and nothing that is not said is meant."""
    named = ["-s", word] if as_session and command != "status" else ["--", word]
    if word in {"", "cpu0", "demo"}:
        return
    code, _ = run(capfd, command, *named)
    assert code in {0, 4}
    # A session that is not running needs no stopping.
    assert code == 4 or (command == "stop" and as_session)
    assert psutil.pid_exists(one_running)


@pytest.mark.parametrize("program", ["tmuxevolve", f"{sys.executable} -m tmuxevolve"])
def test_what_start_says_to_type_can_be_typed(box: Box, program: str) -> None:
    """On the server that was named, too, and however the program was run."""
    box.session(cpu_slots=1)

    def shell(line: str) -> str:
        return subprocess.check_output(["sh", "-c", line], env=box.env, cwd=box.root, text=True)

    said = shell(f"{program} start -L 'my server'")
    lines = [line for line in said.splitlines() if "  # " in line]
    status, stop = (
        next(line for line in lines if f" {verb} " in line) for verb in ("status", "stop")
    )
    assert "cpu0" in shell(status)
    assert "cpu0 ended by" in shell(stop)
    assert any(line.startswith(f"{program} attach cpu0 -L 'my server'") for line in lines)


def test_a_secret_in_the_command_is_shown_by_its_name(box: Box) -> None:
    """It is in the trainer's own argv then, as its user wrote; and nowhere else."""
    box.session(
        command="sh -c 'exec sleep 1000' --key=$TOKEN --home $HOME",
        cpu_slots=1,
        env={"TOKEN": SECRET},
    )
    said = [box.cli(*line.split()) for line in SHOWN]
    for done in said:
        assert SECRET not in done.stdout + done.stderr
    shown = box.json("status")[0]["command"]
    assert shown == f"sh -c 'exec sleep 1000' '--key=$TOKEN' --home {box.home}"
    assert SECRET not in box.tmux("show-options", "-p", "-t", "=demo:0")
