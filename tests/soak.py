"""Days of trouble in minutes: eight workers, random faults from a seed, invariants every second.

python tests/soak.py --seconds 1200 --seed 1     (make soak)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from compiled import library
from nvml_stub import NvmlStub
from support import Box, box_processes, command_line, new_box, poll

from tmuxevolve import claims
from tmuxevolve.study import history
from tmuxevolve.study.rows import Layout

WORKERS = 8
LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))
TRAINER = """
import sys, time
lr, output, seed = sys.argv[1:]
time.sleep(0.2 + int(seed) % 100 / 100)
with open(output + "/r.json", "w") as file: file.write('{"map": %s}' % lr)
"""
CLOCK = Path(__file__).parent / "clock" / "clockstep.c"


@dataclass
class Figures:
    """What happened, and what must not have."""

    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    finished: int = 0
    lost: int = 0
    duplicates: int = 0
    orphans: int = 0
    double_booked: int = 0
    left: int = 0
    failed_starts: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Say whether every promise was kept."""
        broken = (self.lost, self.duplicates, self.orphans, self.double_booked, self.left)
        return not any(broken) and not self.failed_starts and self.finished > 0

    def __str__(self) -> str:
        """Return the figures as a table row by row."""
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.faults.items()))
        return (
            f"seed {self.seed}, {self.seconds:.0f} s, {WORKERS} workers, {self.checks} checks\n"
            f"faults injected: {self.faults.total()} ({kinds})\n"
            f"generations finished: {self.finished}\n"
            f"lost: {self.lost}, duplicates: {self.duplicates}, orphans: {self.orphans},"
            f" GPUs with two workers: {self.double_booked}, left after stop: {self.left}"
        )


