"""The parts below sessions.yaml: hostile YAML, pasted commands, GPU names, import time."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tmuxevolve import commandline, config, schema, units, yamlfile
from tmuxevolve.config import GpuPolicy
from tmuxevolve.errors import UsageError

VARIABLES = {"HOME": "/home/me", "X": "x"}
TENFOLD = ",".join(["{0}"] * 10)


def read(folder: Path, text: str | bytes) -> Any:
    path = folder / "sessions.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return yamlfile.load(path).data


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as error:
        read(folder, text)
    assert str(error.value).isprintable()
    return str(error.value).removeprefix(str(folder / "sessions.yaml"))


def bomb(first: str, item: str) -> str:
    """Return twelve lines, each ten times the one before when its aliases are written out."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {item.format(f'*a{n - 1}')}" for n in range(1, 12)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_deep_nesting_does_not_overflow_the_c_stack(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "sessions.yaml"
    path.write_text(opening * 200_000)
    # In a process of its own: it died of SIGSEGV, which no `except` catches.
    code = (
        "import pathlib, sys\n"
        "from tmuxevolve import errors, yamlfile\n"
        "try:\n    yamlfile.load(pathlib.Path(sys.argv[1]))\n"
        "except errors.UsageError as error:\n    print(error)\n"
    )
    argv = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # PyYAML's own limit speaks first for some of them, in some of its releases.
    said = "nested deeper than 50 levels|exceeded maximum nesting depth|1 MiB, which no sessions"
    assert re.search(said, done.stdout)
    assert done.stdout.count("\n") == 1


def test_nesting_that_people_write_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "[" * 50 + "]" * 50) == yaml.safe_load("[" * 50 + "]" * 50)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {<<: *a}",
        "a: &a {b: {<<: *a}}",
        "&a {b: *a}",
    ],
)
def test_an_alias_may_not_stand_for_itself(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text) == ":1: not valid YAML: nested deeper than 50 levels"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("{k: v}", f"{{{{<<: [{TENFOLD}]}}}}"), ": more than 10000 values"),
        (bomb("[x]", f"[{TENFOLD}]") + "? *a11\n: 1", "more than 10000 values"),
        (
            f"? {{{bomb('[x]', f'[{TENFOLD}]').strip().replace(chr(10), ', ')}}}\n: 1",
            "a key cannot",
        ),
        ("x: [" + "1, " * 300_000 + "]", ": more than 10000 values"),
    ],
    ids=["merges", "lists", "in a key", "plain"],
)
def test_bombs_do_not_go_off(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!bool x", "'x' is no bool"),
        ("!!timestamp x", "'x' is no timestamp"),
        ("!!int ''", "'' is no int"),
        ("!!float " + "1:59" * 400, "is no float"),
        ("9" * 5000, f"'{'9' * 40}' is no int"),
        ("2001-99-99", "'2001-99-99' is no timestamp"),
        ("!x y", "could not determine a constructor for the tag '!x'"),
        ('"\\0"', "a: a NUL byte cannot be in it"),
        ("\x07", "control characters are not allowed"),
    ],
)
def test_no_value_is_without_its_line(tmp_path: Path, value: str, message: str) -> None:
    found = refusal(tmp_path, f"# one\n# two\na: {value}\n")
    assert found.startswith(":3: ")
    assert message in found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:0", "1:0"),
        ("1:30.5", "1:30.5"),
        ("2026-11-23", "2026-11-23"),
        ("12", 12),
        ("off", False),
        ("", None),
    ],
)
def test_what_yaml_means_and_what_people_mean(tmp_path: Path, text: str, value: object) -> None:
    assert read(tmp_path, f"a: {text}") == {"a": value}


@pytest.mark.parametrize("text", ['a: "\\ud800"', '"\\udc80": a'])
def test_half_characters_are_refused_by_either_loader(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # libyaml refuses them itself; PyYAML's own loader hands them out, and nothing can print them.
    assert "not valid YAML" in refusal(tmp_path, text)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert "not valid YAML" in refusal(tmp_path, text)


def test_very_many_values_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml, "compose", lambda *_: pytest.fail("nodes were made"))
    assert ": more than 10000 values" in refusal(tmp_path, "[" + "1, " * 300_000 + "]")


