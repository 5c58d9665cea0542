"""The terminal of a worker in a Slurm job, without Slurm: pipes in place of its step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import poll

from tmuxevolve import console, handover
from tmuxevolve.config import GpuPolicy, RestartPolicy
from tmuxevolve.handover import Desk, Parcel
from tmuxevolve.order import Order
from tmuxevolve.processes import MARK
from tmuxevolve.slots import new_worker

ENTRY = Path(console.__file__).with_name("console_entry.py")


class Step:
    """A step of a job: the console's process, what it printed, what can be typed."""

    def __init__(self, root: Path, script: str, output: str = "") -> None:
        self.worker = new_worker("job0")
        argv = (sys.executable, "-c", script)
        order = Order(
            worker=self.worker,
            window="job0",
            argv=argv,
            workdir=str(root),
            env={**os.environ},
            uuid=None,
            gpus=GpuPolicy(),
            stop_signal="SIGINT",
            stop_grace=5.0,
            delay=0.0,
            device={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            restart=RestartPolicy(on="never"),
        )
        words = [self.worker, MARK, *([output] if output else [])]
        with Desk() as desk:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(ENTRY), desk.address, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            parcels = {self.worker: Parcel(order, None)}
            self.reports = desk.serve(parcels, lambda: {self.worker})
        self.printed = b""
        assert self.process.stdout
        os.set_blocking(self.process.stdout.fileno(), False)

    def see(self, text: bytes) -> bytes:
        """Wait until a text was printed; return all that was."""
        poll(lambda: text in self.read(), what=f"{text!r}")
        return self.printed

    def read(self) -> bytes:
        assert self.process.stdout
        with suppress(BlockingIOError):
            self.printed += os.read(self.process.stdout.fileno(), 1 << 16)
        return self.printed

    def type(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        poll(lambda: (self.read() or True) and self.process.poll() is not None)
        return int(self.process.returncode)


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[list[Step]]:
    made: list[Step] = []
    yield made
    for step in made:
        step.process.kill()
        step.process.wait()
        for stream in (step.process.stdin, step.process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()


WAITS = "import time; print('ready', flush=True); time.sleep(1000)"


def test_a_trainer_has_a_terminal_and_its_exit_status_comes_out(
    steps: list[Step], tmp_path: Path
) -> None:
    script = (
        "import os, sys; print([os.isatty(n) for n in (0, 1, 2)], os.get_terminal_size(),"
        " os.environ['CUDA_DEVICE_ORDER'], 'TMUXEVOLVE_CONSOLE' in os.environ); sys.exit(7)"
    )
    step = Step(tmp_path, script)
    steps.append(step)
    assert step.end() == 7
    assert b"[True, True, True] os.terminal_size(columns=200, lines=50) PCI_BUS_ID False" in (
        step.printed
    )
    assert b"job0 failed (exit 7)" in step.printed
    assert step.reports[step.worker].pid


def test_what_is_typed_goes_to_the_trainer_ctrl_c_too(steps: list[Step], tmp_path: Path) -> None:
    script = "print('ready', flush=True); print('got', input()); input()"
    step = Step(tmp_path, script)
    steps.append(step)
    step.see(b"ready")
    step.type(b"hello\n")
    step.see(b"got hello")
    step.type(b"\x03")
    assert step.end() == 130
    assert b"KeyboardInterrupt" in step.printed


def test_the_terminal_follows_the_size_of_whoever_looks(steps: list[Step], tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print(os.get_terminal_size(), flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: print('read', repr(input()), flush=True)"
    )
    step = Step(tmp_path, script)
    steps.append(step)
    step.see(b"ready")
    step.type(b"be" + console.resize(24, 80) + b"fore\n")
    step.see(b"columns=80, lines=24")
    step.see(b"read 'before'")
    # An escape alone is a key like any other.
    step.type(b"\x1bx\n")
    step.see(b"read '\\x1bx'")


def test_signals_to_the_whole_step_end_the_worker_and_the_console_waits(
    steps: list[Step], tmp_path: Path
) -> None:
    step = Step(
        tmp_path,
        "import signal, sys, time\n"
        "def end(*_): print('saving', flush=True); time.sleep(0.3); print('saved'); sys.exit(5)\n"
        "signal.signal(signal.SIGINT, end)\n" + WAITS,
    )
    steps.append(step)
    step.see(b"ready")
    first = poll(lambda: _children(step.process.pid))
    for pid in (step.process.pid, *first):
        os.kill(pid, signal.SIGTERM)
    step.end()
    assert b"saved" in step.printed


def test_its_end_is_seen_although_something_holds_the_terminal(
    steps: list[Step], tmp_path: Path
) -> None:
    # The worker would end it: it has neither the tree nor the variable.
    script = (
        "import os, subprocess, sys\n"
        "env = {'PATH': os.environ['PATH']}\n"
        "p = subprocess.Popen(['setsid', '-f', 'sleep', '987'], env=env); p.wait()\n"
        "print('bye')"
    )
    step = Step(tmp_path, script)
    steps.append(step)
    assert step.end() == 0
    assert b"bye" in step.printed


def test_what_was_printed_since_a_notice_is_read_as_it_stands_on_a_screen(
    steps: list[Step], tmp_path: Path
) -> None:
    script = (
        "import time\n"
        "print('tmuxevolve: generation 3 begins'); print('old')\n"
        "print('tmuxevolve: generation 4 begins; more')\n"
        "for n in range(101): print(f'\\r{n}%|bar', end='')\n"
        "print(); print('a \\x1b[31mred\\x1b[0m word'); print('ready', flush=True)\n"
        "time.sleep(1000)"
    )
    step = Step(tmp_path, script)
    steps.append(step)
    step.see(b"ready")
    assert (
        console.printed_since("generation 4", step.worker, console.JOB)
        == "100%|bar\na red word\nready\n"
    )
    assert "old" in console.printed_since("generation 3", step.worker, console.JOB)
    with pytest.raises(OSError):
        console.printed_since("generation 4", "job0-nobody", console.JOB)


def test_it_keeps_the_last_of_much_output(steps: list[Step], tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "for n in range(60_000): sys.stdout.write(f'line {n} ' + 40 * 'x' + '\\n')\n"
        "print('ready', flush=True); time.sleep(1000)"
    )
    step = Step(tmp_path, script)
    steps.append(step)
    step.see(b"ready")
    found = console.printed_since("no such notice", step.worker, console.JOB).splitlines()
    assert found[-2:] == [f"line 59999 {40 * 'x'}", "ready"]
    assert 19_000 < len(found) < 45_000


def test_the_recorder_gets_all_of_it_and_its_death_ends_nothing(
    steps: list[Step], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE)
    script = "print('one', flush=True); input(); print('two', flush=True); input()"
    step = Step(tmp_path, script, str(fifo))
    steps.append(step)
    step.see(b"one")
    assert reader.stdout
    assert b"one" in os.read(reader.stdout.fileno(), 1000)
    reader.kill()
    reader.wait()
    reader.stdout.close()
    step.type(b"\n")
    step.see(b"two")
    step.type(b"\n")
    assert step.end() == 0


def test_a_recorder_that_never_was_there(steps: list[Step], tmp_path: Path) -> None:
    step = Step(tmp_path, "print('fine')", str(tmp_path / "no" / "fifo"))
    steps.append(step)
    assert step.end() == 0
    assert b"fine" in step.printed


def test_an_order_that_nobody_hands_out(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(ENTRY), "tmuxevolve.start/nobody", "job0-1", MARK]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"was interrupted" in done.stdout


def test_the_silent_worker_is_waited_for_as_long_as_was_said() -> None:
    times = iter(range(0, 10_000, 100))
    with Desk() as desk:
        found = desk.serve(
            {"w": Parcel(None, None)},  # type: ignore[arg-type]
            lambda: {"w"},
            clock=lambda: float(next(times)),
            timeout=500.0,
        )
    assert found == {}
    assert next(times) < 1500
    assert handover.TIMEOUT == 60


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def test_nothing_of_weight_is_loaded() -> None:
    code = (
        f"import sys; sys.path.append({str(ENTRY.parents[1])!r}); import tmuxevolve.console, json;"
        " print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
    loaded = {*json.loads(done.stdout)}
    assert not {"msgspec", "typing", "pathlib", "subprocess", "socket", "signal"} & loaded
