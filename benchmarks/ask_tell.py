"""What ask + tell costs beside Optuna's JournalStorage: same history, same machine, same run.

    python benchmarks/ask_tell.py [--quick] [--folder DIRECTORY]

A history is written to files first: for Optuna a journal as its ask and tell leave it, for us an
evolve.csv alone, as YOLOv5 leaves it, and one with the journal of its generations. Then a new
process joins and goes on to ask and tell, and then many processes do so at once. Trainings take no
time. Both sync to the disk as they do by default, and search YOLOv5's hyps. Imports do not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import msgspec
import study_worker
from msgspec import Raw

from tmuxevolve.study import rows, samplers
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.journal import Asked, Told, text_of
from tmuxevolve.study.mutation import META, constrain
from tmuxevolve.study.study import Study

SIZES = (10, 1_000, 100_000)
PROCESSES = 64
FOOTNOTE = """
The ratio says how many times better ours with a journal is. A dash: so many processes would take
more than half of the memory. Of processes at once a few lucky ones may do most: then the median is
theirs."""


class Ours:
    """A worker of our own."""

    def __init__(self, folder: Path, sampler: str, name: str) -> None:
        self.study = Study(folder, study_worker.search(sampler), myself(name, name))

    def ask(self) -> None:
        self.reservation = self.study.ask()

    def tell(self) -> None:
        self.study.tell(self.reservation, study_worker.result(self.reservation.hyp))

    @staticmethod
    def load(sampler: str) -> None:
        samplers.make(sampler)


class Optunas:
    """A worker of Optuna's, with its journal in a file."""

    def __init__(self, folder: Path, sampler: str, name: str) -> None:
        import optuna

        made = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
        self.study = optuna.load_study(
            study_name="study",
            storage=_storage(folder),
            sampler=made[sampler](seed=Random(name).getrandbits(32)),
        )
        self.space = {
            name: optuna.distributions.FloatDistribution(bounds.lower, bounds.upper)
            for name, bounds in META.items()
            if bounds.gain
        }

    def ask(self) -> None:
        self.trial = self.study.ask(self.space)

    def tell(self) -> None:
        hyp = {**study_worker.BASE, **self.trial.params}
        self.study.tell(self.trial, study_worker.result(hyp).metrics[3])

    @staticmethod
    def load(sampler: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)


