"""What many tests need: a private tmux server, the real command line, polling with a deadline."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil
from hands import HANDS, TmuxHands

from tmuxevolve.config import Evolve, GpuPolicy, RestartPolicy, Session, StopPolicy
from tmuxevolve.multiplexer import Window

T = TypeVar("T")


def trainer_session(
    *command: str,
    workdir: Path = Path("/work"),
    results: Path = Path("/runs/search"),
    trainer: str | None = None,
    **evolve: Any,
) -> Session:
    """Return a session of this command with defaults for all that trainers do not look at."""
    return Session(
        name="demo",
        source=Path("sessions.yaml"),
        workdir=workdir,
        command=command,
        trainer=trainer,
        results=results,
        evolve=Evolve(**evolve),
        gpus=GpuPolicy(),
        cpu_slots=0,
        env={},
        stagger=None,
        memory=None,
        min_free_memory=None,
        restart=RestartPolicy(),
        stop=StopPolicy(),
    )


def poll(condition: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Return the condition's first true value; fail when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, (
            f"not in {timeout} s: {what or condition}; last {value!r}"
        )
        time.sleep(0.02)


class Box:
    """A machine of its own: home, tmux server or screen sessions, environment, sessions.yaml."""

    def __init__(self, root: Path, multiplexer: str = "tmux") -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        # A socket's path has at most 107 bytes: pytest's own folders are too deep.
        self.sockets = Path(tempfile.mkdtemp(prefix="te", dir="/tmp"))
        self.config = root / "sessions.yaml"
        drop = {"TMUX", "TMUX_PANE", "STY", "WINDOW", "SCREENDIR", "NVML_STUB_STATE", "NO_COLOR"}
        self.env = {k: v for k, v in os.environ.items() if k not in drop and "TMUXEVOLVE" not in k}
        # As in a shell with the environment activated.
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        self.env |= {"HOME": str(self.home), "TMUX_TMPDIR": str(self.sockets), "LANG": "C.UTF-8"}
        self.multiplexer = multiplexer
        self.hands = HANDS[multiplexer](self)

    def cli(
        self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 90, **kwargs: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the real command line."""
        return subprocess.run(
            [sys.executable, "-m", "tmuxevolve", *args],
            env={**self.env, **(env or {})},
            cwd=kwargs.pop("cwd", self.root),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
            **kwargs,
        )

    def json(self, *args: str, **kwargs: Any) -> Any:
        """Run a command with --json; it must succeed."""
        done = self.cli(*args, "--json", **kwargs)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def tmux(self, *args: str, socket: str = "default") -> str:
        """Run tmux on this box's server."""
        argv = ["tmux", "-u", "-L", socket, *args]
        done = subprocess.run(
            argv, env=self.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    def write(self, text: str) -> None:
        """Write this box's sessions.yaml."""
        self.config.write_text(text)

    def session(self, name: str = "demo", **keys: Any) -> None:
        """Write a sessions.yaml with one session of trainer `command` on CPU slots."""
        entry = {
            "command": ["sleep", "1000"],
            "trainer": "command",
            "results": str(self.root / "results"),
            "cpu_slots": 2,
            "gpus": {"use": "none"},
            "evolve": {"mode": "native"},
            "restart": {"on": "never"},
            **keys,
        }
        # JSON is YAML.
        self.write(json.dumps({"default": name, "sessions": {name: entry}}))

    def status(self, *args: str) -> dict[str, Any]:
        """Return the windows of `status --json`, by window name."""
        sessions = self.json("status", *args)
        return {window["window"]: window for s in sessions for window in s["windows"]}

    def windows(self) -> tuple[Window, ...]:
        """Return the windows as the program sees them."""
        code = (
            "import msgspec, sys; from tmuxevolve.multiplexer import choice;"
            "print(msgspec.json.encode(choice.choose(sys.argv[1], None).all_windows()).decode())"
        )
        argv = [sys.executable, "-c", code, self.multiplexer]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=True)
        return msgspec.json.decode(done.stdout, type=tuple[Window, ...])

    def keeper(self, window: str) -> psutil.Process:
        """Return a window's first process."""
        return psutil.Process(next(w.pid for w in self.windows() if w.name == window))

    def worker(self, window: str) -> psutil.Process:
        """Wait for the worker that a window's keeper forks, and return it."""
        keeper = self.keeper(window)
        same = command_line(keeper)
        (worker, *_) = poll(lambda: [p for p in keeper.children() if command_line(p) == same])
        return worker

    def close(self) -> None:
        """End everything that was started here, however it was started."""
        self.hands.close()
        # A person's terminal is a tmux of its own.
        TmuxHands(self).close()
        for process in box_processes(self):
            with suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.sockets, ignore_errors=True)


def command_line(process: psutil.Process) -> list[str]:
    """Return a process's argv; nothing of one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs: one that has ended and waits for its parent does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def box_processes(box: Box) -> list[psutil.Process]:
    """Return the living processes that carry this box's environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mine = process.environ().get("TMUX_TMPDIR") == str(box.sockets)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def recorders(box: Box) -> list[psutil.Process]:
    """Return the box's recorders, which carry nothing of its environment."""
    found = [(p, command_line(p)) for p in psutil.process_iter()]
    return [
        process
        for process, words in found
        if any(word.endswith("recorder_entry.py") for word in words)
        and any(word.startswith(str(box.root)) for word in words)
    ]


@contextmanager
def new_box(root: Path, multiplexer: str = "tmux") -> Iterator[Box]:
    """Return a box that is cleaned up afterwards."""
    box = Box(root, multiplexer)
    try:
        yield box
    finally:
        box.close()


class Viewer:
    """A person's terminal: a tmux server of its own, driven with keys, read from the screen.

    It looks like a plain terminal to the programs in it unless they are to see that it is tmux.
    """

    def __init__(self, box: Box, socket: str = "viewer", *, is_tmux: bool = False) -> None:
        self.box = box
        self.socket = socket
        hide = () if is_tmux else ("-u", "TMUX", "-u", "TMUX_PANE")
        shell = ("env", *hide, "PS1=$ ", "bash", "--norc", "--noprofile")
        size = ("-x", "120", "-y", "30", "-c", str(box.root))
        box.tmux("-f", "/dev/null", "new-session", "-d", "-s", "me", *size, *shell, socket=socket)

    def type(self, *keys: str) -> None:
        """Press keys, or type a text."""
        self.box.tmux("send-keys", "-t", "=me:", *keys, socket=self.socket)

    def run(self, command: str) -> None:
        """Type a command on a clear screen and press Enter."""
        self.type(f"clear; {command}", "Enter")

    def screen(self) -> str:
        """Return what the person sees."""
        return self.box.tmux("capture-pane", "-pt", "=me:", socket=self.socket)

    def see(self, pattern: str, timeout: float = 30.0) -> str:
        """Wait until the pattern is on the screen; return the screen."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, screen := self.screen(), re.MULTILINE):
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{screen}"
            time.sleep(0.05)
        return screen

    def keep(self, name: str) -> None:
        """Keep the screen as a file beside the box's other files."""
        folder = self.box.root / "screens"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(self.screen())

    def close(self) -> None:
        """Close the terminal, as a lost connection does."""
        self.box.tmux("kill-server", socket=self.socket)
