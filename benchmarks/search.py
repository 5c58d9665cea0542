"""How good the best hyps are after so many generations: each sampler, and windows left alone.

    python benchmarks/search.py [--seeds 20] [--budget 300] [--only NAME ...] [--plot FILE]

Eight workers at once, as in a session: each asks, trains, tells, through our own study on files; a
training takes 0.8 to 1.2 units of simulated time. `native` is what YOLOv5's own --evolve is
on GPUs that do not share their results: eight studies with the sampler yolov5, of which the best
generation counts. All ways of one seed begin with the same base hyps.

The objectives, all maximized:
- tinydet, the bundled trainer for real, for one epoch: 15 hyps; the seed is that of its training.
- Hartmann's function of six variables (Dixon and Szegö, 1978): six of YOLOv5's hyps decide, which
  ones depends on the seed, and the others do nothing, as is usual with hyps (Bergstra and Bengio,
  2012). At best 3.322.
- Rosenbrock's function (1960), of all hyps that YOLOv5 moves: each depends on its neighbours. It
  is given as -log10(1 + f), at best 0.
The base of the two functions is the best of ten random points: somebody has thought about it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import yaml

from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.mutation import META, constrain
from tmuxevolve.study.rows import Layout
from tmuxevolve.study.study import Study
from tmuxevolve.study.values import Reservation, Result, Search

ROOT = Path(__file__).parents[1]
WORKERS = 8
LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))
SAMPLERS = ("yolov5", "optuna-tpe", "optuna-cmaes", "random")
NATIVE = "native, 8 alone"
WAYS = (*SAMPLERS, NATIVE)
SHOWN = (100, 300)
Hyp = Mapping[str, float]
Objective = Callable[[Hyp], float]

MOVED = tuple(name for name, bounds in META.items() if bounds.gain)
# Hartmann 6: weights, shapes and places of its four peaks (Dixon and Szegö, 1978).
ALPHA = (1.0, 1.2, 3.0, 3.2)
SHAPES = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
PLACES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


@dataclass(frozen=True)
class Problem:
    """What is to be maximized, from which hyps on."""

    fitness: Objective
    base: Hyp


def unit(hyp: Hyp, names: Sequence[str]) -> list[float]:
    """Return where hyps are between their bounds, 0 to 1."""
    return [(hyp[n] - META[n].lower) / (META[n].upper - META[n].lower) for n in names]


def hartmann(seed: int) -> Problem:
    names = Random(f"hartmann {seed}").sample(MOVED, 6)

    def fitness(hyp: Hyp) -> float:
        x = unit(hyp, names)
        return sum(
            weight * math.exp(-sum(a * (v - p) ** 2 for a, v, p in zip(shape, x, at, strict=True)))
            for weight, shape, at in zip(ALPHA, SHAPES, PLACES, strict=True)
        )

    return Problem(fitness, chosen_base(fitness, seed))


def rosenbrock(seed: int) -> Problem:
    order = Random(f"rosenbrock {seed}").sample(MOVED, len(MOVED))

    def fitness(hyp: Hyp) -> float:
        x = [4.096 * value - 2.048 for value in unit(hyp, order)]
        return -math.log10(1 + sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))

    return Problem(fitness, chosen_base(fitness, seed))


def tinydet(seed: int) -> Problem:
    from tmuxevolve.examples import tinydet_train

    settings = tinydet_train.Settings(epochs=1, batch_size=8, seed=seed, last_validation_only=True)

    def fitness(hyp: Hyp) -> float:
        *_, last = tinydet_train.train(hyp, settings)
        return 0.1 * last.scores.map50 + 0.9 * last.scores.map50_95

    path = ROOT / "tmuxevolve" / "examples" / "hyp.tinydet.yaml"
    return Problem(fitness, yaml.safe_load(path.read_text()))


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    "Hartmann 6": hartmann,
    "Rosenbrock": rosenbrock,
    "tinydet": tinydet,
}


def chosen_base(fitness: Objective, seed: int) -> Hyp:
    """Return the best of ten random points; hyps that YOLOv5 does not move are in the middle."""
    rng = Random(f"base {seed}")
    points = [
        constrain(
            {
                name: rng.uniform(b.lower, b.upper) if b.gain else (b.lower + b.upper) / 2
                for name, b in META.items()
            },
            META,
        )
        for _ in range(10)
    ]
    return max(points, key=fitness)


def studies(folder: Path, problem: Problem, way: str, seed: int, budget: int) -> list[Study]:
    """Return each worker's study: one for all, or one for each."""
    made = []
    sampler = "yolov5" if way == NATIVE else way
    for number in range(WORKERS):
        results = folder / (str(number) if way == NATIVE else "shared")
        (results / "study").mkdir(parents=True, exist_ok=True)
        definition = Definition(generations=budget, base=dict(problem.base), layout=LAYOUT)
        agree(Files(results), definition, budget=budget)
        search = Search(
            base=dict(problem.base),
            space={name: META[name] for name in problem.base},
            layout=LAYOUT,
            sampler=sampler,
            # Eight windows that share nothing draw from eight seeds.
            seed=100 * seed + number if way == NATIVE else seed,
        )
        made.append(Study(results, search, myself(f"w{number}", f"w{number}")))
    return made


