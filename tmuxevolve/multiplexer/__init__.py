"""What a terminal multiplexer does for us: windows that outlive the terminal, and facts about them.

The values and the interface are here; ``tmux.py`` and ``screen.py`` implement it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

import msgspec

from tmuxevolve.memory import Limit

WORKER = "worker"


class State(str, Enum):
    """What a window's worker is doing."""

    RUNNING = "running"
    WAITING = "waiting"
    FINISHED = "finished"
    FAILED = "failed"
    GONE = "gone"

    def is_over(self) -> bool:
        """Say whether no worker runs in the window any more."""
        return self in {State.FINISHED, State.FAILED, State.GONE}


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``start`` knew about a window; it travels with the window itself.

    ``source`` is the sessions file that it was started from. ``role`` is "worker", or what else
    the window is for.
    """

    worker: str
    session: str
    slot: str
    uuid: str | None = None
    device: str = ""
    trainer: str
    mode: str = "native"
    command: str
    results: str
    started: float
    stop_signal: str
    stop_grace: float
    memory: Limit | None = None
    source: str = ""
    role: str = WORKER


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a worker's trainer ended: our own record, beside the multiplexer's.

    ``status`` is an exit status, ``signal`` the number of the signal that ended the trainer,
    ``reason`` why it ended, where that needs words, ``ended`` seconds since the epoch.
    """

    status: int
    signal: int | None = None
    reason: str | None = None
    ended: float


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of ours; ``pane`` is the pane in it that we opened, ``pid`` its first process.

    ``recorded`` says whether somebody gets its output.
    """

    index: int
    name: str
    pane: str
    pid: int
    dead: bool
    dead_status: int | None
    dead_signal: int | None
    facts: Facts
    ending: Ending | None
    recorded: bool = False

    @property
    def state(self) -> State:
        """Return the state as far as the window alone tells: our record first, then its own."""
        if not self.dead:
            return State.RUNNING
        status = self.exit_status
        if status is None:
            return State.GONE
        return State.FINISHED if status == 0 else State.FAILED

    @property
    def exit_status(self) -> int | None:
        """Return the exit status, 128 + n after signal n; None while it runs or when it is lost."""
        if self.ending:
            return self.ending.status
        if self.dead_signal:
            return 128 + self.dead_signal
        return self.dead_status if self.dead else None


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A window to open: where, and the argv of its first process (never a shell's).

    All that is printed in it is also written to the FIFO ``output``, from the first byte on. One
    in ``front`` is what a session shows first.
    """

    index: int
    name: str
    argv: tuple[str, ...]
    workdir: Path
    facts: Facts
    replaces: Window | None = None
    front: bool = False
    output: Path | None = None


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """How to put the caller's terminal into a session: a process to become.

    ``switches`` says that it ends at once: the client that shows the caller moves there.
    """

    argv: tuple[str, ...]
    switches: bool = False
    unset: tuple[str, ...] = ()


def encode(value: msgspec.Struct) -> str:
    """Return JSON that survives tmux, squeue and a list of fields: ASCII, and not one blank."""
    compact = json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
    return compact.replace(" ", "\\u0020")


class Multiplexer(Protocol):
    """A terminal multiplexer's windows, as the rest of the program sees them."""

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options of our own commands that lead to this server."""

    @property
    def detach_keys(self) -> str:
        """Return what to press to leave a session running, such as "Ctrl-b d"."""

    def check(self) -> None:
        """Raise MissingError when the program is missing or too old."""

    def version(self) -> str:
        """Return the program's name and version. Raises MissingError when it is missing."""

    def windows(self) -> tuple[Window, ...]:
        """Return every worker's window, of all sessions, in window order."""

    def services(self) -> tuple[Window, ...]:
        """Return the other windows that tmuxevolve opened: those that no worker runs in."""

    def all_windows(self) -> tuple[Window, ...]:
        """Return both, for the price of one."""

    def open(self, session: str, openings: Sequence[Opening]) -> tuple[str, ...]:
        """Open the windows detached; return the workers whose window could not be opened.

        A window is refused when another process has just taken its index. Raises UsageError when
        a session of that name exists that tmuxevolve did not start.
        """

    def record(self, outputs: Sequence[tuple[Window, Path]]) -> None:
        """Write what windows print from now on to a FIFO each, as well."""

    def close(self, windows: Sequence[Window]) -> None:
        """Remove our pane of each window; what else a person has put there stays."""

    def screens(self, windows: Sequence[Window], above: int = 1) -> Mapping[str, Sequence[str]]:
        """Return the lines with text on each window's screen, by pane, without their indentation.

        The last ``above`` lines that have left the screen come before them.
        """

    def attach(self, window: Window, *, select: bool, environ: Mapping[str, str]) -> Attach:
        """Return the process that shows the window's session, as it was left or at the window."""