class Soak:
    """One run."""

    def __init__(self, box: Box, seed: int, seconds: float) -> None:
        self.box = box
        self.rng = random.Random(seed)
        self.figures = Figures(seed, seconds)
        self.results = box.root / "results"
        self.results.mkdir()
        self.on_tmpfs = _mount(self.results)
        self.stub = NvmlStub(box.root)
        self.stub.uuids = [f"GPU-soak-{os.getpid()}-{seed}-{i}" for i in range(WORKERS)]
        self.lost_gpus: set[int] = set()
        self.clock = box.root / "clock"
        self.clock.write_text("0")
        preload = library(CLOCK, "clockstep.so", "-ldl")
        box.env |= {**self.stub.env, "LD_PRELOAD": str(preload), "CLOCKSTEP": str(self.clock)}
        self.rows: list[str] = []
        self.suspects: set[int] = set()
        self._gpus()
        self._session()

    def _session(self) -> None:
        trainer = self.box.root / "trainer.py"
        trainer.write_text(TRAINER)
        self.box.session(
            command=[sys.executable, "-S", str(trainer), "{hyp.lr}", "{output}", "{seed}"],
            evolve={
                "generations": 1_000_000,
                "hyp": {"lr": 0.01},
                "space": {"lr": {"min": 0.0001, "max": 1.0}},
                "fitness": {"file": "r.json", "key": "map"},
            },
            gpus={"use": "free"},
            cpu_slots=0,
            restart={"backoff": 0.1, "attempts": 1000, "max_consecutive_failures": 1000},
        )

    def _gpus(self) -> None:
        lost = dict.fromkeys(self.lost_gpus, " error=15")
        self.stub.write([f"gpu uuid={u}{lost.get(i, '')}" for i, u in enumerate(self.stub.uuids)])

    def run(self) -> Figures:
        """Inject faults until the time is up; stop; count."""
        faults: list[Callable[[], None]] = [
            self.kill_worker,
            self.kill_keeper,
            self.kill_keeper_and_worker,
            self.kill_trainer,
            self.kill_tmux,
            self.lose_gpu,
            self.step_clock,
        ]
        if self.on_tmpfs:
            faults.append(self.fill_disk)
        self.start()
        end = time.monotonic() + self.figures.seconds
        next_check = next_start = time.monotonic()
        while time.monotonic() < end:
            fault = self.rng.choice(faults)
            with suppress(psutil.Error, StopIteration, LookupError):
                fault()
                self.figures.faults[fault.__name__.replace("_", " ")] += 1
            pause = time.monotonic() + self.rng.uniform(0.1, 2.0)
            while time.monotonic() < pause:
                if time.monotonic() >= next_check:
                    self.check()
                    next_check = time.monotonic() + 1
                # As a crontab line would, or a person who looks in.
                if time.monotonic() >= next_start:
                    self.start()
                    next_start = time.monotonic() + 5
                time.sleep(0.05)
        return self.end()

    def end(self) -> Figures:
        """Take the faults back, let the workers finish a little, stop, and count what is left."""
        self.lost_gpus.clear()
        self._gpus()
        self.empty_disk()
        self.start()
        before = len(self.read())
        try:
            poll(lambda: len(self.read()) > before + WORKERS, 30)
        except AssertionError:
            self.figures.failed_starts.append(f"it stands still: {self.describe()}")
        self.check()
        stopped = self.box.cli("stop")
        if stopped.returncode:
            self.figures.failed_starts.append(f"stop: {stopped.stdout}{stopped.stderr}")
        self.check()
        self.figures.left = len(box_processes(self.box)) + len(self.claimed())
        self.figures.finished = len(self.rows)
        journal = (self.results / "study" / "journal.jsonl").read_text().splitlines()
        told = {e["number"] for e in map(_event, journal) if e.get("type") == "tell"}
        self.figures.lost += max(0, len(told) - len(self.rows))
        return self.figures

    def describe(self) -> str:
        """Return what is to be seen from outside."""
        status, started = self.box.cli("status"), self.box.cli("start")
        return f"{status.stdout}{status.stderr}\n{started.stdout}{started.stderr}"

    def start(self) -> None:
        """Run start; it must not fail but for what is broken at that moment."""
        done = self.box.cli("start", "--json", timeout=120)
        text = done.stdout + done.stderr
        excused = self.lost_gpus or "No space left" in text or self.is_full()
        if done.returncode not in {0, 3} and not excused and not _is_excused(text):
            self.figures.failed_starts.append(text[-400:])

    def read(self) -> list[str]:
        """Return the hyps in evolve.csv, as written."""
        found = history.read(self.results / "evolve.csv", LAYOUT)
        return [str(generation.hyp["lr"]) for generation in found.generations]

    def claimed(self) -> dict[str, int]:
        """Return how many claims each of our GPUs has."""
        return {u: len(h) for u, h in claims.held().items() if u in self.stub.uuids}

    def check(self) -> None:
        """Look at every invariant once."""
        figures = self.figures
        figures.checks += 1
        rows = self.read()
        if rows[: len(self.rows)] != self.rows:
            figures.lost += len(set(self.rows) - set(rows)) or 1
        figures.duplicates += len(rows) - len(set(rows))
        self.rows = rows
        figures.double_booked += sum(count > 1 for count in self.claimed().values())
        processes = _environments(self.box)
        trainers = {p: e for p, e in processes.items() if "TMUXEVOLVE_WORKER" in e}
        on_gpu = Counter(e["CUDA_VISIBLE_DEVICES"] for e in trainers.values())
        figures.double_booked += sum(count > 1 for count in on_gpu.values())
        staff = " ".join(" ".join(command_line(p)) for p in processes if p not in trainers)
        orphans = {p.pid for p, e in trainers.items() if e["TMUXEVOLVE_WORKER"] not in staff}
        # Twice in a row: one look can meet a trainer on its way out.
        figures.orphans += len(orphans & self.suspects)
        self.suspects = orphans

    def _window(self) -> str:
        running = [n for n, w in self.box.status().items() if w["exit_status"] is None]
        return self.rng.choice(sorted(running))

    def kill_worker(self) -> None:
        """Kill the process that asks and tells."""
        self.box.worker(self._window()).kill()

    def kill_keeper(self) -> None:
        """Kill a window's first process."""
        self.box.keeper(self._window()).kill()

    def kill_keeper_and_worker(self) -> None:
        """Kill both."""
        window = self._window()
        keeper, worker = self.box.keeper(window), self.box.worker(window)
        keeper.kill()
        worker.kill()

    def kill_trainer(self) -> None:
        """Kill the training itself."""
        pid = self.box.status()[self._window()]["pid"]
        if pid is None:
            raise LookupError("no trainer just now")
        psutil.Process(pid).kill()

    def kill_tmux(self) -> None:
        """Kill the tmux server, and start again."""
        self._window()
        psutil.Process(int(self.box.tmux("display-message", "-p", "#{pid}"))).kill()
        time.sleep(0.5)
        self.start()

    def lose_gpu(self) -> None:
        """Have a GPU fall off the bus, or come back."""
        index = self.rng.randrange(WORKERS)
        self.lost_gpus ^= {index}
        self._gpus()

    def step_clock(self) -> None:
        """Set the wall clock, up to two days back or ahead."""
        self.clock.write_text(str(self.rng.randrange(-172_800, 172_800)))

    def fill_disk(self) -> None:
        """Fill the disk for a moment."""
        with suppress(OSError), (self.results / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 65_536) == 65_536:
                pass
            filler.write(b"x" * 4096)
        self.check()
        time.sleep(self.rng.uniform(0.2, 1.5))
        self.empty_disk()

    def empty_disk(self) -> None:
        """Make room again."""
        (self.results / "filler").unlink(missing_ok=True)

    def is_full(self) -> bool:
        """Say whether the disk is full now."""
        return (self.results / "filler").exists()

    def close(self) -> None:
        """Unmount."""
        if self.on_tmpfs:
            subprocess.run(["umount", "-l", str(self.results)], check=False)


def _is_excused(text: str) -> bool:
    # Killed between its start and its report.
    return "ended without a word" in text


def _event(line: str) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def _environments(box: Box) -> dict[psutil.Process, dict[str, str]]:
    found = {}
    for process in box_processes(box):
        with suppress(psutil.Error, OSError):
            found[process] = process.environ()
    return found


def _mount(folder: Path) -> bool:
    argv = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
    return not os.getuid() and not subprocess.run(argv, check=False, capture_output=True).returncode


def soak(root: Path, seed: int, seconds: float) -> Figures:
    """Run once in a box of its own."""
    with new_box(root) as box:
        run = Soak(box, seed, seconds)
        try:
            return run.run()
        finally:
            box.close()
            run.close()


def main() -> int:
    """Run from the command line; exit with 1 when a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as root:
        figures = soak(Path(root), options.seed, options.seconds)
    print(figures)
    print(*figures.failed_starts, sep="\n")
    return 0 if figures.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
