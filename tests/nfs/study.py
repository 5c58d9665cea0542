"""A cooperative study of workers over two NFS mounts: killed in between, and the server away."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import study_worker

BUDGET = 150
CODE = """
import sys, time
from pathlib import Path
import study_worker as i
from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.study import Study

refused = 0
def insist(call, *arguments):
    global refused
    while True:
        try:
            return call(*arguments)
        except OSError as error:
            refused += 1
            print(sys.argv[2], "refused:", error, flush=True)
            time.sleep(0.5)

study = insist(Study, Path(sys.argv[1]), i.search(), myself(sys.argv[2], sys.argv[2]))
while reservation := insist(study.ask):
    time.sleep(0.1)
    insist(study.tell, reservation, i.result(reservation.hyp))
"""


def main(mounts: list[str]) -> None:
    """Run it, and check that the budget is exact and each hyp there once."""
    results = [Path(mount) / "results" for mount in mounts]
    results[0].mkdir()
    study_worker.define(results[0], BUDGET)
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}:{Path(__file__).parents[2]}"}
    count, begun = 0, time.monotonic()

    def start(where: Path) -> subprocess.Popen[bytes]:
        nonlocal count
        count += 1
        return subprocess.Popen([sys.executable, "-c", CODE, where, f"w{count}"], env=env)

    running = {where: start(where) for where in results}
    kills, dice = 0, random.Random(0)
    while any(child.poll() is None for child in running.values()):
        time.sleep(dice.uniform(1.5, 3))
        where = dice.choice(results)
        if kills < 4 and running[where].poll() is None:
            running[where].kill()
            running[where].wait()
            kills += 1
            running[where] = start(where)
        if kills == 2:
            subprocess.run(["rpc.nfsd", "0"], check=True)
            print("the server is away", flush=True)
            time.sleep(8)
            subprocess.run(["rpc.nfsd", "-N", "3", "4"], check=True)
            print("the server is back", flush=True)
            kills += 1
    subprocess.run([sys.executable, "-c", CODE, results[1], "last"], env=env, check=True)
    seconds = time.monotonic() - begun
    lines = (results[1] / "evolve.csv").read_text().splitlines()[1:]
    hyps = {line.split(",", 7)[-1] for line in lines}
    for line in lines:
        if sum(line.split(",", 7)[-1] in other for other in lines) > 1:
            print("twice:", line[:60], "row", lines.index(line))
    print(f"{len(lines)} rows, {len(hyps)} hyps, {count} workers, {seconds:.0f} s")
    assert len(lines) == len(hyps) == BUDGET
    fresh = results[0] / "clock"
    fresh.touch()
    print(f"the server's clock less ours: {fresh.stat().st_mtime - time.time():.3f} s")


main(sys.argv[1:])
