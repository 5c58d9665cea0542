"""start, status, stop and the rest of the command line, beside what people would use instead.

    python benchmarks/windows.py [--runs N] [start|stop|look|history|all]

Windows are stub GPUs. A start counts until every trainer has said that it runs, by a byte into a
FIFO. The floor does the least that could do the job: a bare Python that looks at the GPUs with
NVML, then one tmux command with all windows chained. Every way begins without a tmux server.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from machine import OWN, PEERS, Box, Contestant, Timing, hyperfine, machine, table

FLOOR, OURS = "floor", "tmuxevolve"
CLI = str(OWN / "tmuxevolve")
WINDOWS = (8, 64)
SNAPSHOT = """
import pynvml as n
n.nvmlInit()
for i in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(i)
    n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetMemoryInfo(h)
    n.nvmlDeviceGetComputeRunningProcesses(h)
"""
LIBTMUX = """
import libtmux, sys
count, trainer = int(sys.argv[1]), sys.argv[2]
session = libtmux.Server().new_session("bench", window_command="sleep 1000")
for i in range(count):
    session.new_window(f"gpu{i}", attach=False, window_shell=trainer,
                       environment={"CUDA_VISIBLE_DEVICES": str(i)})
"""
# The least that a supervisor in Python can be.
BARE = (sys.executable, "-I", "-S", "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])")
# A server that is about to end still takes connections.
_CLEAN = (
    "tmux kill-server",
    "while tmux list-sessions; do sleep 0.01; done",
    "rm -f fifo",
    "mkfifo fifo",
)
# What a trainer is here: a shell that becomes sleep, or a Python that has imported nothing.
TRAINERS = {
    "sleep": "#!/bin/sh\nprintf . > fifo\nexec sleep 1000\n",
    "Python": f"#!{sys.executable} -I\nimport time\n"
    "open('fifo', 'w').write('.')\ntime.sleep(1000)\n",
}


class Ways:
    """The ways to open so many windows, as scripts in the box's folder."""

    def __init__(self, box: Box, count: int, trainer: str) -> None:
        self._box = box
        self._count = count
        self._trainer = box.root / "trainer"
        self._trainer.write_text(TRAINERS[trainer])
        self._trainer.chmod(0o755)
        lines = [self._cli("stop", "-s", "bench"), *_CLEAN]
        self._clean = self._script("clean", "\n".join(f"{line} >>cleaning 2>&1" for line in lines))

    def contestants(self) -> Iterator[Contestant]:
        """Yield the floor, ours and the peers."""
        look = _words(sys.executable, "-c", SNAPSHOT)
        yield self._way(FLOOR, f"{look}\n{self._chained()}")
        yield self._way(
            "floor, each trainer through a bare Python", f"{look}\n{self._chained(*BARE)}"
        )
        yield self._way("tmux, all windows chained", self._chained())
        yield self._way("tmux in a shell loop", self._loop())
        script = _words(str(PEERS / "python"), "-c", LIBTMUX, str(self._count), str(self._trainer))
        yield self._way("libtmux, a call per window", script)
        yield self._way("tmuxp load -d", _words(str(PEERS / "tmuxp"), "load", "-d", self._tmuxp()))
        yield self._way(OURS, self._cli("start", "-f", "sessions.yaml"))

    def _chained(self, *through: str) -> str:
        words = ["tmux"]
        for i in range(self._count):
            words += ["new-session", "-s", "bench"] if not i else [";", "new-window"]
            words += ["-d", "-n", f"gpu{i}", "-e", f"CUDA_VISIBLE_DEVICES={i}"]
            words += [*through, str(self._trainer)]
        return _words(*words)

    def _loop(self) -> str:
        lines = ["tmux new-session -d -s bench sleep 1000"]
        lines += [
            f"tmux new-window -d -t bench -n gpu{i} -e CUDA_VISIBLE_DEVICES={i} {self._trainer}"
            for i in range(self._count)
        ]
        return "\n".join(lines)

    def _tmuxp(self) -> str:
        path = self._box.root / "tmuxp.json"
        windows = [
            {
                "window_name": f"gpu{i}",
                "window_shell": str(self._trainer),
                "environment": {"CUDA_VISIBLE_DEVICES": str(i)},
                "panes": [None],
            }
            for i in range(self._count)
        ]
        path.write_text(json.dumps({"session_name": "bench", "windows": windows}))
        return str(path)

    def _cli(self, *words: str) -> str:
        return _words(CLI, *words)

    def _way(self, name: str, body: str) -> Contestant:
        script = self._script(
            name, f"set -e\n{body} >/dev/null\nhead -c {self._count} <>fifo >/dev/null"
        )
        return Contestant(name, ("sh", script), ("sh", self._clean))

    def _script(self, name: str, body: str) -> str:
        path = self._box.root / f"{name}.sh"
        path.write_text(body + "\n")
        return str(path)


def _words(*words: str) -> str:
    return shlex.join(words)