TAG = st.sampled_from(
    ["", "", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!set ", "!!omap ", "!!merge "]
)
BIT = st.sampled_from(
    [*"[]{}:,?-&*|>!%@'\"#~=\n ", "\n  ", "&a ", "*a ", "<<: ", "a: ", "1:0", "2001-01-01", "\t"]
)
YAMLISH = st.lists(st.tuples(TAG, BIT).map("".join), max_size=30).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(YAMLISH | st.text(max_size=40), st.booleans())
@example("&a [*a]", False)
@example('"\\ud800"', True)
def test_any_yaml_is_read_or_refused_in_one_line(tmp_path: Path, text: str, pure: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if pure:
            patch.delattr(yaml, "CSafeLoader", raising=False)
        try:
            read(tmp_path, text.encode(errors="replace"))
        except UsageError as error:
            assert str(error).isprintable()


def resolve(text: str) -> tuple[str, ...]:
    return tuple(commandline.expand(word, VARIABLES) for word in commandline.split(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a \\\n  --b \\\r\n  c", ("a", "--b", "c")),
        ("a \\  \n  --b", ("a", "--b")),
        # What YAML makes of a pasted command that is not under `|`.
        ("a \\ --b \\ c", ("a", "--b", "c")),
        ("a b\\ c '\\ d'", ("a", "b c", "\\ d")),
        ("a b\\\nc", ("a", "bc")),
        ("a 'x\\\ny' \"x\\\ny\"", ("a", "x\\\ny", "xy")),
        ("a '$X' \"$X\" \\$X $X${X}", ("a", "$X", "x", "$X", "xx")),
        ('a "\\$X" "\\`" $$X 5$', ("a", "$X", "`", "$X", "5$")),
        ("a b#c '#'", ("a", "b#c", "#")),
        ("a ~/b ~ c~", ("a", "/home/me/b", "/home/me", "c~")),
        ('a "\\$(b)"', ("a", "$(b)")),
        ("a *.yaml [0]", ("a", "*.yaml", "[0]")),
    ],
)
def test_a_command_means_what_it_means_in_a_terminal(text: str, words: tuple[str, ...]) -> None:
    assert resolve(text) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a # note", "found '#': a comment cannot be in it"),
        ("a ${X:-1}", r"\$\{X:-1\}: only \$NAME and \$\{NAME\} are known"),
        ("a ${", "only"),
        ("a $1", r"\$1: only"),
        ("a $NOPE", r"\$NOPE is not set"),
        ('a "$(b)"', "found '\\$\\('"),
        ("a b\\ & c", "found '&'"),
    ],
)
def test_what_only_a_shell_could_do_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(text)


def test_home_that_is_not_set_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\$HOME is not set"):
        commandline.expand("~/x", {})


WORD = st.text(
    st.sampled_from("ab$\\'\"`#&;|<>(){}*~ \t\n\r=-")
    | st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    max_size=8,
)


@given(st.lists(WORD.filter(lambda word: not word.startswith("~"))))
@example(["a\\\nb", "$X", "$$", "${", "\\$"])
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    words = ["echo", *words]
    assert resolve(shlex.join(words)) == tuple(words)


def policy(use: object) -> object:
    return msgspec.convert({"use": use}, GpuPolicy, dec_hook=units.decode).use


@pytest.mark.parametrize("use", [[], [-1], ["gpu one"], ["0,1"], [True], ["GPU-"], ["1:0:0"]])
def test_lists_that_name_no_gpu(use: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"gpus|use|\$"):
        policy(use)


@pytest.mark.parametrize("text", ["", " ", "-1", "0,,2", "gpu one", "9" * 5000, "fre", "0;1", "²"])
def test_texts_that_name_no_gpu(text: str) -> None:
    with pytest.raises(UsageError, match="expected free, all, none, or GPUs such as 0,2"):
        config.parse_use(text)


@pytest.mark.parametrize(
    "name", [0, 12, "0", "1:0", "GPU-8f2c0a5b", "MIG-GPU-8f2c0a5b-11aa/1/0", "MIG-5a1b"]
)
def test_names_of_gpus(name: int | str) -> None:
    assert policy([name]) == (name,)
    expected = int(name) if str(name).isdecimal() else name
    assert config.parse_use(f" {name} ") == (expected,)


def test_the_schema_says_what_names_a_gpu() -> None:
    use = schema.sessions_file()["$defs"]["GpuPolicy"]["properties"]["use"]
    (names,) = (kind for kind in use["anyOf"] if kind.get("type") == "array")
    assert names["minItems"] == 1
    assert {"type": "integer", "minimum": 0} in names["items"]["anyOf"]


def test_importing_the_types_loads_nothing_heavy() -> None:
    code = "import sys, tmuxevolve.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"yaml", "difflib", "shlex", "click", "psutil"} & set(done.stdout.split())
