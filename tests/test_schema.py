"""The JSON Schema of sessions.yaml: current, complete, and of one mind with the program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from support import Box

from tmuxevolve import config, configfile, schema, units, yamlfile
from tmuxevolve.errors import UsageError

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads(json.dumps(schema.sessions_file()))
VALID = Draft202012Validator(SCHEMA)
STRUCTS = {name: getattr(config, name) for name in schema.TEXTS}


def takes(data: Any) -> bool:
    return VALID.is_valid(data)


def loads(folder: Path, data: Any) -> bool:
    """Say whether the program takes this document."""
    path = folder / "sessions.yaml"
    # JSON is YAML, and writes control characters so that they come back.
    path.write_text(json.dumps(data))
    try:
        configfile.load(path)
    except UsageError:
        return False
    return True


def document(**entry: Any) -> dict[str, Any]:
    return {"sessions": {"demo": {"command": "train", "results": "runs", **entry}}}


def test_the_shipped_files_are_current(box: Box) -> None:
    printed = box.cli("schema")
    assert printed.returncode == 0
    for path in (schema.INSTALLED, ROOT / "docs" / "sessions.schema.json"):
        assert json.loads(path.read_text()) == SCHEMA == json.loads(printed.stdout)


@pytest.mark.parametrize("dialect", [Draft202012Validator, Draft7Validator])
def test_it_is_a_schema_to_new_and_old_editors(dialect: Any) -> None:
    dialect.check_schema(SCHEMA)
    assert dialect(SCHEMA).is_valid(document())
    assert not dialect(SCHEMA).is_valid(document(gpus={"use": "fre"}))


@pytest.mark.parametrize("name", STRUCTS)
def test_every_key_has_a_text(name: str) -> None:
    fields = msgspec.structs.fields(STRUCTS[name])
    assert [field.encode_name for field in fields] == list(schema.TEXTS[name])
    written = SCHEMA["$defs"][name]["properties"]
    assert {key: part["description"] for key, part in written.items()} == schema.TEXTS[name]
    reference = (ROOT / "docs" / "sessions-yaml.md").read_text()
    assert [
        key for key in written if f"`{key}" not in reference and f"{key}:" not in reference
    ] == []


def test_the_texts_are_for_people() -> None:
    assert set(SCHEMA["$defs"]) == set(schema.TEXTS)
    texts = [text for part in schema.TEXTS.values() for text in part.values()]
    assert all(re.fullmatch(r"\S.+\.", text) and "``" not in text for text in texts)


def test_defaults_are_those_of_the_program() -> None:
    restart, gpus = (SCHEMA["$defs"][n]["properties"] for n in ("RestartPolicy", "GpuPolicy"))
    assert (restart["backoff"]["default"], gpus["max_memory_used"]["default"]) == ("10s", "500MiB")
    assert "default" not in gpus["idle_for"]


def test_the_shipped_sessions_file_is_valid_and_names_the_schema() -> None:
    text = (ROOT / "sessions.yaml").read_text()
    VALID.validate(yamlfile.load(ROOT / "sessions.yaml").data)
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])
    assert named
    assert (ROOT / named[1]).is_file()


WORDS = [
    "free",
    "all",
    "fixed",
    "native",
    "cooperative",
    "20G",
    "3s",
    "1:0",
    "GPU-x",
    "lots",
    "SIGINT",
    "optuna-tpe",
    "failure",
    "uuid",
    "best",
    "yolov5",
    "minimize",
    "3x",
    "12",
]
NUMBERS = (0, 1, 3, 17, 101, 2000, -1, 0.5, -0.5)
SCALAR = st.sampled_from([None, True, False, *NUMBERS, "", "a b", *WORDS])
HYPS = st.dictionaries(st.sampled_from(["lr0", "a"]), SCALAR, max_size=2)
JUNK = st.one_of(
    SCALAR,
    st.lists(SCALAR, max_size=3),
    HYPS,
    st.lists(HYPS, max_size=1),
    st.dictionaries(st.sampled_from(["lr0", "gain"]), HYPS, max_size=2),
)
# A variable without a value is refused, one that is null is not: YAML alone tells them apart.
ENV = st.one_of(
    SCALAR,
    st.lists(SCALAR, max_size=2),
    st.dictionaries(
        st.sampled_from(["A", "a_1"]), JUNK.filter(lambda value: value is not None), max_size=2
    ),
)


def keys_of(struct: str) -> Any:
    """Return values for a part of the file: right and wrong ones under its own and other keys."""
    parts = dict.fromkeys([*schema.TEXTS[struct], "nope"], JUNK)
    some = st.lists(st.sampled_from(list(parts)), max_size=3, unique=True)
    return some.flatmap(lambda keys: st.fixed_dictionaries({key: parts[key] for key in keys}))


PARTS = {
    "evolve": "Evolve",
    "gpus": "GpuPolicy",
    "restart": "RestartPolicy",
    "stop": "StopPolicy",
    "notify": "Notify",
}
ENTRY = st.one_of(
    st.sampled_from([*schema.TEXTS["SessionEntry"], "nope"]).flatmap(
        lambda key: st.fixed_dictionaries({key: ENV if key == "env" else JUNK})
    ),
    *(st.fixed_dictionaries({key: keys_of(struct)}) for key, struct in PARTS.items()),
    st.fixed_dictionaries({"evolve": st.fixed_dictionaries({"fitness": keys_of("FitnessSource")})}),
    st.fixed_dictionaries(
        {
            "evolve": st.fixed_dictionaries(
                {"space": st.dictionaries(st.just("a"), keys_of("Interval"))}
            )
        }
    ),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ENTRY)
def test_it_takes_what_the_program_takes_and_nothing_else(
    tmp_path: Path, entry: dict[str, Any]
) -> None:
    data = document(**entry)
    assert takes(data) == loads(tmp_path, data), data


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        {"sessions": {}},
        {"sessions": []},
        {"sessions": {"demo": None}},
        {"sessions": {"demo": {"command": "x"}}},
        {"sessions": {"demo": {"results": "x"}}},
        {**document(), "default": 3},
        {**document(), "defualt": "demo"},
    ],
)
def test_documents_that_are_no_sessions_file(tmp_path: Path, data: Any) -> None:
    assert not takes(data)
    assert not loads(tmp_path, data)


NAMES = st.text(st.sampled_from("ab1 日-=$@%+!{~^:.#\\;\t\x85'\""), max_size=4) | st.just("x" * 65)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_names_of_sessions(tmp_path: Path, name: str) -> None:
    data = {"sessions": {name: {"command": "x", "results": "y"}}}
    assert takes(data) == loads(tmp_path, data), name


@pytest.mark.parametrize("name", ["A", "_a1", "A-B", "1", "", "CUDA_VISIBLE_DEVICES"])
def test_names_of_variables(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sessions.yaml"
    path.write_text(json.dumps(document(env={name: "x"})))
    try:
        configfile.load(path).session(None, {})
    except UsageError:
        assert not takes(document(env={name: "x"}))
    else:
        assert takes(document(env={name: "x"}))


@given(st.text(st.sampled_from("0123456789.kKmMgGtTiIbB _"), max_size=6))
def test_sizes_as_text(text: str) -> None:
    assert takes(document(memory=text)) == _reads(units.Size, text)


@given(st.text(st.sampled_from("019.msShHd x"), max_size=4) | st.sampled_from(["1h30m", "500MS"]))
def test_durations_as_text(text: str) -> None:
    assert takes(document(stagger=text)) == _reads(units.Duration, text)


def _reads(kind: type[units.Size] | type[units.Duration], text: str) -> bool:
    try:
        kind.parse(text)
    except ValueError:
        return False
    return True
