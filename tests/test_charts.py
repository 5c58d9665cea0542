"""What is drawn of a run, and the picture."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import click.testing
import finished_run
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import Box

from tmuxevolve.charts import PARTS, picture, series
from tmuxevolve.charts.importance import FEWEST, importance
from tmuxevolve.cli import main
from tmuxevolve.session import results
from tmuxevolve.session.results import Point, Run
from tmuxevolve.study.rows import Layout

SIGNS = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-"}


def run_of(
    fitness: Sequence[float], *, ended: Sequence[float] | None = None, direction: str = "maximize"
) -> Run:
    """Return a run of one hyp that follows from the fitness, and one that does not."""
    layout = Layout(metrics=("f",), weights=(1.0,), direction=direction)
    return Run(
        results=Path("/r"),
        layout=layout,
        base={"a": 1.0, "b": 1.0},
        budget=None,
        points=tuple(
            Point(
                number=number,
                fitness=value,
                metrics=(value,),
                hyp={"a": value, "b": (number * 7919 % 101) / 101},
                worker="gpu0-0123456789abcdef" if ended else None,
                started=0.0 if ended else None,
                ended=ended[number] if ended else None,
            )
            for number, value in enumerate(fitness)
        ),
    )


FITNESS = st.floats(0, 1) | st.just(math.nan)
SOME = st.lists(FITNESS, min_size=1).filter(lambda values: any(map(math.isfinite, values)))


@given(SOME, st.sampled_from(["maximize", "minimize"]))
def test_the_running_best_is_the_best_of_what_was_before(
    fitness: list[float], direction: str
) -> None:
    run = run_of(fitness, direction=direction)
    line = series.running_best(run, series.order(run))
    choose = max if direction == "maximize" else min
    for place, value in zip(line.places, line.fitness, strict=True):
        assert value == choose(v for v in fitness[: int(place) + 1] if math.isfinite(v))
    assert line.places[-1] == len(fitness) - 1
    assert len({*line.fitness}) >= len(line.fitness) - 1


@given(SOME, st.integers(2, 20))
def test_a_sample_has_the_best_and_is_not_larger_than_asked(
    fitness: list[float], limit: int
) -> None:
    run = run_of(fitness)
    found = series.sample(run, limit)
    assert found.points[: limit // 2] == run.ranked[: limit // 2]
    assert len(found.points) <= limit
    assert len({point.number for point in found.points}) == len(found.points)
    assert (found.note is None) == (len(run.ranked) <= limit)


def test_time_is_on_the_axis_where_all_times_are_known() -> None:
    found = series.axis(run_of([0.1, 0.2], ended=[3600.0, 9000.0]))
    assert (found.label, found.values) == ("hours since the start", (1.0, 2.5))
    assert series.axis(run_of([0.1, 0.2])).values == (0.0, 1.0)
    assert not series.axis(run_of([0.1, 0.2])).timed


def test_windows_are_in_the_order_of_their_numbers() -> None:
    names = ["gpu10", "gpu2-w1", "gpu2", None]
    points = [
        Point(number=0, fitness=0, metrics=(), hyp={}, worker=name and f"{name}-{'0' * 16}")
        for name in names
    ]
    run = Run(results=Path(), layout=Layout(), base={}, budget=None, points=tuple(points))
    assert series.windows(run) == ("gpu2", "gpu2-w1", "gpu10", "unknown")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_importance_is_that_of_the_hyp_that_decides(direction: str) -> None:
    found = importance(run_of([n / 100 for n in range(100)], direction=direction))
    assert found.missing is None
    assert next(iter(found.shares)) == "a"
    assert found.shares["a"] > 0.7
    assert sum(found.shares.values()) == pytest.approx(1)


def test_importance_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    few = importance(run_of([n / 100 for n in range(FEWEST - 1)]))
    assert few.missing == "needs 30 generations with different hyps"
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "tmuxevolve[optuna]" in (importance(run_of([0.1])).missing or "")


@pytest.mark.parametrize(("kind", "sign"), SIGNS.items(), ids=SIGNS)
def test_a_picture_of_each_kind(tmp_path: Path, kind: str, sign: bytes) -> None:
    study = finished_run.define(tmp_path / "r", {"a": 1.0, "b": 2.0})
    finished_run.tell(study, *(n / 100 for n in range(FEWEST)))
    path = tmp_path / f"evolve.{kind}"
    parts = ("--part", "importance", "--part", "parallel")
    done = click.testing.CliRunner().invoke(
        main, ["plot", "--results", str(tmp_path / "r"), "-o", str(path), *parts]
    )
    assert (done.exit_code, done.output) == (0, f"{path}: {FEWEST} generations\n")
    assert path.read_bytes().startswith(sign)


def test_every_hyp_has_its_panel(tmp_path: Path) -> None:
    finished_run.make(tmp_path / "r", 6)
    run, path = results.read(tmp_path / "r"), tmp_path / "evolve.svg"
    picture.save(run, path, ["hyps"])
    text = path.read_text()
    assert len(run.base) == 29
    assert {name for name in run.base if f"<!-- {name} = " not in text} == set()


def test_the_picture_needs_no_display_and_lands_here_by_default(box: Box) -> None:
    finished_run.make(box.root / "r", 4, diverged=1)
    drop = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "MPLBACKEND": "TkAgg"}
    done = box.cli("plot", "--results", "r", "--part", "fitness", env=drop)
    assert (done.returncode, done.stdout, done.stderr) == (0, "evolve.png: 4 generations\n", "")
    with Image.open(box.root / "evolve.png") as image:
        assert image.size == (1500, 400)


def test_one_generation_and_odd_names_can_be_drawn(tmp_path: Path) -> None:
    hyp = {"$lr_0$": 0.5, "_x\\frac": 0.5, "学習率": 0.5, "n" * 90: 0.5}
    finished_run.tell(finished_run.define(tmp_path / "r", hyp), 0.5)
    run = results.read(tmp_path / "r")
    picture.save(run, tmp_path / "one.svg", PARTS)
    text = (tmp_path / "one.svg").read_text()
    assert "$lr_0$ = 0.5" in text
    assert "n" * 23 + "… = 0.5" in text


def test_what_is_missing_is_exit_5_and_how_to_get_it(
    own_tmux: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, library, extra in (("plot", "matplotlib", "plot"), ("report", "plotly", "report")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(SystemExit) as ended:
            main([command, "--results", str(own_tmux.root)])
        assert ended.value.code == 5
        assert capsys.readouterr().err == (
            f"tmuxevolve: {command} needs {library}: pip install 'tmuxevolve[{extra}]',"
            f" or pipx inject tmuxevolve {library}\n"
        )


def test_another_kind_of_file_is_refused(box: Box) -> None:
    done = box.cli("plot", "-o", "evolve.jpg")
    assert done.returncode == 2
    assert done.stderr == "tmuxevolve: evolve.jpg: expected a name that ends in .png, .svg, .pdf\n"
