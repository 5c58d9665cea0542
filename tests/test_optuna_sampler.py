"""Optuna's samplers over our own history, and through a real study."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuxevolve.errors import MissingError
from tmuxevolve.study import rows, samplers
from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.history import Generation
from tmuxevolve.study.mutation import META, Bounds
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.samplers import Drawn, Pending, View
from tmuxevolve.study.samplers.optuna import OptunaSampler
from tmuxevolve.study.study import Study
from tmuxevolve.study.values import Result, Search

NAMES = ("tpe", "cmaes", "nsgaii")
LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))
LOSS = Layout(metrics=("fitness",), weights=(1.0,), direction="minimize")
SEARCHED = ("lr0", "box", "degrees", "scale", "shear", "mosaic", "mixup", "hsv_h")
SPACE = {
    **{name: META[name] for name in SEARCHED},
    "fliplr": Bounds(0, 0.0, 1.0),
    "flat": Bounds(1, 2.0, 2.0),
}
BASE = {
    **{"lr0": 0.01, "box": 0.1, "degrees": 9.0, "scale": 0.5, "shear": 9.0, "mosaic": 1.0},
    **{"mixup": 0.0, "hsv_h": 0.015, "fliplr": 0.5, "flat": 2.0, "x": 7.0},
}

BUDGET = 200
Fitness = Callable[[Mapping[str, float]], float]


def quadratic(hyp: Mapping[str, float]) -> float:
    """Return a fitness of at most zero, best where each hyp is at three tenths of its range."""
    places = [(hyp[n] - SPACE[n].lower) / (SPACE[n].upper - SPACE[n].lower) for n in SEARCHED]
    return -sum((place - 0.3) ** 2 for place in places)


class Drawing:
    """A view that grows as a study's does, without its files."""

    def __init__(self, layout: Layout = LAYOUT, space: Mapping[str, Bounds] = SPACE) -> None:
        self.layout = layout
        self.space = space
        self.finished: list[Generation] = []
        self.notes: dict[bytes, Mapping[str, object]] = {}
        self.taken: set[bytes] = set()

    def view(self, pending: Sequence[Mapping[str, float]] = ()) -> View:
        waiting = [Pending(len(self.finished) + i, hyp) for i, hyp in enumerate(pending)]
        return View(BASE, self.space, self.layout, (), self.finished, waiting, self.notes)

    def finish(self, hyp: Mapping[str, float], fitness: float) -> None:
        self.finished.append(Generation(len(self.finished), (fitness,), hyp, self.layout))

    def reserve(self, drawn: Drawn) -> dict[str, float] | None:
        """Take a drawn hyp as the study does; None when it was drawn before."""
        hyp = {name: rows.canonical(value) for name, value in drawn.hyp.items()}
        key = rows.key(hyp, tuple(BASE))
        if key in self.taken:
            return None
        self.taken.add(key)
        if drawn.notes:
            self.notes[key] = json.loads(json.dumps(drawn.notes))
        return hyp

    def run(
        self,
        sampler: samplers.Sampler,
        count: int,
        fitness: Fitness = quadratic,
        at_once: int = 1,
    ) -> None:
        """Draw and finish until so many are finished, some of them while others are pending."""
        rng = Random(4)
        pending: list[dict[str, float]] = []
        while len(self.finished) < count:
            hyp = self.reserve(sampler.draw(self.view(pending), rng))
            if hyp:
                pending.append(hyp)
            if len(pending) == at_once:
                first = pending.pop(0)
                self.finish(first, fitness(first))


def within(hyp: Mapping[str, float]) -> bool:
    return all(SPACE[n].lower <= hyp[n] <= SPACE[n].upper for n in SEARCHED)


@st.composite
def histories(draw: st.DrawFn) -> Drawing:
    """Draw a history by anybody: hyps within bounds and not, results finite and not."""
    found = Drawing(draw(st.sampled_from([LAYOUT, LOSS])))
    excess = draw(st.sampled_from([1, 1.5]))
    near = st.fixed_dictionaries(
        {name: st.floats(SPACE[name].lower, SPACE[name].upper * excess) for name in SEARCHED}
    )
    number = st.floats(width=32)
    for hyp, fitness in draw(st.lists(st.tuples(near, number), max_size=20)):
        rounded = {name: rows.canonical(value) for name, value in {**BASE, **hyp}.items()}
        found.finish(rounded, fitness)
    return found


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(found=histories(), seed=st.integers(0, 2**32))
def test_after_any_history_hyps_are_within_bounds(name: str, found: Drawing, seed: int) -> None:
    sampler = OptunaSampler(name)
    waiting = [{**BASE, "lr0": 0.02}, {**BASE, "lr0": 0.03}]
    drawn = sampler.draw(found.view(waiting), Random(seed))
    assert list(drawn.hyp) == list(BASE)
    assert within(drawn.hyp)
    assert {n: v for n, v in drawn.hyp.items() if n not in SEARCHED} == {
        n: v for n, v in BASE.items() if n not in SEARCHED
    }
    assert all(drawn.hyp[n] == SPACE[n].settle(drawn.hyp[n]) for n in SEARCHED)
    assert drawn == sampler.draw(found.view(waiting), Random(seed))
    assert drawn == OptunaSampler(name).draw(found.view(waiting), Random(seed))