def evolve(name: str, way: str, seed: int, budget: int) -> list[float]:
    """Return the best fitness so far after each generation of all workers."""
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  (the progress bars of tinydet)
    problem = PROBLEMS[name](seed)
    clock = Random(f"clock {seed}")
    best = [-math.inf]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        workers = studies(Path(folder), problem, way, seed, budget)
        busy = [(clock.uniform(0.8, 1.2), i, w.ask()) for i, w in enumerate(workers)]
        heapq.heapify(busy)
        while len(best) <= budget:
            now, number, reservation = heapq.heappop(busy)
            assert isinstance(reservation, Reservation)
            fitness = problem.fitness(reservation.hyp)
            best.append(max(best[-1], fitness))
            workers[number].tell(reservation, Result((fitness,), now, now))
            if following := workers[number].ask():
                heapq.heappush(busy, (now + clock.uniform(0.8, 1.2), number, following))
    return best[1:]


def run(names: Sequence[str], ways: Sequence[str], seeds: int, budget: int, cache: Path) -> Results:
    """Run what is not in the cache yet."""
    found = Results(cache)
    wanted = [(n, w, s, budget) for n in names for s in range(seeds) for w in ways]
    missing = [each for each in wanted if each not in found]
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {pool.submit(evolve, *each): each for each in missing}
        for count, future in enumerate(as_completed(futures), start=1):
            found.add(futures[future], future.result())
            spent = time.monotonic() - began
            print(f"\r{count} of {len(missing)}, {spent:.0f} s", end="", file=sys.stderr)
    return found


class Results:
    """Each run's best fitness after each generation, kept in a file: a run takes minutes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._found = {tuple(key): best for key, best in map(json.loads, lines)}

    def __contains__(self, key: object) -> bool:
        return key in self._found

    def add(self, key: tuple[str, str, int, int], best: Sequence[float]) -> None:
        self._found[key] = [float(f"{value:.6g}") for value in best]
        with self._path.open("a") as file:
            file.write(json.dumps([key, self._found[key]]) + "\n")

    def of(self, name: str, way: str, budget: int) -> list[list[float]]:
        """Return the runs of one way, by seed."""
        keys = sorted(key for key in self._found if (key[0], key[1], key[3]) == (name, way, budget))
        return [self._found[key] for key in keys]


def table(found: Results, names: Sequence[str], ways: Sequence[str], budget: int) -> Iterator[str]:
    """Yield Markdown: median and quartiles of the best fitness, and how often a way is ahead."""
    shown = [count for count in SHOWN if count <= budget]
    heads = "".join(f" after {n} | ahead of yolov5 |" for n in shown)
    yield f"| objective | |{heads}"
    yield "|---|---|" + "---:|---:|" * len(shown)
    for name in names:
        ours = found.of(name, SAMPLERS[0], budget)
        for way in ways:
            runs = found.of(name, way, budget)
            cells = [_cell(runs, ours, n) if runs else "- | -" for n in shown]
            yield f"| {name} | {way} | {' | '.join(cells)} |"


def _cell(runs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], count: int) -> str:
    values = [run[count - 1] for run in runs]
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    ahead = sum(run[count - 1] > own[count - 1] for run, own in zip(runs, ours, strict=False))
    versus = "" if runs == ours else f"{ahead} of {len(runs)}"
    return f"{middle:.3g} ({low:.3g} to {high:.3g}) | {versus}"


def plot(found: Results, names: Sequence[str], ways: Sequence[str], budget: int, to: Path) -> None:
    """Draw the medians over the generations, with the quartiles as bands."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "tmuxevolve"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(names), figsize=(4.4 * len(names), 4), squeeze=False)
    for name, axis in zip(names, axes[0], strict=True):
        for way in ways:
            if not (runs := found.of(name, way, budget)):
                continue
            columns = [
                statistics.quantiles(c, n=4, method="inclusive") for c in zip(*runs, strict=True)
            ]
            low, middle, high = zip(*columns, strict=True)
            numbers = range(1, budget + 1)
            (line,) = axis.plot(numbers, middle, label=way, linewidth=1.6)
            axis.fill_between(numbers, low, high, alpha=0.12, color=line.get_color())
        axis.set(title=name, xlabel="generations of all 8 workers", ylabel="best fitness so far")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None}, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--cache", type=Path, help="keeps what is done")
    parser.add_argument("--plot", type=Path, help="draw to this file (SVG)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = chosen.cache or Path(folder) / "search.jsonl"
        found = run(chosen.only, chosen.ways, chosen.seeds, chosen.budget, cache)
        print("\n".join(table(found, chosen.only, chosen.ways, chosen.budget)))
        if chosen.plot:
            plot(found, chosen.only, chosen.ways, chosen.budget, chosen.plot)


if __name__ == "__main__":
    main()
