"""How many workers one study bears: measured as far as this machine goes, then by simulation.

    python benchmarks/scale.py [--quick] [--folder DIRECTORY]

Trainings take no time. Each number is the median of three rounds, but for more than 16
processes at once: those are of one. What is a model says so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import ask_tell
import msgspec
import study_worker
from msgspec import Raw
from scale_simulation import Costs, saturation, simulate, storm

from tmuxevolve.study import lock, samplers
from tmuxevolve.study import study as study_module
from tmuxevolve.study.files import Files
from tmuxevolve.study.heartbeat import Register, myself
from tmuxevolve.study.journal import Asked, text_of
from tmuxevolve.study.study import Study
from tmuxevolve.study.survey import survey

# Who asks and tells in each kind of study; a row is empty for a kind that is not here.
ROUNDS = 3
HISTORIES = (0, 1_000, 10_000, 100_000)
CROWDS = (1, 2, 4, 8, 16, 64, 200)
# History, open reservations, registered workers.
SHAPES = (
    (0, 0, 10),
    (1_000, 0, 10),
    (10_000, 0, 10),
    (100_000, 0, 10),
    (10_000, 0, 1_000),
    (10_000, 100, 100),
    (10_000, 1_000, 1_000),
)
PEAK = (10_000, 1_000, 1_000)
LOCAL, NFS = "local disk, measured", "NFS, 0.5 ms, model"
TRIPS = (0.0002, 0.0005, 0.001)
WORKERS = (10, 100, 300, 1_000, 3_000)
MINUTES = (1, 5, 20, 60)
# How many messages to an NFS server a call costs. A lock is two: it is given back by the close.
MESSAGES = {
    "openat": 1, "close": 1, "fcntl": 2, "block": 1 / 64,
    "read": 1, "pread64": 1, "write": 1, "fsync": 1,
    "rename": 1, "unlink": 1, "stat": 1, "newfstatat": 1, "lstat": 1, "utimensat": 1,
    "getdents64": 1, "mkdir": 1, "ftruncate": 1, "fstat": 0, "lseek": 0, "ioctl": 0,
}  # fmt: skip


def make(folder: Path, history: int, pending: int, workers: int) -> Path:
    """Write a study with so long a history, open reservations, and workers of other machines."""
    shutil.rmtree(folder, ignore_errors=True)
    ask_tell.write_ours(folder, history, journal=True)
    register = Files(folder).workers
    register.mkdir(parents=True, exist_ok=True)
    for number in range(workers):
        who = msgspec.structs.replace(myself(f"far-{number}", "gpu0"), machine="elsewhere")
        (register / f"far-{number}.json").write_bytes(msgspec.json.encode(who))
    with Files(folder).journal.open("ab") as journal:
        for number, hyp in enumerate(ask_tell.hyps(pending), start=history):
            text = Raw(text_of({name: value * 0.999 for name, value in hyp.items()}))
            who = f"far-{(number - history) % max(1, workers)}"
            event = Asked(number=number, hyp=text, worker=who, at=time.time())
            journal.write(msgspec.json.encode(event) + b"\n")
    return folder


class Rare:
    """A worker that asks seldom: each time all that is done once a second is due."""

    def __init__(self, folder: Path, name: str) -> None:
        self.study = Study(folder, study_worker.search(), myself(name, name))

    def ask(self) -> None:
        self.study._next_roll_call = 0.0
        self.reservation = self.study.ask()

    def tell(self) -> None:
        self.study._next_best_yaml = 0.0
        assert self.reservation
        self.study.tell(self.reservation, study_worker.result(self.reservation.hyp))


@contextmanager
def watched(enter: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """Call these when a study has its lock, and before it lets go of it."""
    real = lock.prepared

    @contextmanager
    def prepared(*arguments: Any) -> Iterator[None]:
        with real(*arguments):
            enter()
            try:
                yield
            finally:
                leave()

    study_module.prepared = prepared
    try:
        yield
    finally:
        study_module.prepared = real


@dataclass(frozen=True)
class Call:
    """Seconds of an ask or a tell: with the lock held, and in all."""

    held: float
    total: float


def timed(call: Callable[[], None]) -> Call:
    times: list[float] = []

    def mark() -> None:
        times.append(time.perf_counter())

    with watched(mark, mark):
        mark()
        call()
        mark()
    return Call(times[2] - times[1], times[3] - times[0])


@dataclass(frozen=True)
class Held:
    """What one process measured: its first ask, and the asks and tells after it."""

    join: float
    first: Call
    asks: Sequence[Call]
    tells: Sequence[Call]


def work_alone(folder: Path, count: int, pipe: Any) -> None:
    samplers.make("yolov5")
    began = time.perf_counter()
    worker = Rare(folder, "alone")
    worker.study._state.refresh()
    join = time.perf_counter() - began
    first = timed(worker.ask)
    worker.tell()
    calls = [(timed(worker.ask), timed(worker.tell)) for _ in range(count)]
    pipe.send(Held(join, first, [ask for ask, _ in calls], [tell for _, tell in calls]))


def alone(folder: Path, count: int) -> Held:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work_alone, args=(folder, count, theirs))
    process.start()
    found: Held = ours.recv()
    process.join()
    return found


def saturate(folder: Path, chosen: argparse.Namespace) -> None:
    """Print how many asks and tells a second so many processes get through."""
    print("\n**Saturation, measured: generations per second (an ask and a tell each)**\n")
    print(f"| history | {' | '.join(f'{n} at once' for n in chosen.crowds)} |")
    print("|---:|" + "---:|" * len(chosen.crowds))
    for history in chosen.histories:
        rates: dict[int, list[float]] = {n: [] for n in chosen.crowds}
        make(folder, history, 0, 0)
        for nth in range(chosen.rounds):
            for processes in chosen.crowds:
                # So many take half a minute to end, and to read a long history two cores minutes.
                if processes > 16 and (nth or history >= 100_000 or (history and processes > 64)):
                    continue
                shutil.rmtree(Files(folder).workers)
                contender = ask_tell.Contender(ask_tell.Ours, "yolov5", folder)
                rates[processes].append(ask_tell.crowd(contender, processes, chosen.seconds).rate)
        cells = [f"{statistics.median(found):.0f}" if found else "-" for found in rates.values()]
        print(f"| {history:,} | {' | '.join(cells)} |", flush=True)


def both(calls: Sequence[Call]) -> str:
    held = sorted(call.held for call in calls)
    return f"{statistics.median(held) * 1e3:.2f} | {held[int(0.99 * len(held))] * 1e3:.2f}"


def holds(folder: Path, chosen: argparse.Namespace) -> Mapping[tuple[int, int, int], Held]:
    """Print how long one ask and one tell hold the lock."""
    print(
        "\n**The lock held, measured: ms of one ask and one tell, each as after a long training**\n"
    )
    print(
        "| history | open | workers | ask, median | 99% | tell, median | 99% | whole ask"
        " | whole tell | first ask | joining before it |\n|---:|---:|---:|" + "---:|" * 8
    )
    all_found = {}
    for shape in chosen.shapes:
        history, pending, workers = shape
        rounds = [alone(make(folder, *shape), 60) for _ in range(chosen.rounds)]
        found = Held(
            statistics.median(one.join for one in rounds),
            sorted((one.first for one in rounds), key=lambda call: call.held)[len(rounds) // 2],
            [call for one in rounds for call in one.asks],
            [call for one in rounds for call in one.tells],
        )
        all_found[shape] = found
        whole = [
            f"{statistics.median(call.total for call in calls) * 1e3:.1f}"
            for calls in (found.asks, found.tells)
        ]
        print(
            f"| {history:,} | {pending:,} | {workers:,} | {both(found.asks)} | {both(found.tells)}"
            f" | {' | '.join(whole)} | {found.first.held * 1e3:.1f} | {found.join * 1e3:.0f} |",
            flush=True,
        )
    return all_found


def traced(folder: Path) -> None:
    """Ask and tell for `calls`: what is done when and where is marked by calls of access."""

    def mark(name: str) -> Callable[[], None]:
        return lambda: os.access(f"/mark/{name}", os.F_OK) and None

    worker = Rare(folder, "traced")
    with watched(mark("inside"), mark("beside")):
        for name, call in (("join", worker.ask), ("drop", worker.tell)):
            mark(name)()
            call()
        for _ in range(5):
            mark("ask")()
            worker.ask()
            mark("tell")()
            worker.tell()
    mark("drop")()


@dataclass(frozen=True)
class Calls:
    """System calls on a study's files, by what is done and whether the lock is held."""

    counts: Mapping[tuple[str, bool], Counter[str]]

    def messages(self, what: str, inside: bool) -> float:
        found = self.counts.get((what, inside), Counter())
        times = 1 if what == "join" else 5
        return sum(MESSAGES.get(name, 1) * count for name, count in found.items()) / times


