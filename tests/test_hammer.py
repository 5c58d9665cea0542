"""Many starts and stops of three sessions of two users at once: one worker on a GPU, ever."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from nvml_stub import NvmlStub
from support import Box, box_processes, new_box, poll

from tmuxevolve import claims

NOBODY = 65534
# Another user, who may still read this interpreter's files.
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
THREADS = 50


class Users:
    """Two users' boxes on one machine of eight GPUs, and their three sessions."""

    def __init__(self, first: Box, second: Box) -> None:
        self.stub = NvmlStub(first.root)
        tag = f"{os.getpid()}-{first.root.parent.name}"
        self.uuids = [f"GPU-hammer-{tag}-{i}" for i in range(8)]
        self.stub.write([f"gpu uuid={uuid}" for uuid in self.uuids])
        self.boxes = (first, second)
        for box, names in ((first, "ab"), (second, "c")):
            box.env |= self.stub.env
            sessions = {name: self._session(box, name) for name in names}
            box.write(json.dumps({"sessions": sessions}))
        for path in (second.root, second.home, second.sockets, second.root / "results"):
            path.mkdir(exist_ok=True)
            os.chown(path, NOBODY, NOBODY)
        self.sessions = [(first, "a", ()), (first, "b", ()), (second, "c", AS_NOBODY)]

    def _session(self, box: Box, name: str) -> dict[str, object]:
        return {
            "command": ["sleep", "1000"],
            "trainer": "command",
            "results": str(box.root / "results" / name),
            "evolve": {"mode": "native"},
        }

    def run(self, box: Box, prefix: tuple[str, ...], *words: str) -> tuple[int, str]:
        """Run the command line as that box's user."""
        argv = [*prefix, sys.executable, "-m", "tmuxevolve", *words]
        done = subprocess.run(
            argv,
            env=box.env,
            cwd=box.root,
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def claimed(self) -> dict[str, int]:
        """Return how many claims each of our GPUs has."""
        return {u: len(h) for u, h in claims.held().items() if u in self.uuids}

    def trainers(self) -> Counter[str]:
        """Return how many trainings there are, by GPU."""
        found: Counter[str] = Counter()
        for box in self.boxes:
            for process in box_processes(box):
                with suppress(psutil.Error, OSError):
                    # Between its fork and its exec a process may have no environment to be seen.
                    gpu = process.environ().get("CUDA_VISIBLE_DEVICES")
                    if process.name() == "sleep" and gpu is not None:
                        found[gpu] += 1
        return found


@pytest.fixture
def users() -> Iterator[Users]:
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("a second user takes root and setpriv")
    # pytest's own folders are closed to other users.
    root = Path(tempfile.mkdtemp(prefix="te-users", dir="/tmp"))
    root.chmod(0o755)
    for name in ("one", "two"):
        (root / name).mkdir()
    with new_box(root / "one") as first, new_box(root / "two") as second:
        yield Users(first, second)
    shutil.rmtree(root)


def hammer(users: Users, seconds: float) -> tuple[Counter[str], list[str]]:
    """Start and stop at random from many threads; return what was run, and what broke."""
    end = time.monotonic() + seconds
    done: Counter[str] = Counter()
    broken: list[str] = []

    def work(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < end:
            box, name, prefix = rng.choice(users.sessions)
            verb = rng.choice(["start", "start", "stop"])
            words = ("start", name) if verb == "start" else ("stop", "-s", name)
            status, text = users.run(box, prefix, *words)
            done[f"{verb} {status}"] += 1
            # 1: a stop in between has ended what this start was about to hand over.
            if "Traceback" in text or status not in ({0, 1, 3} if verb == "start" else {0}):
                broken.append(f"{words}: {status}: {text}")

    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            twice = {u: n for u, n in users.claimed().items() if n > 1}
            crowded = {gpu: n for gpu, n in users.trainers().items() if n > 1}
            if twice or crowded:
                broken.append(f"two claims {twice}, two trainers {crowded}")
            done["looks"] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    over.set()
    watcher.join()
    return done, broken


def check(users: Users, seconds: float) -> None:
    done, broken = hammer(users, seconds)
    print(done)
    assert broken == []
    assert done["looks"] > 5
    assert done["start 0"] > 3
    for box, name, prefix in users.sessions:
        status, text = users.run(box, prefix, "stop", "-s", name)
        assert status == 0, text
    assert users.claimed() == {}
    poll(lambda: [p for box in users.boxes for p in box_processes(box)] == [])


def test_two_users_hammer_eight_gpus(users: Users) -> None:
    check(users, 10)


@pytest.mark.stress
def test_two_users_hammer_eight_gpus_for_a_minute(users: Users) -> None:
    check(users, 60)


def test_another_users_worker_is_named(users: Users) -> None:
    (box, name, prefix), (other, its_name, its_prefix) = users.sessions[0], users.sessions[2]
    assert users.run(box, prefix, "start", name)[0] == 0
    status, text = users.run(other, its_prefix, "start", its_name)
    assert status == 3
    assert text.count("claimed by a worker of root") == 8
