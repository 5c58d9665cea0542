"""A machine to measure on: private tmux server, stub GPUs, hyperfine, tables."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from nvml_stub import NvmlStub
from support import Box, new_box

ROOT = Path(__file__).parents[1]
# What `make bench` makes: tmuxevolve as a user would install it, and what it is compared with.
OWN = ROOT / ".venv-bench" / "bin"
PEERS = ROOT / ".venv-bench" / "peers" / "bin"


@dataclass(frozen=True)
class Contestant:
    """One way to do a thing, as hyperfine runs it: argv, and what comes before each run."""

    name: str
    argv: Sequence[str]
    prepare: Sequence[str] = ("true",)


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant's runs."""

    name: str
    median: float
    least: float
    most: float


@contextmanager
def machine(gpus: int) -> Iterator[tuple[Box, dict[str, str]]]:
    """Yield a box with so many stub GPUs, and the environment of its processes."""
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    with new_box(folder) as box:
        stub = NvmlStub(folder)
        stub.write([f"gpu index={i} uuid=GPU-{i:08x} total=80000 used=3" for i in range(gpus)])
        yield box, {**box.env, **stub.env}
    shutil.rmtree(folder, ignore_errors=True)


def hyperfine(
    contestants: Sequence[Contestant], env: Mapping[str, str], cwd: Path, runs: int
) -> list[Timing]:
    """Run each contestant so often, after two unmeasured runs, and return the times."""
    result = cwd / "hyperfine.json"
    words = ["hyperfine", "--shell=none", "--warmup=2", f"--runs={runs}"]
    words += ["--export-json", str(result)]
    for contestant in contestants:
        words += ["--prepare", shlex.join(contestant.prepare)]
    for contestant in contestants:
        words += ["--command-name", contestant.name, shlex.join(contestant.argv)]
    done = subprocess.run(words, env=env, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode:
        subprocess.run([*words, "--show-output"], env=env, cwd=cwd, check=False)
        raise SystemExit(done.stderr)
    return [
        Timing(entry["command"], entry["median"], entry["min"], entry["max"])
        for entry in json.loads(result.read_text())["results"]
    ]


def table(timings: Sequence[Timing], reference: str) -> str:
    """Return a Markdown table with each time as a ratio to the reference's."""
    unit = next(timing.median for timing in timings if timing.name == reference)
    head = f"| | median | range | x {reference} |\n|---|---|---|---|"
    lines = [
        f"| {t.name} | {t.median * 1e3:.0f} ms | {t.least * 1e3:.0f} to {t.most * 1e3:.0f} ms"
        f" | {t.median / unit:.2f} |"
        for t in timings
    ]
    return "\n".join([head, *lines])