def calls(folder: Path, shape: tuple[int, int, int]) -> Calls:
    """Trace one process."""
    make(folder, *shape)
    log = folder.with_name("strace.log")
    words = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(log),
        sys.executable,
        __file__,
        "--traced",
        str(folder),
    ]
    subprocess.run(words, check=True)
    counts: dict[tuple[str, bool], Counter[str]] = {}
    what, inside = "drop", False
    for line in log.read_text(errors="replace").splitlines():
        marked = re.search(r'"/mark/(\w+)"', line)
        if marked and marked[1] in {"inside", "beside"}:
            inside = marked[1] == "inside"
        elif marked:
            what, inside = marked[1], False
        name = re.match(r"\d+ +(\w+)\(", line)
        if name and not marked and str(folder) in line and what != "drop":
            counts.setdefault((what, inside), Counter())[_kind(name[1], line)] += 1
    log.unlink()
    return Calls(counts)


def _kind(name: str, line: str) -> str:
    """Tell apart what costs a message and what does not: a file's state is known once it is open,
    and blocks of a long file are fetched many at a time."""
    if "AT_EMPTY_PATH" in line:
        return "fstat"
    return "block" if line.endswith("= 16384") else name


def system_calls(folder: Path, chosen: argparse.Namespace) -> Calls:
    """Print the system calls of an ask and a tell, and the messages to an NFS server they cost."""
    print("\n**System calls on the study's files, measured by strace; messages to NFS, a model**\n")
    print("| open | | lock | system calls | messages | at 0.2 ms | at 0.5 ms | at 1 ms |")
    print("|---:|---|---|---|---:|---:|---:|---:|")
    for shape in ((10_000, 0, 10), PEAK):
        found = calls(folder, shape)
        for what in ("join", "ask", "tell"):
            for inside in (True, False):
                count = found.counts.get((what, inside), Counter())
                times = 1 if what == "join" else 5
                text = ", ".join(f"{name} {n / times:g}" for name, n in count.most_common(6))
                messages = found.messages(what, inside)
                cells = " | ".join(f"{messages * trip * 1e3:.1f} ms" for trip in TRIPS)
                where = "held" if inside else "beside"
                print(f"| {shape[1]:,} | {what} | {where} | {text} | {messages:.0f} | {cells} |")
    return found


