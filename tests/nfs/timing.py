"""What one ask and one tell cost over NFS, and one message: `STUDY=timing.py tests/nfs/run.sh`.

A check of the model of docs/scale.md. User Mode Linux is slow: compare the ratios.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import study_worker

from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.study import Study


def main(places: list[str]) -> None:
    """Time both on a folder of the guest's memory and on a mount of NFS."""
    for name, place in (("memory", "/run"), ("NFS", places[0])):
        results = Path(place) / "timing"
        results.mkdir()
        study_worker.define(results, 10**6)
        study = Study(results, study_worker.search(), myself("timing", "timing"))
        file = results / "file"
        file.touch()
        print(f"{name}: one message: {milliseconds(lambda: os.utime(file)):.2f} ms", flush=True)  # noqa: B023
        asks, tells = [], []
        for _ in range(40):
            study._next_roll_call = study._next_best_yaml = 0.0
            began = time.perf_counter()
            reservation = study.ask()
            asked = time.perf_counter()
            assert reservation
            study.tell(reservation, study_worker.result(reservation.hyp))
            asks.append(asked - began)
            tells.append(time.perf_counter() - asked)
        for what, times in (("ask", asks), ("tell", tells)):
            print(f"{name}: {what}: {statistics.median(times) * 1e3:.2f} ms", flush=True)


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median of a call."""
    times = []
    for _ in range(100):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main(sys.argv[1:])
