"""sessions.yaml: what is taken, what is refused, and how it is said."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import Box

from tmuxevolve import commandline, config, configfile
from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError

GOOD = """\
default: demo
sessions:
  demo:
    workdir: .
    command: python train.py
    results: runs/demo
    gpus: {use: [0, "1:0", GPU-x], max_memory_used: 700MiB}
    env: {OMP_NUM_THREADS: 1, WANDB_MODE: off, X: 1e3, Y: 010, Z: ''}
    stagger: 3s
    stop: {grace: 1m}
"""
ENVIRON = {"HOME": "/home/me", "DATA": "/data"}


def load(folder: Path, text: str | bytes) -> Session:
    path = folder / "sessions.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return configfile.load(path).session(None, ENVIRON)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as error:
        load(folder, text)
    message = str(error.value)
    assert message.isprintable()
    return message.removeprefix(str(folder / "sessions.yaml"))


def test_a_good_file(tmp_path: Path) -> None:
    session = load(tmp_path, GOOD)
    assert session.name == "demo"
    assert session.workdir == tmp_path
    assert session.results == tmp_path / "runs" / "demo"
    assert session.command == ("python", "train.py")
    assert session.gpus.use == (0, "1:0", "GPU-x")
    assert session.gpus.max_memory_used == 700 << 20
    assert (session.stagger, session.stop.grace) == (3.0, 60.0)
    assert session.env == {
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "off",
        "X": "1e3",
        "Y": "010",
        "Z": "",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gpus:", "gpu:", ":7: sessions.demo.gpu: unknown key; did you mean 'gpus'?"),
        (
            "grace: 1m",
            "grace: 1m, sgnal: SIGINT",
            ":10: sessions.demo.stop.sgnal: unknown key; did you mean 'signal'?",
        ),
        (
            "700MiB",
            "lots",
            ":7: sessions.demo.gpus.max_memory_used: 'lots': expected a size such as 500MiB or 20G",
        ),
        ("700MiB", "1, per_gpu: 99", ":7: sessions.demo.gpus.per_gpu: 99: expected int <= 16"),
        ("[0, ", "[0.5, ", ":7: sessions.demo.gpus.use.0: 0.5: expected int | str, got float"),
        ("3s", "soon", ":9: sessions.demo.stagger: 'soon': expected a duration such as 30s"),
        ("3s", "-1", ":9: sessions.demo.stagger: -1: expected a duration"),
        ("3s", "3s\n    stagger: 4s", ":10: sessions.demo.stagger: given twice, first on line 9"),
        ("    results: runs/demo\n", "", ":3: sessions.demo: missing required field results"),
        ("workdir: .", "workdir: /nope", ":4: sessions.demo.workdir: /nope: no such directory"),
        ("workdir: .", "workdir: sessions.yaml", "sessions.yaml: not a directory"),
        ("results: runs/demo", "results: sessions.yaml", "sessions.yaml: not a directory"),
        ("results: runs/demo", "results: $NOPE/x", ":6: sessions.demo.results: $NOPE is not set"),
        ("default: demo", "default: dmo", ":1: default: there is no session 'dmo'; did you mean"),
        ("default: demo", "defualt: demo", ":1: defualt: unknown key; did you mean 'default'?"),
        ("  demo:", "  de:mo:", "'de:mo' cannot be a session's name: tmux gives ':'"),
        ("  demo:", "  de.mo:", "'de.mo' cannot be a session's name: tmux gives '.'"),
        ("  demo:", "  '#{x}':", "'#{x}' cannot be a session's name"),
        ("  demo:", "  1:", "1 cannot be a session's name: it is not a text"),
        ("{OMP", "{CUDA_VISIBLE_DEVICES: 0, OMP", "CUDA_VISIBLE_DEVICES: tmuxevolve sets it"),
        ("{OMP", "{A-B: 0, OMP", ":8: sessions.demo.env.A-B: 'A-B' cannot be a variable's name"),
        ("{OMP", "{A: [1], OMP", ":8: sessions.demo.env.A: expected one value"),
        ("{OMP", "{A: , OMP", ':8: sessions.demo.env.A: no value; "" is an empty one'),
        ("{OMP", "{1: x, OMP", ":8: sessions.demo.env.1: '1' cannot be a variable's name"),
        ("env: {", "env: [TOKEN=abc] #", ":8: sessions.demo.env: expected object, got array"),
        ("default: demo", "1: demo", ":1: 1: unknown key; known are default, sessions"),
        ("sessions:", "session:", ":2: session: unknown key; did you mean 'sessions'?"),
        (
            "    stagger",
            '    "sta\\ngger"',
            ":9: sessions.demo.sta gger: unknown key; did you mean",
        ),
        ("stagger: 3s", "1: 3s", ":9: sessions.demo.1: unknown key; known are"),
        ("results: runs/demo", "results: " + "x" * 5000, "x: File name too long"),
        ("workdir: .", "workdir: " + "x" * 5000, "x: File name too long"),
        (
            "results: runs/demo",
            "results: off",
            ":6: sessions.demo.results: off: expected str, got bool; put",
        ),
        (
            "{use: [0, ",
            "{use: [x, ",
            ":7: sessions.demo.gpus.use.0: 'x': expected a GPU such as 0,",
        ),
        ('{use: [0, "1:0", GPU-x]', "{use: fre", "'fre': invalid enum value; did you mean 'free'?"),
        ("grace: 1m", "signal: INT", "'INT': invalid enum value; did you mean 'SIGINT'?"),
        ("  demo:", "  de$mo:", "'de$mo' cannot be a session's name: tmux gives '$'"),
        ("  demo:", "  demo;:", "'demo;' cannot be a session's name"),
        ("python train.py", "''", ":5: sessions.demo.command: there is no command in it"),
        ("python train.py", "python 'x", ":5: sessions.demo.command: cannot split it into words"),
        (
            "python train.py",
            "cd x && python y",
            ":5: sessions.demo.command: found '&&': there is no",
        ),
        ("python train.py", "python x | tee y", "found '|': there is no shell here"),
        ("python train.py", "python x > log", "found '>': there is no shell here"),
        ("python train.py", "python $(ls)", "found '$(': there is no shell here"),
        ("python train.py", 'python "`ls`"', "found '`': there is no shell here"),
        ("python train.py", "nohup python x", "leave out 'nohup': tmux keeps it running"),
        ("python train.py", "python x &", "leave out the '&' at the end"),
        ("python train.py", "A=1 python x", "put A under env: instead of before the command"),
        ("python train.py", "python $NOPE", ":5: sessions.demo.command: $NOPE is not set"),
        ("    results", "\tresults", ":6: not valid YAML: found a tab character"),
        ("sessions:", "sessions: 3\nx:", "expected `sessions:` with a session under it"),
        ("evolve", "evolve", ""),
    ],
)
def test_mistakes_are_one_line_with_the_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    if old == new:
        text = GOOD + "    evolve: {mode: coop}\n"
        assert ":11: sessions.demo.evolve.mode: 'coop': invalid enum value" in refusal(
            tmp_path, text
        )
    else:
        assert message in refusal(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("evolve", "message"),
    [
        ("{fitness: {ky: x}}", "evolve.fitness.ky: unknown key; did you mean 'key'?"),
        ("{fitness: {key: 1}}", "evolve.fitness.key: 1: expected str | null, got int"),
        ("{space: {a: {min: 0}, b: {min: []}}}", "evolve.space.b.min: []: expected float"),
        ("{space: {a: fixed, b: fixd}}", "evolve.space.b: 'fixd': invalid enum value"),
        ("{space: {a: fixed, b: {mn: 1}}}", "evolve.space.b.mn: unknown key; did you mean 'min'?"),
        ("{space: {yes: {min: off}}}", "evolve.space.yes.min: off: expected float"),
        ("{hyp: {lr: 1, b: x}}", "evolve.hyp.b: 'x': expected float"),
    ],
)
def test_mistakes_inside_mappings_name_the_key(tmp_path: Path, evolve: str, message: str) -> None:
    assert message in refusal(tmp_path, f"{GOOD}    evolve: {evolve}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected `sessions:`"),
        (b"\x00\xff\xfe", "not a text file"),
        (b"a: &a [*a]", "not valid YAML"),
        (b"[" * 5000, "not valid YAML"),
        (b"x: " + b"1" * (1 << 20), "larger than 1 MiB"),
        (b"a: !!python/object:os.system {}", "not valid YAML: could not determine a constructor"),
        (b"a: 2020-99-99", "not valid YAML"),
        (b"sessions: {}", "there is no session in it"),
    ],
)
def test_files_that_are_no_sessions_file(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path, content)


def test_alias_bombs_are_refused_before_they_unfold(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    assert "more than 10000 values" in refusal(tmp_path, "\n".join(levels))


def test_directories_and_fifos_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(UsageError, match="not a regular file"):
            configfile.load(path)


def test_merge_keys_share_settings(tmp_path: Path) -> None:
    text = (
        "base: &base {command: echo, results: r, cpu_slots: 3}\n"
        "sessions:\n  one: &one {command: echo, results: r, cpu_slots: 3}\n"
        "  two: {<<: *one, cpu_slots: 5}\ndefault: two\n"
    )
    assert "base: unknown key" in refusal(tmp_path, text)
    session = load(tmp_path, text.split("\n", 1)[1])
    assert (session.cpu_slots, session.command) == (5, ("echo",))


def test_sizes_and_paths_use_the_environment(tmp_path: Path) -> None:
    text = GOOD.replace("runs/demo", "$DATA/${DATA}x").replace("Z: ''", "Z: ~/y")
    session = load(tmp_path, text)
    assert session.results == Path("/data/data") / "datax" or session.results == Path(
        "/data//datax".replace("//", "/")
    )
    assert session.env["Z"] == "/home/me/y"


def test_pasted_command(tmp_path: Path) -> None:
    lines = ("|", "$TMUXEVOLVE_PYTHON train.py \\", "  --data ~/x.yaml \\", "  --a 'b c' \"\"")
    command = "\n      ".join(lines)
    session = load(tmp_path, GOOD.replace("python train.py", command))
    assert session.command == (
        sys.executable,
        "train.py",
        "--data",
        "/home/me/x.yaml",
        "--a",
        "b c",
        "",
    )


def test_a_list_is_taken_word_for_word(tmp_path: Path) -> None:
    command = "['bash', '-c', 'echo $HOME && ~ | `x`']"
    session = load(tmp_path, GOOD.replace("python train.py", command))
    assert session.command == ("bash", "-c", "echo $HOME && ~ | `x`")


PLAIN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(PLAIN, min_size=1))
@example(["a", "&&", "b"])
@example(["it's", '"', "`", "a\nb"])
@example(["~/a", "~~/a", "~", "$HOME", "\\$HOME", "$$", "${", "a ~/b"])
def test_what_a_shell_would_quote_comes_back(words: list[str]) -> None:
    if words[0] == "nohup" or re.match(commandline._ASSIGNMENT, words[0]):
        return
    split = commandline.split(shlex.join(words))
    assert [commandline.expand(word, {}) for word in split] == words


@pytest.mark.parametrize("text", ["''~/x", '"~/x"', "\\~/x", "~~/x", "'~'/x", "a\\ '~/x'", "a~/x"])
def test_a_tilde_is_the_home_directory_where_a_shell_takes_it_so(text: str) -> None:
    shell = subprocess.check_output(["bash", "-c", f"printf %s {text}"], text=True)
    (word,) = commandline.split(text)
    assert commandline.expand(word, {"HOME": "/home/me"}) == shell


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.dates(), inner, max_size=3)
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["command", "results", "gpus", "env", "stop", "evolve", "stagger", "workdir"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode(errors="replace")))
def test_noise_is_refused_in_one_line(tmp_path: Path, noise: bytes) -> None:
    refusal(tmp_path, noise)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(KEYS, JUNK, max_size=4))
def test_any_values_are_taken_or_refused_in_one_line(tmp_path: Path, entry: dict[str, Any]) -> None:
    base = {"command": "echo", "results": "r"}
    text = yaml.safe_dump({"sessions": {"demo": {**base, **entry}}}, allow_unicode=True)
    try:
        session = load(tmp_path, text)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert session.command


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(JUNK | st.fixed_dictionaries({"sessions": JUNK}, optional={"default": JUNK}))
@example({1: 2, "sessions": {}})
def test_any_document_is_taken_or_refused_in_one_line(tmp_path: Path, data: Any) -> None:
    try:
        load(tmp_path, yaml.safe_dump(data, allow_unicode=True))
    except UsageError as error:
        assert str(error).isprintable()


def test_secrets_are_not_in_messages(tmp_path: Path) -> None:
    for env in ("{TOKEN: abc, B: [1]}", "{TOKEN: [abc]}", "[TOKEN=abc]", "TOKEN=abc"):
        text = f"sessions: {{demo: {{command: x, results: r, env: {env}}}}}"
        assert "abc" not in refusal(tmp_path, text)


def test_names_beyond_what_a_file_can_have_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        configfile.find_file(Path("x" * 5000), {}, tmp_path)


@pytest.mark.parametrize(
    "name", ["a b", "日本語", "naïve 🚀", "a;b", "it's", 'a"b', "a%Hb", "12", "a=b", "a'*?[b]"]
)
def test_tmux_keeps_the_names_that_are_taken(tmp_path: Path, own_tmux: Box, name: str) -> None:
    text = yaml.safe_dump(
        {"sessions": {name: {"command": "x", "results": "r"}}}, allow_unicode=True
    )
    assert load(tmp_path, text).name == name
    own_tmux.tmux("-f", "/dev/null", "new-session", "-d", "-s", name, "sleep", "100")
    assert own_tmux.tmux("list-sessions", "-F", "#{session_name}") == f"{name}\n"
    own_tmux.tmux("has-session", "-t", f"={name}")


def test_lookup_order(tmp_path: Path) -> None:
    cwd, home = tmp_path / "cwd", tmp_path / "home"
    (home / ".config/tmuxevolve").mkdir(parents=True)
    cwd.mkdir()
    environ = {"HOME": str(home)}
    with pytest.raises(UsageError, match=r"looked for .*cwd/sessions.yaml, .*\.config/tmuxevolve"):
        configfile.find_file(None, environ, cwd)
    places = [home / ".config/tmuxevolve/sessions.yaml", cwd / "sessions.yaml"]
    for place in places:
        place.write_text("")
        assert configfile.find_file(None, environ, cwd) == place
    (cwd / "mine.yaml").write_text("")
    environ["TMUXEVOLVE_CONFIG"] = "mine.yaml"
    assert configfile.find_file(None, environ, cwd) == cwd / "mine.yaml"
    assert configfile.find_file(Path("sessions.yaml"), environ, cwd) == cwd / "sessions.yaml"
    with pytest.raises(UsageError, match="no such file"):
        configfile.find_file(Path("nope.yaml"), environ, cwd)


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("free", "free"),
        ("all", "all"),
        ("none", "none"),
        ("0,2", (0, 2)),
        ("1:0, GPU-x", ("1:0", "GPU-x")),
    ],
)
def test_gpus_on_the_command_line(text: str, use: object) -> None:
    assert config.parse_use(text) == use


def test_gpus_on_the_command_line_refuses_holes() -> None:
    with pytest.raises(UsageError, match="expected free, all, none, or GPUs such as 0,2"):
        config.parse_use("0,,2")


ROOT = Path(__file__).parents[1]
FIELDS = [
    *(f for f in config.SessionEntry.__struct_fields__),
    *config.Evolve.__struct_fields__,
    *config.GpuPolicy.__struct_fields__,
    *config.StopPolicy.__struct_fields__,
]


@pytest.mark.parametrize("field", FIELDS)
def test_every_key_is_in_the_shipped_file_and_in_the_reference(field: str) -> None:
    shipped = (ROOT / "sessions.yaml").read_text().partition("  yolov5:\n")[2]
    assert f"{field}:" in shipped
    assert f"`{field}`" in (ROOT / "docs" / "sessions-yaml.md").read_text()


def test_the_shipped_file_is_valid() -> None:
    loaded = configfile.load(ROOT / "sessions.yaml")
    assert list(loaded.sessions) == ["demo", "yolov5"]
    assert loaded.session(None, ENVIRON).command[1:3] == ("-m", "tmuxevolve.examples.tinydet")