def median(calls: Sequence[Call]) -> tuple[float, float]:
    """Return the medians with the lock held and beside it."""
    held = statistics.median(call.held for call in calls)
    return held, statistics.median(call.total for call in calls) - held


def costs_of(found: Held, nfs: Calls, trip: float) -> Costs:
    ask, ask_beside = median(found.asks)
    tell, tell_beside = median(found.tells)
    return Costs(
        ask + trip * nfs.messages("ask", True),
        tell + trip * nfs.messages("tell", True),
        ask_beside + trip * nfs.messages("ask", False),
        tell_beside + trip * nfs.messages("tell", False),
    )


def seconds(value: float) -> str:
    return (
        f"{value:.0f} s"
        if value >= 10
        else f"{value * 1e3:.0f} ms"
        if value < 1
        else f"{value:.1f} s"
    )


def simulations(kinds: Mapping[str, Costs]) -> None:
    """Print what the lock's service times make of many workers."""
    print(
        "\n**Where the lock saturates: workers W\\* = generation / (held by ask + held by tell)**\n"
    )
    print(f"| | held per generation | {' | '.join(f'{m} min' for m in MINUTES)} |")
    print("|---|---:|" + "---:|" * len(MINUTES))
    for name, costs in kinds.items():
        cells = [f"{float(f'{saturation(60 * m, costs):.2g}'):,.0f}" for m in MINUTES]
        print(f"| {name} | {costs.held * 1e3:.1f} ms | {' | '.join(cells)} |")
    print("\n**Simulated: how busy the lock is; wait at ask, median, 99%, most; GPU time lost**\n")
    print("| | generation | workers | lock busy | median | 99% | most | GPU time lost |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in (LOCAL, NFS):
        costs = kinds[name]
        for minutes in MINUTES:
            for workers in WORKERS:
                found = simulate(workers, 60 * minutes, costs)
                waits = " | ".join(seconds(found.wait(share)) for share in (0.5, 0.99, 1))
                print(
                    f"| {name} | {minutes} min | {workers:,} | {found.utilisation:.1%} | {waits}"
                    f" | {found.lost:.2%} |"
                )


def storms(
    found: Mapping[tuple[int, int, int], Held], folder: Path, nfs: Calls, chosen: argparse.Namespace
) -> None:
    """Print how long it takes until the last of a thousand has begun, when all join at once."""
    print(
        "\n**1,000 workers join in the same second, simulated: until the last has a generation**\n"
    )
    print(
        "| history | joining, measured | first ask holds, measured | local | NFS, 0.5 ms, model |"
    )
    print("|---:|---:|---:|---:|---:|")
    for history in chosen.histories[1:]:
        # The first of all writes the summary; the others find it.
        alone(make(folder, history, 1_000, 1_000), 1)
        one = alone(folder, 1)
        beside = one.first.total - one.first.held
        cells = []
        for trip in (0.0, 0.0005):
            held = one.first.held + trip * nfs.messages("join", True)
            apart = beside + trip * nfs.messages("join", False)
            cells.append(seconds(storm(1_000, one.join + apart, held)))
        print(
            f"| {history:,} | {seconds(one.join)} | {one.first.held * 1e3:.1f} ms"
            f" | {' | '.join(cells)} |"
        )


def looks(folder: Path) -> None:
    """Print what a thousand workers' files cost."""
    make(folder, *PEAK)
    register = Register(Files(folder).workers)
    names = [path.stem for path in Files(folder).workers.iterdir()]
    print("\n**1,000 workers' files, measured, local disk**\n\n| | median |\n|---|---:|")
    now = time.time()
    rows: Mapping[str, Callable[[], object]] = {
        "1,000 heartbeats (every 20 s, by 1,000 processes)": lambda: [*map(register.beat, names)],
        "a roll call, first": lambda: [
            fresh.alive(name, now) for fresh in [Register(Files(folder).workers)] for name in names
        ],
        "a roll call, later": lambda: [register.alive(name, now) for name in names],
        "a look for what to sweep": lambda: register.sweep(now),
        "status: the study and its workers": lambda: survey(folder),
    }
    for name, call in rows.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        print(f"| {name} | {statistics.median(times) * 1e3:.1f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of what is short")
    parser.add_argument("--folder", type=Path, help="where to write")
    parser.add_argument("--only", choices=["saturation", "holds", "calls"], help="one part alone")
    parser.add_argument("--traced", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.traced:
        traced(chosen.traced)
        return
    quick = chosen.quick
    chosen.rounds = 1 if quick else ROUNDS
    chosen.seconds = 0.5 if quick else 1.0
    chosen.crowds = CROWDS[:4] if quick else CROWDS
    chosen.histories = HISTORIES[:3] if quick else HISTORIES
    chosen.shapes = SHAPES
    with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
        report(Path(place) / "results", chosen)


def report(folder: Path, chosen: argparse.Namespace) -> None:
    load = os.getloadavg()
    print(f"{os.cpu_count()} cores, load {load[0]:.1f} at the beginning, {chosen.rounds} rounds.")
    if chosen.only in {None, "saturation"}:
        saturate(folder, chosen)
    if chosen.only == "saturation":
        return
    if chosen.only in {None, "holds"}:
        found = holds(folder, chosen)
    if chosen.only == "holds":
        return
    nfs = system_calls(folder, chosen)
    if chosen.only:
        return
    kinds = {LOCAL: costs_of(found[PEAK], nfs, 0.0)}
    for trip in TRIPS:
        kinds[f"NFS, {trip * 1e3:g} ms, model"] = costs_of(found[PEAK], nfs, trip)
    simulations(kinds)
    storms(found, folder, nfs, chosen)
    looks(folder)
    print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