def _storage(folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def hyps(count: int) -> Iterator[dict[str, float]]:
    """Return random hyps, the same each time."""
    rng = Random(0)
    for _ in range(count):
        drawn = {name: rng.uniform(bounds.lower, bounds.upper) for name, bounds in META.items()}
        yield {name: rows.canonical(value) for name, value in constrain(drawn, META).items()}


def write_ours(folder: Path, count: int, *, journal: bool) -> None:
    """Write so many generations."""
    files = Files(folder)
    study_worker.define(folder, 10**9)
    with files.table.open("wb") as table:
        table.write(rows.header([*rows.METRICS, *study_worker.BASE]))
        for hyp in hyps(count):
            table.write(rows.row([*study_worker.result(hyp).metrics, *hyp.values()]))
    if not journal:
        return
    when = 1.7e9
    with files.journal.open("wb") as events:
        for number, hyp in enumerate(hyps(count)):
            asked = Asked(number=number, hyp=Raw(text_of(hyp)), worker="0f3a-1", at=when)
            told = Told(number=number, fitness=0.5, worker="0f3a-1", started=when, ended=when)
            events.write(msgspec.json.encode(asked) + b"\n" + msgspec.json.encode(told) + b"\n")


def write_optunas(folder: Path, count: int) -> None:
    """Write so many trials: the log of one that was asked and told, again and again."""
    import optuna

    folder.mkdir(parents=True)
    Optunas.load("random")
    path = folder / "journal.log"
    optuna.create_study(storage=_storage(folder), study_name="study", direction="maximize")
    begun = len(path.read_bytes())
    worker = Optunas(folder, "random", "first")
    worker.ask()
    worker.tell()
    log = _template(path.read_bytes()[begun:].splitlines())
    with path.open("a", encoding="ascii") as file:
        for number, hyp in enumerate(hyps(count - 1), start=1):
            file.write(log % {**hyp, "trial": number, "value": study_worker.result(hyp).metrics[3]})


def _template(lines: Sequence[bytes]) -> str:
    """Return the log of one trial with places for what differs in each."""
    text = ""
    for line in lines:
        entry = json.loads(line)
        if "trial_id" in entry:
            entry["trial_id"] = "%(trial)d"
        if "param_name" in entry:
            entry["param_value_internal"] = f"%({entry['param_name']})r"
        if "values" in entry:
            entry["values"] = ["%(value)r"]
        text += json.dumps(entry, separators=(",", ":")) + "\n"
    return re.sub(r'"(%\(\w+\)[dr])"', r"\1", text)


@dataclass(frozen=True)
class Contender:
    """A library with one of its samplers, and the history it works on."""

    worker: type[Ours] | type[Optunas]
    sampler: str
    folder: Path

    def join(self, name: str) -> Ours | Optunas:
        return self.worker(self.folder, self.sampler, name)


@dataclass(frozen=True)
class Alone:
    """One process: seconds of its first ask and of a later pair, MB it grew by."""

    first: float
    pair: float
    grown: float
    peak: float


@dataclass(frozen=True)
class Crowd:
    """Many processes: pairs per second of all, the fewest of one, seconds that each pair took."""

    rate: float
    fewest: int
    pairs: tuple[float, ...]


def megabytes(field: str) -> float:
    """Return VmRSS (memory now) or VmHWM (the most so far) of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def pair(worker: Ours | Optunas) -> float:
    began = time.perf_counter()
    worker.ask()
    worker.tell()
    return time.perf_counter() - began


def work_alone(contender: Contender, seconds: float, pipe: Any) -> None:
    contender.worker.load(contender.sampler)
    before = megabytes("VmRSS")
    began = time.perf_counter()
    worker = contender.join("alone")
    worker.ask()
    first = time.perf_counter() - began
    worker.tell()
    grown, peak = megabytes("VmRSS") - before, megabytes("VmHWM") - before
    end = time.perf_counter() + seconds
    pairs = []
    while len(pairs) < 3 or (time.perf_counter() < end and len(pairs) < 500):
        pairs.append(pair(worker))
    pipe.send(Alone(first, statistics.median(pairs), grown, peak))


def alone(contender: Contender, seconds: float) -> Alone:
    """Measure one process, which is a fresh one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work_alone, args=(contender, seconds, theirs))
    process.start()
    found: Alone = ours.recv()
    process.join()
    return found


def work_in_a_crowd(
    contender: Contender, number: int, seconds: float, ready: Any, results: Any
) -> None:
    worker = contender.join(f"crowd-{number}")
    pair(worker)
    ready.wait()
    end = time.perf_counter() + seconds
    pairs = []
    while time.perf_counter() < end:
        pairs.append(pair(worker))
    results.put((pairs, time.perf_counter() - end + seconds))


def crowd(contender: Contender, processes: int, seconds: float) -> Crowd:
    """Measure processes that begin together, each after it has joined."""
    contender.worker.load(contender.sampler)
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=work_in_a_crowd, args=(contender, i, seconds, ready, results))
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    pairs = tuple(sorted(seconds for pairs, _ in found for seconds in pairs))
    rate = len(pairs) / max(wall for _, wall in found)
    return Crowd(rate, min(len(pairs) for pairs, _ in found), pairs)


def cell(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.{2 if value < 0.01 else 0}f} ms"
    return f"{value:.{1 if unit == ' MB' and value < 10 else 0}f}{unit}"


