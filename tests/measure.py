"""A whole evolution, and how much of the time its windows had no trainer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from support import Box, box_processes

from tmuxevolve.study import history, rows
from tmuxevolve.study.rows import YOLOV5, Layout


@dataclass(frozen=True)
class Outcome:
    workers: int
    rows: int
    distinct: int
    wall: float
    idle: float

    def row(self, mode: str) -> str:
        """Return a line of the table in docs/cooperation.md."""
        rate, idle = self.distinct * 60 / self.wall, self.idle / self.wall / self.workers
        return (
            f"| {mode} | {self.rows} | {self.distinct} | {self.wall:.0f} s | {rate:.1f}"
            f" | {self.idle:.0f} s of {self.workers} x {self.wall:.0f} s ({idle:.0%}) |"
        )


HEAD = (
    "\n| mode | generations | distinct | wall time | distinct per minute | idle |\n"
    "|---|---|---|---|---|---|"
)


def training(box: Box) -> int:
    """Return how many windows have a trainer in them now: a worker's own child."""
    workers, children = set(), []
    for process in box_processes(box):
        try:
            if any("worker_entry" in word for word in process.cmdline()[:4]):
                workers.add(process.pid)
            else:
                children.append(process.ppid())
        except psutil.Error:
            continue
    return len(workers & set(children))


def run(box: Box, results: Path, layout: Layout = YOLOV5) -> Outcome:
    """Start, wait for the end of all workers, and add up the time that windows had no trainer."""
    workers = 0
    begun = last = time.monotonic()
    assert box.cli("start").returncode == 0
    idle = 0.0
    while True:
        busy = training(box)
        workers = workers or len(box.status())
        now = time.monotonic()
        idle, last = idle + (now - last) * (workers - busy), now
        if not busy and all(w["exit_status"] is not None for w in box.status().values()):
            break
        assert now - begun < 600
        time.sleep(0.1)
    assert {w["exit_status"] for w in box.status().values()} == {0}, box.status()
    box.cli("stop")
    found = history.read(results / "evolve.csv", layout).generations
    keys = {rows.key(g.hyp, tuple(g.hyp)) for g in found}
    return Outcome(workers, len(found), len(keys), now - begun, idle)