def start(runs: int) -> None:
    """Print the tables of starts."""
    for count in WINDOWS:
        for trainer in TRAINERS:
            with machine(count) as (box, env):
                box.session("bench", command=[str(box.root / "trainer")], gpus={"use": "free"})
                timings = hyperfine([*Ways(box, count, trainer).contestants()], env, box.root, runs)
            print(f"\n**{count} windows, the trainer is a `{trainer}`**\n")
            print(table(timings, FLOOR))


def look(runs: int) -> None:
    """Print what looking costs: help, version, status, completion."""
    python = str(OWN / "python")
    with machine(8) as (box, env):
        box.session("bench", command=["sleep", "1000"], gpus={"use": "free"})
        box.cli("start", env=env)
        completing = {"_TMUXEVOLVE_COMPLETE": "bash_complete", "COMP_WORDS": "tmuxevolve attach "}
        contestants = [
            Contestant("python -c pass", (python, "-c", "pass")),
            Contestant("import click", (python, "-c", "import click")),
            Contestant("import libtmux", (python, "-c", "import libtmux")),
            *(Contestant(f"tmuxevolve {w}", (CLI, w)) for w in ("--help", "--version", "status")),
            # Without a terminal it ends where it would become tmux.
            Contestant(
                "tmuxevolve attach 0", ("sh", "-c", f"{CLI} attach 0 </dev/null; test $? = 4")
            ),
            Contestant("completion of `attach `", ("env", *_pairs(completing), CLI)),
        ]
        timings = hyperfine(contestants, env, box.root, runs)
    print("\n**8 windows run**\n")
    print(table(timings, "python -c pass"))


# Ends half a second after Ctrl-C, as a trainer that writes a checkpoint.
POLITE = """#!{python} -I
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (time.sleep(0.5), sys.exit(130)))
open('fifo', 'w').write('.')
time.sleep(1000)
"""


def stop(runs: int) -> None:
    """Print what it takes to end trainers that end in half a second."""
    for count in WINDOWS:
        with machine(count) as (box, env):
            trainer = box.root / "trainer"
            trainer.write_text(POLITE.format(python=sys.executable))
            trainer.chmod(0o755)
            box.session("bench", command=[str(trainer)], gpus={"use": "free"})
            begin = [*_CLEAN, f"{_words(CLI, 'start')} >/dev/null"]
            begin += [f"head -c {count} <>fifo >/dev/null"]
            prepare = ("sh", "-c", "\n".join(f"{line} 2>>cleaning" for line in begin))
            kill = "pkill -INT -x trainer; while pgrep -x trainer >>pids; do sleep 0.01; done"
            contestants = [
                Contestant("floor: pkill -INT, then look every 10 ms", ("sh", "-c", kill), prepare),
                Contestant("tmuxevolve stop", (CLI, "stop"), prepare),
            ]
            timings = hyperfine(contestants, env, box.root, max(3, runs // 2))
        print(f"\n**{count} windows, each trainer ends 0.5 s after SIGINT**\n")
        print(table(timings, contestants[0].name))


def history(runs: int) -> None:
    """Print what a look costs after 100,000 generations: many windows, and cooperative mode."""
    import yaml
    from ask_tell import write_ours
    from study_worker import BASE

    with machine(64) as (box, env):
        (box.root / "train.py").write_text("import time; time.sleep(1000)")
        (box.root / "hyp.yaml").write_text(yaml.safe_dump(BASE))
        common = {"command": [sys.executable, "train.py", "--hyp", "hyp.yaml"], "trainer": "yolov5"}
        write_ours(box.root / "results", 100_000, journal=True)
        four = {"use": "free", "per_gpu": 4}
        box.session("native", **common, gpus=four, stagger=0)
        rows: list[Timing] = []
        look = (CLI, "status", "--json")
        for name, windows in (("native", 256), ("cooperative", 8)):
            if name == "cooperative":
                box.session(
                    name, **common, cpu_slots=windows, evolve={"generations": 10**9, "mode": name}
                )
            done = box.cli("start", env=env, timeout=300)
            assert done.returncode == 0, done
            what = f"{windows} windows in {name} mode, 100,000 rows"
            (found,) = box.json("status", env=env)
            assert (found["generations"], len(found["windows"])) == (100_000, windows), what
            rows += hyperfine([Contestant(what, look)], env, box.root, runs)
            box.cli("stop", "--now", env=env)
    print("\n**`tmuxevolve status --json`**\n")
    print(table(rows, rows[0].name))


def _pairs(variables: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{name}={value}" for name, value in variables.items())
    yield "COMP_CWORD=2"


PARTS: Mapping[str, Callable[[int], None]] = {
    "start": start,
    "stop": stop,
    "look": look,
    "history": history,
}


def main(argv: Sequence[str]) -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args(argv)
    for name, part in PARTS.items():
        if options.part in {name, "all"}:
            part(options.runs)


if __name__ == "__main__":
    main(sys.argv[1:])
