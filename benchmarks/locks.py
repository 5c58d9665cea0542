"""What each candidate for the study's lock costs: import, memory, and throughput when contended.

    python benchmarks/locks.py [SECONDS]

Every contender takes the lock, works for half a millisecond, and gives it back, again and again.
The floor is a bare fcntl.lockf.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

WORK = 0.0005
PROCESSES = (1, 8, 64)


@contextmanager
def bare(path: str):
    import fcntl

    with Path(path).open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def fasteners(path: str) -> AbstractContextManager[object]:
    from fasteners.process_lock import InterProcessLock

    @contextmanager
    def held():
        lock = InterProcessLock(path)
        lock.acquire(delay=0.001, max_delay=0.01)
        try:
            yield
        finally:
            lock.release()

    return held()


def portalocker(path: str) -> AbstractContextManager[object]:
    from portalocker import Lock, LockFlags

    return Lock(path, "a", timeout=None, flags=LockFlags.EXCLUSIVE)


def filelock(path: str) -> AbstractContextManager[object]:
    from filelock import FileLock

    return FileLock(path, poll_interval=0.001)


def optuna(path: str) -> AbstractContextManager[object]:
    from optuna.storages.journal import JournalFileSymlinkLock

    @contextmanager
    def held():
        Path(path).touch()
        lock = JournalFileSymlinkLock(path)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    return held()


LOCKS: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "fcntl.lockf (floor)": bare,
    "fasteners": fasteners,
    "portalocker": portalocker,
    "filelock": filelock,
    "optuna symlink lock": optuna,
}
MODULES = ("fcntl", "fasteners", "portalocker", "filelock", "optuna.storages.journal")


def contend(name: str, path: str, until: float, counts: object, number: int) -> None:
    done = 0
    worst = 0.0
    while (began := time.monotonic()) < until:
        with LOCKS[name](path):
            worst = max(worst, time.monotonic() - began)
            end = time.monotonic() + WORK
            while time.monotonic() < end:
                pass
        done += 1
    counts[2 * number], counts[2 * number + 1] = done, worst  # type: ignore[index]


def throughput(name: str, processes: int, seconds: float) -> tuple[float, float]:
    """Return acquisitions per second of all processes, and the longest wait in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        counts = multiprocessing.Array("d", 2 * processes)
        until = time.monotonic() + 1 + seconds
        path = f"{folder}/lock"
        workers = [
            multiprocessing.Process(target=contend, args=(name, path, until, counts, i))
            for i in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts[::2]) / (1 + seconds), max(counts[1::2])


def cost(module: str) -> tuple[float, float]:
    """Return the import's time in ms and memory in MB, beyond a bare interpreter's."""
    code = (
        "import time\n"
        "def mb(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20\n"
        "a = mb(); t = time.perf_counter()\n"
        f"import {module}\n"
        "print((time.perf_counter() - t) * 1e3, mb() - a)"
    )
    runs = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        runs.append(tuple(map(float, done.stdout.split())))
    return sorted(runs)[2]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print("| lock | import | memory | " + " | ".join(f"{p} at once" for p in PROCESSES) + " |")
    print("|---|---|---|" + "---|" * len(PROCESSES))
    for name, module in zip(LOCKS, MODULES, strict=True):
        milliseconds, megabytes = cost(module)
        cells = []
        for processes in PROCESSES:
            rate, worst = throughput(name, processes, seconds)
            cells.append(f"{rate:.0f}/s, longest wait {worst:.2f} s")
        print(f"| {name} | {milliseconds:.0f} ms | {megabytes:.1f} MB | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
