"""What a worker costs while others train, and between two trainings: memory, CPU time, gaps.

    python benchmarks/worker.py [--workers 2] [--seconds 5] [--generations 16] [ROWS ...]

A session in cooperative mode on CPU slots, YOLOv5's hyps, trainings that sleep, with so many rows
of history (10 and 10,000). A trainer is a shell script that says when it began and ended. Beside
it the least there can be: a shell loop that runs the same trainer again and again.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import yaml
from ask_tell import write_ours
from machine import OWN, Box, machine
from study_worker import BASE
from support import poll

from tmuxevolve.study.rows import METRICS

TRAINER = f"""#!/bin/sh
begin=$(date +%s.%N)
while [ $# -gt 0 ]; do
  case $1 in --project) project=$2 ;; --name) name=$2 ;; esac
  shift
done
sleep $TRAIN_SECONDS
if [ "$name" ]; then
  mkdir -p "$project/$name"
  printf '{",".join(METRICS)}\\n0.1,0.1,0.1,0.1,0.1,0.1,0.1\\n' >"$project/$name/results.csv"
fi
echo "$begin $(date +%s.%N)" >>"$TIMES/${{TMUXEVOLVE_WORKER-$PPID}}"
"""
LOOP = "for i in $(seq $1); do ./trainer.sh; done"


@dataclass(frozen=True)
class Cost:
    """Of one worker with its keeper: MB beyond a bare Python, share of one core."""

    resident: float
    own: float
    cpu: float


def bare() -> float:
    """Return the MB of a Python that does nothing."""
    python = subprocess.Popen([OWN / "python", "-c", "import time; time.sleep(100)"])
    time.sleep(0.5)
    size = psutil.Process(python.pid).memory_info().rss / 2**20
    python.kill()
    python.wait()
    return size


def staff(box: Box, window: str) -> list[psutil.Process]:
    return [box.keeper(window), box.worker(window)]


def spent(processes: Sequence[psutil.Process]) -> float:
    return sum(p.cpu_times().user + p.cpu_times().system for p in processes)


def cost(box: Box, windows: Sequence[str], seconds: float) -> Cost:
    """Look at the workers in the middle of a training, for two thirds of it."""
    everybody = [p for window in windows for p in staff(box, window)]
    before = spent(everybody)
    time.sleep(seconds * 2 / 3)
    cpu = (spent(everybody) - before) / (seconds * 2 / 3) / len(windows)
    resident = max(p.memory_info().rss for p in everybody) / 2**20
    # What keeper and worker do not share, with each other or with another worker.
    own = sum(p.memory_full_info().uss for p in everybody) / 2**20 / len(windows)
    return Cost(resident, own, cpu)


def trainings(times: Path) -> Iterator[list[tuple[float, float]]]:
    """Yield each worker's trainings: when they began and ended."""
    for path in times.iterdir():
        lines = path.read_text().splitlines()
        yield [(float(a), float(b)) for a, b in map(str.split, lines)]


def gaps(found: Sequence[Sequence[tuple[float, float]]]) -> list[float]:
    return sorted(b[0] - a[1] for each in found for a, b in pairwise(each))


def utilisation(found: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Return the share of the time, from the first training to the last, that was training."""
    busy = sum(end - begin for each in found for begin, end in each)
    return busy / sum(each[-1][1] - each[0][0] for each in found)


def prepare(box: Box, seconds: float) -> tuple[Path, dict[str, str]]:
    script, times = box.root / "trainer.sh", box.root / "times"
    script.write_text(TRAINER)
    script.chmod(0o755)
    times.mkdir(exist_ok=True)
    for path in times.iterdir():
        path.unlink()
    return times, {"TRAIN_SECONDS": str(seconds), "TIMES": str(times)}


def loop(workers: int, seconds: float, each: int) -> str:
    """Run the shell loop, and return its row of the table."""
    with machine(0) as (box, env):
        times, more = prepare(box, seconds)
        argv = ["sh", "-c", LOOP, "sh", str(each)]
        loops = [subprocess.Popen(argv, cwd=box.root, env=env | more) for _ in range(workers)]
        for process in loops:
            process.wait()
        return row("shell loop", [*trainings(times)], None, 0.0)


def evolve(workers: int, seconds: float, generations: int, rows: int) -> str:
    """Run a session on a history of so many rows, and return its row of the table."""
    with machine(0) as (box, env):
        times, more = prepare(box, seconds)
        (box.root / "hyp.yaml").write_text(yaml.safe_dump(BASE))
        write_ours(box.root / "results", rows, journal=True)
        (box.root / "results" / "study" / "study.json").unlink()
        box.session(
            "bench",
            command=["./trainer.sh", "--hyp", "hyp.yaml"],
            trainer="yolov5",
            cpu_slots=workers,
            evolve={"generations": rows + generations},
        )
        done = subprocess.run(
            [str(OWN / "tmuxevolve"), "start"],
            env=env | more,
            cwd=box.root,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done
        poll(lambda: sum(map(len, trainings(times))) >= workers, seconds * 3 + 30)
        found = cost(box, [f"cpu{i}" for i in range(workers)], seconds)
        total = lambda: sum(map(len, trainings(times)))  # noqa: E731
        poll(lambda: total() == generations, seconds * (generations + 3) + 60)
        return row(f"tmuxevolve, {rows:,} rows", [*trainings(times)], found, bare())


def row(
    name: str, found: Sequence[Sequence[tuple[float, float]]], cost: Cost | None, bare: float
) -> str:
    between = gaps(found)
    costs = (
        f"{cost.resident - bare:+.1f} MB | {cost.own:.1f} MB | {cost.cpu:.2%}"
        if cost
        else "- | - | -"
    )
    return (
        f"| {name} | {statistics.median(between) * 1e3:.0f} ms | {between[-1] * 1e3:.0f} ms"
        f" | {utilisation(found):.2%} | {costs} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", type=int, default=[10, 10_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--generations", type=int, default=16, help="of all workers together")
    chosen = parser.parse_args()
    print(
        "| | gap, median | longest | utilisation | RSS of the larger process, beyond a bare Python"
        " | USS, keeper and worker | CPU while training |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    each = chosen.generations // chosen.workers
    print(loop(chosen.workers, chosen.seconds, each), flush=True)
    for rows in chosen.rows:
        print(evolve(chosen.workers, chosen.seconds, chosen.generations, rows), flush=True)


if __name__ == "__main__":
    main()