@pytest.mark.parametrize("name", NAMES)
def test_who_joins_late_draws_what_a_worker_from_the_start_draws(name: str) -> None:
    found, veteran = Drawing(), OptunaSampler(name)
    for _ in range(3):
        # Each time a few more populations of CMA-ES (8) and one of NSGA-II (50).
        found.run(veteran, len(found.finished) + 45, at_once=7)
        drawn = veteran.draw(found.view([BASE]), Random(8))
        assert drawn == OptunaSampler(name).draw(found.view([BASE]), Random(8))
        assert drawn != veteran.draw(found.view([BASE]), Random(9))


def reference(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed)
    return optuna.samplers.NSGAIISampler(seed=seed)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", NAMES)
def test_it_draws_what_optuna_draws_that_keeps_all_its_attributes(name: str) -> None:
    """What is left out of the notes, such as the optimizer of CMA-ES, is rebuilt exactly."""
    found, ours, rng = Drawing(), OptunaSampler(name), Random(3)
    theirs = optuna.create_study(direction="maximize")
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        n: optuna.distributions.FloatDistribution(SPACE[n].lower, SPACE[n].upper, log=n == "lr0")
        for n in SEARCHED
    }
    while len(found.finished) < 130:
        state = rng.getstate()
        drawn = ours.draw(found.view(), rng)
        rng.setstate(state)
        theirs.sampler = reference(name, rng.getrandbits(32))
        trial = theirs.ask(distributions)
        expected = {n: SPACE[n].settle(v) for n, v in trial.params.items()}
        assert {n: drawn.hyp[n] for n in SEARCHED} == expected
        hyp = found.reserve(drawn)
        if not hyp:
            theirs.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        found.finish(hyp, quadratic(hyp))
        theirs.tell(trial, quadratic(hyp))
        theirs.get_trials(deepcopy=False)[-1].params = {n: hyp[n] for n in SEARCHED}


def search(name: str, seed: int, layout: Layout = LAYOUT) -> Search:
    return Search(base=BASE, space=SPACE, layout=layout, sampler=name, seed=seed)


def join(results: Path, found: Search, worker: str = "w", budget: int = 1000) -> Study:
    definition = Definition(generations=budget, base=found.base, layout=found.layout)
    agree(Files(results), definition, budget=budget)
    return Study(results, found, myself(worker, worker))


def train(study: Study, count: int, fitness: Fitness = quadratic) -> float:
    """Ask and tell so often; return the best fitness so far."""
    best = math.nan
    for _ in range(count):
        reservation = study.ask()
        assert reservation
        assert within(reservation.hyp)
        progress = study.tell(reservation, Result((fitness(reservation.hyp),), 0.0, 1.0))
        best = progress.best.fitness if progress.best else math.nan
    return best


