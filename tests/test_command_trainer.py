"""Any program as a trainer: placeholders in its command, its fitness from a file or its output."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import trainer_session

from tmuxevolve import trainers
from tmuxevolve.config import FitnessSource, Session
from tmuxevolve.errors import UsageError
from tmuxevolve.trainers import NoResultError, Training, fitness, placeholders

HYP = {"lr0": 0.01, "decay": 1e-05, "weird name": 3.0}
TRAINING = Training(42, HYP, Path("/r/0042/hyp.yaml"), Path("/r/0042"), 77)


def session(command: tuple[str, ...], **evolve: Any) -> Session:
    places = {"workdir": Path("/work"), "results": Path("/r")}
    return trainer_session(*command, trainer="command", **places, **evolve)


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("{hyp}", "/r/0042/hyp.yaml"),
        ("--lr={hyp.lr0}", "--lr=0.01"),
        ("{hyp.decay}", "1e-05"),
        ("{hyp.weird name}", "3"),
        ("{output}/{generation}.{seed}", "/r/0042/42.77"),
        ("{{output}} {{hyp.lr0}}", "{output} {hyp.lr0}"),
        ("awk '{print $1}' {} {{}} {HYP} {hypx}", "awk '{print $1}' {} {{}} {HYP} {hypx}"),
    ],
)
def test_placeholders(word: str, filled: str) -> None:
    assert placeholders.fill([word], TRAINING) == (filled,)


@given(st.lists(st.text(st.sampled_from("{}hyp.lr0outgens ")), max_size=4))
def test_words_without_placeholders_stay_as_they_are(words: list[str]) -> None:
    if not placeholders.used(words) and "{{" not in "".join(words):
        assert placeholders.fill(words, TRAINING) == tuple(words)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_filled_in_hyp_is_the_one_that_is_recorded(value: float) -> None:
    from tmuxevolve.study import rows

    training = Training(0, {"x": rows.canonical(value)}, Path("h"), Path("f"), 0)
    (word,) = placeholders.fill(["{hyp.x}"], training)
    assert float(word) == training.hyp["x"]


GOOD = {"hyp": {"lr0": 0.01}, "fitness": FitnessSource(file="r.json", key="map")}


@pytest.mark.parametrize(
    ("command", "evolve", "message"),
    [
        (("x",), {}, "evolve.hyp: is missing; evolve.mode: native runs the command as it is"),
        (("x",), {"hyp": {"lr0": 0.1}}, "evolve.fitness: is missing"),
        (("x",), GOOD, "command: it takes no hyps: put {hyp}"),
        (("x", "{{hyp}}"), GOOD, "command: it takes no hyps"),
        (("x", "{hyp.lr}"), GOOD, "command: {hyp.lr}: evolve.hyp has no 'lr'; has lr0"),
        (("{hyp}",), {**GOOD, "hyp": {"a": math.inf}}, "evolve.hyp.a: expected a finite number"),
        (("{hyp}",), {**GOOD, "hyp": {"fitness": 1.0}}, "a hyp cannot be called fitness"),
        (("{hyp}",), {**GOOD, "hyp": "no.yaml"}, "evolve.hyp: /work/no.yaml: no such file"),
    ],
)
def test_what_cannot_work_is_refused(
    command: tuple[str, ...], evolve: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        trainers.find("command", command).recipe(session(command, **evolve), on_gpu=True)
    assert str(error.value).startswith("sessions.yaml: sessions.demo.")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (FitnessSource(), "say where it is"),
        (FitnessSource(file="a.json"), "key: which value of 'a.json'"),
        (FitnessSource(file="a.txt", key="x"), "file: 'a.txt': a .json, .jsonl or .csv"),
        (FitnessSource(file="/a.json", key="x"), "expected a path inside {output}"),
        (FitnessSource(file="../a.json", key="x"), "expected a path inside {output}"),
        (FitnessSource(pattern="map=("), "is no regex"),
        (FitnessSource(pattern="map"), "in a (group)"),
        (FitnessSource(pattern="(a)", key="x"), "key: goes without pattern"),
        (FitnessSource(pattern=r"map=(\S+)"), None),
        (FitnessSource(pattern=r"map=(\S+)", file="log.txt"), None),
        (FitnessSource(file="sub/a.csv", key="x"), None),
    ],
)
def test_sources(source: FitnessSource, message: str | None) -> None:
    found = fitness.problem(source)
    assert found is None if message is None else message in str(found)


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("r.json", '{"val": {"map": 0.5}}', "val.map", 0.5),
        ("r.json", '{"metrics/mAP_0.5": 0.25}', "metrics/mAP_0.5", 0.25),
        ("r.json", '{"a": {"mAP_0.5": [1, 2]}}', "a.mAP_0.5.-1", 2.0),
        ("r.json", '{"map": "0.75"}', "map", 0.75),
        ("r.jsonl", '{"map": 1}\n{"map": 2}\n\n', "map", 2.0),
        ("r.csv", "epoch,  map \n0, 0.1\n1, 0.2\n", "map", 0.2),
        ("r.csv", "\ufeffmap,x\n0.3,1\n\n", "map", 0.3),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, key: str, value: float) -> None:
    (tmp_path / name).write_text(text)
    assert fitness.read(FitnessSource(file=name, key=key), tmp_path, "") == value


@pytest.mark.parametrize(
    ("name", "text", "key", "message"),
    [
        ("r.json", None, "map", "No such file"),
        ("r.json", "", "map", "is no JSON"),
        ("r.json", '{"val": {"map": 1}}', "val.mAP", "has no 'mAP'; it has map"),
        ("r.json", '{"map": true}', "map", "is True, not a number"),
        ("r.json", '{"map": null}', "map", "is None, not a number"),
        ("r.json", "[]", "map", "has no 'map'"),
        ("r.csv", "", "map", "has no column 'map'"),
        ("r.csv", "epoch,map\n", "map", "has no row"),
        ("r.csv", "epoch,map\n1\n", "map", "is '', not a number"),
    ],
)
def test_no_fitness_is_a_failure_with_a_reason(
    tmp_path: Path, name: str, text: str | None, key: str, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(NoResultError, match="no fitness: ") as error:
        fitness.read(FitnessSource(file=name, key=key), tmp_path, "")
    assert message in str(error.value)


def test_the_last_matching_line_counts(tmp_path: Path) -> None:
    log = "map=0.1\nmap=0.2 best\nthe end\n"
    assert fitness.read(FitnessSource(pattern=r"map=(\S+)"), tmp_path, log) == 0.2
    (tmp_path / "log.txt").write_text("loss: nan\n")
    source = FitnessSource(pattern=r"loss: (\S+)", file="log.txt")
    assert math.isnan(fitness.read(source, tmp_path, log))
    with pytest.raises(NoResultError, match="in what it printed"):
        fitness.read(FitnessSource(pattern=r"loss=(\S+)"), tmp_path, log)


@given(st.recursive(st.floats() | st.text() | st.none(), lambda s: st.dictionaries(st.text(), s)))
def test_any_json_gives_a_number_or_a_reason(tmp_path_factory: Any, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.json").write_text(json.dumps(data))
    try:
        found = fitness.read(FitnessSource(file="any.json", key="a.b"), folder, "")
    except NoResultError:
        return
    assert isinstance(found, float)