def line(
    size: int, what: str, values: Sequence[float | None], unit: str, *, less: bool = True
) -> None:
    """Print a row of the table; the last value is Optuna's, the one before ours with a journal."""
    *_, ours, theirs = values
    ratio = "-"
    if ours and theirs:
        ratio = f"{theirs / ours if less else ours / theirs:.3g}"
    cells = [cell(value, unit) for value in values]
    print(f"| {size:,} | {what} | {' | '.join(cells)} | {ratio} |", flush=True)


def report_alone(size: int, found: Sequence[Alone]) -> None:
    line(size, "first ask of a new process", [each.first for each in found], "s")
    line(size, "ask + tell, median", [each.pair for each in found], "s")
    line(size, "memory of the process, growth", [each.grown for each in found], " MB")
    line(size, "the same, at its peak", [each.peak for each in found], " MB")


def report_crowd(size: int, processes: int, found: Sequence[Crowd | None]) -> None:
    def percentile(share: float) -> list[float | None]:
        return [each and each.pairs[int(share * len(each.pairs))] for each in found]

    at_once = f"{processes} at once"
    rates = [each and each.rate for each in found]
    fewest = [each and float(each.fewest) for each in found]
    line(size, f"{at_once}: ask + tell of all", rates, "/s", less=False)
    line(size, f"{at_once}: of the slowest, in all", fewest, "", less=False)
    line(size, f"{at_once}: median", percentile(0.5), "s")
    line(size, f"{at_once}: 99th percentile", percentile(0.99), "s")


def histories(folder: Path, size: int) -> list[Path]:
    """Write the same history three times: without our journal, with it, and as Optuna's."""
    paths = [folder / f"{size}-{name}" for name in ("rows", "journal", "optuna")]
    write_ours(paths[0], size, journal=False)
    write_ours(paths[1], size, journal=True)
    write_optunas(paths[2], size)
    return paths


def compare(folder: Path, size: int, processes: int, seconds: float) -> None:
    """Print our default sampler beside Optuna's random one, the cheapest of each."""
    rows_only, journal, theirs = histories(folder, size)
    contenders = [
        Contender(Ours, "yolov5", rows_only),
        Contender(Ours, "yolov5", journal),
        Contender(Optunas, "random", theirs),
    ]
    found = [alone(each, seconds) for each in contenders]
    report_alone(size, found)
    limit = free_megabytes() / 2
    crowds = [
        crowd(contender, processes, seconds) if each.peak * processes < limit else None
        for contender, each in zip(contenders, found, strict=True)
    ]
    report_crowd(size, processes, crowds)


def compare_tpe(folder: Path, size: int, seconds: float) -> None:
    rows_only, journal, theirs = histories(folder, size)
    contenders = [
        Contender(Ours, "optuna-tpe", rows_only),
        Contender(Ours, "optuna-tpe", journal),
        Contender(Optunas, "tpe", theirs),
    ]
    report_alone(size, [alone(each, seconds) for each in contenders])


def free_megabytes() -> float:
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found
    return int(found[1]) / 1024


def heading(ours: str, theirs: str) -> None:
    print(f"\n| history | | {ours}, evolve.csv alone | {ours}, and journal | {theirs} | ratio |")
    print("|---:|---|---:|---:|---:|---:|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 1,000 rows, 8 processes")
    parser.add_argument("--folder", type=Path, help="where to write; 1.5 GB (the temporary one)")
    chosen = parser.parse_args()
    sizes, processes, seconds = ((10, 1_000), 8, 1.0) if chosen.quick else (SIZES, PROCESSES, 5.0)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        heading("tmuxevolve yolov5", "Optuna random")
        for size in sizes:
            compare(Path(folder), size, processes, seconds)
        heading("tmuxevolve optuna-tpe", "Optuna TPE")
        for size in sizes[:2]:
            compare_tpe(Path(folder) / "tpe", size, seconds)
    print(FOOTNOTE)


if __name__ == "__main__":
    main()