@pytest.fixture(scope="session")
def at_random(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return what random search finds in two studies."""
    folder = tmp_path_factory.mktemp("random")
    return sum(train(join(folder / f"{n}", search("random", n)), BUDGET) for n in range(2))


@pytest.mark.parametrize("name", NAMES)
def test_a_study_finds_more_than_random_search(name: str, tmp_path: Path, at_random: float) -> None:
    studies = [join(tmp_path / f"{n}", search(f"optuna-{name}", n)) for n in range(2)]
    assert sum(train(study, BUDGET) for study in studies) > 0.7 * at_random


@pytest.mark.parametrize("name", NAMES)
def test_less_of_a_loss_is_as_good_as_more_of_a_fitness(name: str, tmp_path: Path) -> None:
    found = [search(f"optuna-{name}", 5, layout) for layout in (LAYOUT, LOSS)]
    studies = [join(tmp_path / each.layout.direction, each) for each in found]
    best = [
        train(study, 70, fitness)
        for study, fitness in zip(studies, (quadratic, lambda hyp: -quadratic(hyp)), strict=True)
    ]
    assert best[0] == -best[1]


@pytest.mark.parametrize("name", NAMES)
def test_workers_on_one_directory_train_distinct_hyps(name: str, tmp_path: Path) -> None:
    found = search(f"optuna-{name}", 1)
    workers = [join(tmp_path, found, f"w{number}") for number in range(4)]
    for _ in range(15):
        asked = [worker.ask() for worker in workers]
        for worker, reservation in zip(workers, asked, strict=True):
            assert reservation
            worker.tell(reservation, Result((quadratic(reservation.hyp),), 0.0, 1.0))
    lines = Files(tmp_path).table.read_bytes().splitlines()[1:]
    assert len({line[rows.WIDTH + 1 :] for line in lines}) == len(lines) == 60


@pytest.mark.parametrize("name", NAMES)
def test_a_restarted_worker_goes_on_as_if_it_had_never_stopped(name: str, tmp_path: Path) -> None:
    found = search(f"optuna-{name}", 2)
    steady, stopped = join(tmp_path / "a", found), join(tmp_path / "b", found)
    train(steady, 70)
    train(stopped, 35)
    train(join(tmp_path / "b", found, "another"), 35)
    tables = [Files(tmp_path / folder).table.read_bytes() for folder in "ab"]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_notes_is_small(name: str, tmp_path: Path) -> None:
    train(join(tmp_path, search(f"optuna-{name}", 2)), 70)
    for line in Files(tmp_path).journal.read_bytes().splitlines():
        assert len(json.dumps(json.loads(line).get("notes"))) < 150


def test_tpe_keeps_away_from_pending_hyps() -> None:
    space = {"box": SPACE["box"]}
    found = Drawing(space=space)
    for value in (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.11, 0.105):
        found.finish({**BASE, "box": value}, -abs(value - 0.1))
    sampler = OptunaSampler("tpe")

    def distances(pending: Sequence[Mapping[str, float]]) -> float:
        draws = (sampler.draw(found.view(pending), Random(seed)) for seed in range(40))
        return sum(abs(drawn.hyp["box"] - 0.1) for drawn in draws)

    assert distances([{**BASE, "box": 0.1}] * 8) > 1.5 * distances([])


@pytest.mark.parametrize("name", NAMES)
def test_diverged_generations_teach_nothing_and_break_nothing(name: str, tmp_path: Path) -> None:
    calls = iter(range(1000))

    def fitness(hyp: Mapping[str, float]) -> float:
        return (math.nan, math.inf, quadratic(hyp))[next(calls) % 3]

    assert train(join(tmp_path, search(f"optuna-{name}", 0)), 60, fitness) > -0.5


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_history_beyond_the_bounds_is_no_part_of_the_search(name: str) -> None:
    found, empty = Drawing(), Drawing()
    for number in range(20):
        found.finish({**BASE, "box": 0.3 + number / 100}, 5.0)
        empty.finish({**BASE, "lr0": 0.001 * number + 0.001}, math.nan)
    draws = [OptunaSampler(name).draw(each.view(), Random(1)) for each in (found, empty)]
    assert draws[0] == draws[1]


def test_the_rows_that_yolov5_wrote_are_the_first_population_of_nsga2() -> None:
    found = Drawing()
    for number in range(60):
        found.finish({**BASE, "box": rows.canonical(0.05 + number / 1000)}, float(number))
    values = {generation.hyp["box"] for generation in found.finished}
    draws = [OptunaSampler("nsgaii").draw(found.view(), Random(seed)) for seed in range(10)]
    assert sum(drawn.hyp["box"] in values for drawn in draws) > 5


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_was_replaced_is_read_anew(name: str) -> None:
    sampler, old, new = OptunaSampler(name), Drawing(), Drawing()
    old.run(sampler, 20)
    new.run(OptunaSampler(name), 30, lambda hyp: -hyp["box"])
    assert sampler.draw(new.view(), Random(0)) == OptunaSampler(name).draw(new.view(), Random(0))


@pytest.mark.parametrize("name", NAMES)
def test_one_hyp_alone_can_be_searched(name: str) -> None:
    found = Drawing(space={"box": SPACE["box"]})
    found.run(OptunaSampler(name), 60, lambda hyp: -((hyp["box"] - 0.1) ** 2))
    best = max(found.finished, key=lambda generation: generation.fitness)
    assert best.hyp["box"] == pytest.approx(0.1, abs=0.01)


def test_all_hyps_of_yolov5_can_be_searched(capfd: pytest.CaptureFixture[str]) -> None:
    base = {name: (bounds.lower + bounds.upper) / 2 for name, bounds in META.items()}
    for name in NAMES:
        drawn = OptunaSampler(name).draw(View(base, META, LAYOUT, ()), Random(0))
        assert all(META[n].lower <= v <= META[n].upper for n, v in drawn.hyp.items())
        assert drawn.hyp["fliplr"] == base["fliplr"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("module", "name"), [("optuna", "optuna-tpe"), ("cmaes", "optuna-cmaes")])
def test_what_is_missing_is_named(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tmuxevolve.study.samplers.optuna")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=r"^evolve\.sampler: .*'tmuxevolve\[optuna\]'$") as error:
        samplers.make(name)
    assert module in str(error.value).lower()
