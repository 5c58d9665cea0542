"""A run read from its results directory, and the command that shows the best of it."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import finished_run
import pytest
import yaml
from support import Box, Viewer, trainer_session

from tmuxevolve import trainers
from tmuxevolve.errors import NothingFoundError, UsageError
from tmuxevolve.render_results import change
from tmuxevolve.session import best as best_of
from tmuxevolve.session import results
from tmuxevolve.session.results import Run
from tmuxevolve.study.files import Files
from tmuxevolve.study.rows import YOLOV5, Layout
from tmuxevolve.study.values import training_seed
from tmuxevolve.trainers import Training, ultralytics_results

HYP = {"lr": 0.01, "still": 5.0}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    finished_run.make(tmp_path / "r", 12, diverged=2)
    return results.read(tmp_path / "r")


def test_points_know_who_trained_them_and_when(run: Run) -> None:
    assert [point.number for point in run.points] == [*range(12)]
    assert [point.window for point in run.points] == ["gpu0", "gpu10-w1"] * 6
    assert [point.duration for point in run.points] == [500.0 + n for n in range(12)]
    assert run.points[3].started == finished_run.BEGAN + 600
    assert run.budget == finished_run.BUDGET
    assert run.base == dict(run.points[0].hyp)
    assert run.problem is None


def test_what_diverged_is_a_point_but_never_the_best(run: Run) -> None:
    assert [point.counts for point in run.points] == [True] * 10 + [False] * 2
    assert len(run.ranked) == 10
    assert run.best == max(run.points[:10], key=lambda point: point.fitness)
    assert [p.fitness for p in run.ranked] == sorted((p.fitness for p in run.ranked), reverse=True)


def test_less_is_better_where_less_fitness_is(tmp_path: Path) -> None:
    layout = Layout(metrics=("fitness",), weights=(1.0,), direction="minimize")
    finished_run.tell(finished_run.define(tmp_path / "r", HYP, layout), 0.3, 0.1, 0.2, math.nan)
    assert [p.fitness for p in results.read(tmp_path / "r").ranked] == [0.1, 0.2, 0.3]


def test_rows_of_others_have_no_window_and_no_times(tmp_path: Path) -> None:
    study = finished_run.define(tmp_path / "r", HYP)
    rows = ({"lr": 0.5, "still": 5.0}, {"lr": 0.25, "still": 5.0})
    finished_run.write_rows(study.files.table, finished_run.FITNESS, *rows)
    finished_run.tell(study, 0.9)
    run = results.read(tmp_path / "r")
    assert [(p.number, p.window, p.duration) for p in run.points] == [
        (0, None, None),
        (1, None, None),
        (2, "cpu0", 60.0),
    ]
    assert run.base == HYP
    assert "still" in run.varied


def test_a_worker_killed_between_row_and_tell_is_known_by_its_ask(tmp_path: Path) -> None:
    study = finished_run.define(tmp_path / "r", HYP)
    finished_run.tell(study, 0.9)
    journal = study.files.journal
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    (point,) = results.read(tmp_path / "r").points
    assert (point.window, point.ended) == ("cpu0", None)


def test_a_damaged_journal_costs_only_what_it_said(tmp_path: Path) -> None:
    study = finished_run.define(tmp_path / "r", HYP)
    finished_run.tell(study, 0.9, 0.8)
    journal = study.files.journal
    text = journal.read_bytes().replace(b'"lr":0.01', b'"lr":"x"')
    journal.write_bytes(b'{"type":"as\n' + text)
    assert [p.window for p in results.read(tmp_path / "r").points] == [None, "cpu0"]


@pytest.mark.parametrize("layout", [YOLOV5, ultralytics_results.layout("segment")])
def test_native_mode_begins_with_its_first_row(tmp_path: Path, layout: Layout) -> None:
    rows = ({"lr0": 0.01}, {"lr0": 0.02})
    finished_run.write_rows(tmp_path / "evolve.csv", layout, *rows)
    run = results.read(tmp_path)
    assert run.layout == layout
    assert (run.base, run.budget) == ({"lr0": 0.01}, None)
    assert [p.number for p in run.ranked] == [1, 0]


def test_rows_with_other_hyps_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = ({"lr": 0.5, "x": 1.0}, {"lr": math.inf, "x": 1.0}, {"lr": 0.7, "x": 1.0})
    path = tmp_path / "evolve.csv"
    finished_run.write_rows(path, YOLOV5, *rows)
    other = tmp_path / "other" / "evolve.csv"
    finished_run.write_rows(other, YOLOV5, {"lr": 0.9, "y": 1.0})
    path.write_bytes(path.read_bytes() + other.read_bytes())
    run = results.read(tmp_path)
    assert [(point.number, point.hyp["lr"]) for point in run.points] == [(0, 0.5), (2, 0.7)]
    assert run.problem == "evolve.csv: line 5 is a header once more"
    finished_run.write_rows(path, YOLOV5, *rows)
    problem = "evolve.csv: 1 left out: other hyps, or no finite numbers for them"
    assert results.read(tmp_path).problem == problem


def test_nothing_to_look_at_is_one_line_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(NothingFoundError, match="no study there"):
        results.read(tmp_path / "nowhere")
    finished_run.define(tmp_path / "r", HYP)
    with pytest.raises(NothingFoundError, match=r"no generation is finished yet$"):
        results.read(tmp_path / "r")
    (tmp_path / "r" / "evolve.csv").write_text("fitness,lr,still\n1,2\n")
    with pytest.raises(NothingFoundError, match=r"yet \(evolve.csv: line 2 is not a whole row"):
        results.read(tmp_path / "r")
    Files(tmp_path / "r").definition.write_text("{")
    with pytest.raises(UsageError, match=r"study\.json: cannot be read"):
        results.read(tmp_path / "r")


def test_all_diverged_has_no_best(tmp_path: Path) -> None:
    finished_run.tell(finished_run.define(tmp_path / "r", HYP), math.nan)
    with pytest.raises(NothingFoundError, match="all generations diverged"):
        best_of.best(results.read(tmp_path / "r"), None)


@pytest.mark.parametrize(
    ("base", "value", "text"),
    [
        (0.01, 0.02, "+0.01 (+100%)"),
        (-2.0, -3.0, "-1 (-50%)"),
        (0.0, 0.5, "+0.5"),
        (0.5, 0.5, ""),
    ],
)
def test_a_change_is_absolute_and_in_percent(base: float, value: float, text: str) -> None:
    assert change(base, value) == text


def by_hand(*command: str, **keys: object) -> str:
    """Return the command that trains with two hyps."""
    session = trainer_session(*command, workdir=Path("/"), **keys)
    training = Training(4, {"lr0": 0.02, "close_mosaic": 3.0}, Path("/r/h.yaml"), Path("/r/b"), 7)
    trainer = trainers.find(session.trainer, session.command)
    return " ".join(trainer.by_hand(session, training))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "python train.py --hyp old.yaml --evolve 300 --project /runs --name search --epochs 9",
            "python train.py --epochs 9 --hyp /r/h.yaml",
        ),
        (
            "python -m yolov5.train --device 0 --exist-ok --resume",
            "python -m yolov5.train --device 0 --hyp /r/h.yaml",
        ),
        (
            "yolo detect train --data = x.yaml lr0=0.1, device=1 project=/runs name=search",
            "yolo detect train data=x.yaml device=1 lr0=0.02 close_mosaic=3",
        ),
        (
            "./fit {hyp} --lr={hyp.lr0} {output}/{generation}.{seed} {{hyp}}",
            "./fit /r/h.yaml --lr=0.02 /r/b/4.7 {hyp}",
        ),
    ],
)
def test_the_sessions_own_command_with_the_hyps(command: str, expected: str) -> None:
    assert by_hand(*command.split()) == expected


TINYDET = "$TMUXEVOLVE_PYTHON -m tmuxevolve.examples.tinydet"


def test_best_in_words(box: Box) -> None:
    finished_run.make(box.root / "r", 12)
    command = f"{TINYDET} --epochs 2 --seed 5"
    finished_run.sessions_file(box.config, box.root / "r", command, trainer="yolov5")
    shown = box.cli("best").stdout
    run = results.read(box.root / "r")
    assert run.best
    number, fitness = run.best.number, run.best.fitness
    assert shown.startswith(f"12 of 1000 generations, results in {box.root}/r\n")
    assert f"\n{number:<3}  {fitness:<7.5g}" in shown
    value, base = run.best.hyp["momentum"], run.base["momentum"]
    (line,) = (line.split(maxsplit=3) for line in shown.splitlines() if "momentum " in line[:9])
    assert line[1:3] == [f"{base:.5g}", f"{value:.5g}"]
    assert line[3:] == ([change(base, value)] if value != base else [])
    assert shown.splitlines()[-1].endswith(
        f" --epochs 2 --seed 5 --hyp {box.root}/r/generations/{number:04}/hyp.yaml"
    )


def test_the_printed_command_trains(box: Box) -> None:
    """With hyps that another program has left in evolve.csv and nowhere else."""
    examples = Path(best_of.__file__).parents[1] / "examples"
    hyp = yaml.safe_load((examples / "hyp.tinydet.yaml").read_text())
    place = box.root / "out" / "exp"
    finished_run.write_rows(place / "evolve.csv", YOLOV5, hyp, hyp | {"lr0": 0.0007})
    command = f"{TINYDET} --epochs 1 --hyp other.yaml --project {box.root}/out --name exp"
    finished_run.sessions_file(box.config, place, command, trainer="yolov5")
    viewer = Viewer(box)
    viewer.run(
        "tmuxevolve best | grep -A9 ^to.train | tail -n +2 | tee steps; sh -e steps; echo $?"
    )
    viewer.see(r"^tinydet: results saved to.*\n0", 60)
    viewer.close()
    trained = yaml.safe_load((place / "hyp.best.yaml").read_text())
    assert trained == {**hyp, "lr0": 0.0007}


def test_top_json_and_yaml(box: Box) -> None:
    finished_run.make(box.root / "r", 12, diverged=1)
    where = ("--results", str(box.root / "r"))
    run = results.read(box.root / "r")
    found = box.json("best", *where, "--top", "5")
    assert [entry["number"] for entry in found["top"]] == [p.number for p in run.ranked[:5]]
    assert found["top"][0]["hyp"] == dict(run.ranked[0].hyp)
    assert found["command"] is None
    table = box.cli("best", *where, "--top", "5").stdout
    for point in run.ranked[:5]:
        assert f"\n{point.number:<3}  {point.fitness:<7.5g}" in table
        assert f"GEN {point.number}" in table
    text = box.cli("best", *where, "--yaml").stdout
    assert yaml.safe_load(text) == dict(run.ranked[0].hyp)


def test_values_of_env_are_not_shown(box: Box) -> None:
    finished_run.tell(finished_run.define(box.root / "r", HYP), 0.9)
    keys = {
        "trainer": "command",
        "env": {"TOKEN": "t0p"},
        "evolve": {
            "hyp": HYP,
            "space": {"lr": {"min": 0, "max": 1}},
            "fitness": {"pattern": "(x)"},
        },
    }
    command = "fit --key=$TOKEN,{hyp.lr} {output} {seed}"
    finished_run.sessions_file(box.config, box.root / "r", command, **keys)
    done = box.cli("best")
    assert "t0p" not in done.stdout
    last = done.stdout.splitlines()[-3:]
    seed = training_seed(0, 0)
    assert last[0] == f"mkdir -p {box.root}/r/best"
    expected = ["cd", str(box.root), "&&", "fit", "--key=$TOKEN,0.01", f"{box.root}/r/best"]
    assert shlex.split(last[1]) == [*expected, str(seed)]
    assert last[2] == "note: the session's env sets TOKEN for it"
    keys |= {"trainer": "ultralytics", "evolve": {}}
    command = "yolo train 'data = $TOKEN' --api=$TOKEN, $TOKEN"
    finished_run.sessions_file(box.config, box.root / "r", command, **keys)
    done = box.cli("best")
    assert "t0p" not in done.stdout, done.stdout
    assert "api=$TOKEN" in done.stdout


@pytest.mark.parametrize("command", ["best", "plot", "report"])
def test_no_run_is_exit_4_and_one_line(box: Box, command: str) -> None:
    box.session()
    done = box.cli(command)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done
    assert f"{box.root}/results: no study there" in done.stderr
    finished_run.define(box.root / "results", HYP)
    done = box.cli(command, "demo")
    assert (done.returncode, done.stderr) == (
        4,
        f"tmuxevolve: {box.root}/results: no generation is finished yet\n",
    )


def test_what_contradicts_is_exit_2(box: Box) -> None:
    assert box.cli("best", "demo", "--results", "x").returncode == 2
    assert box.cli("best", "--yaml", "--top", "2").returncode == 2
    assert box.cli("best", "--yaml", "--json").returncode == 2
