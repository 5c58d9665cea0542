"""Windows in GNU screen. Nothing else in the program knows screen.

screen itself is asked for little: to open a window, to select one, to show a session. All that is
known about a window is what the process in it answers (screen_window.py): it holds the facts, the
exit status and the last of what was printed, and it is gone when the window is. Which windows there
are, the kernel knows, by the sockets at which they answer.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from tmuxevolve import console
from tmuxevolve.census import MARK
from tmuxevolve.errors import MissingError, NotRunningError, UsageError
from tmuxevolve.multiplexer import (
    WORKER,
    Attach,
    Ending,
    Facts,
    Opening,
    Window,
    consoles,
    screen_client,
)

MINIMUM = "4.9"
_MINIMUM = (4, 9)
_ENTRY = Path(__file__).parent.with_name("screen_entry.py")
# In the environment of a session that we have made.
_OURS = "TMUXEVOLVE_SCREEN"
_PANE = "screen:"
_MOST_WINDOWS = 100
_TIMEOUT, _POLL = 10.0, 0.02
_SCREEN_BYTES, _ALL_BYTES = 1 << 15, 1 << 20
_ROWS = 50


class _Look(msgspec.Struct, frozen=True):
    """What a window's process answers."""

    facts: Facts | None
    ending: Ending | None
    pid: int
    status: int | None
    recorded: bool
    index: int
    name: str


class Screen:
    """The caller's own screen sessions."""

    @property
    def options(self) -> tuple[str, ...]:
        """Return nothing: where the sessions are, the environment says."""
        return ()

    @property
    def detach_keys(self) -> str:
        """Return what to press to leave a session running."""
        return "Ctrl-a d"

    def check(self) -> None:
        """Raise MissingError when screen is missing or older than 4.9."""
        found = re.search(r"([0-9]+)\.0*([0-9]+)", self.version())
        if not found or (int(found[1]), int(found[2])) < _MINIMUM:
            raise MissingError(
                f"{self.version()} is too old: {MINIMUM} or newer is needed;"
                f" {screen_client.INSTALL}"
            )

    def version(self) -> str:
        """Return screen's name and version, such as "screen 4.9.0"."""
        said = screen_client.run("--version").stdout
        found = re.search(r"version ([0-9]+)\.0*([0-9]+)\.0*([0-9]+)", said)
        return f"screen {found[1]}.{found[2]}.{found[3]}" if found else said.strip()

    def windows(self) -> tuple[Window, ...]:
        """Return every worker's window."""
        return tuple(window for window in self.all_windows() if window.facts.role == WORKER)

    def services(self) -> tuple[Window, ...]:
        """Return our other windows."""
        return tuple(window for window in self.all_windows() if window.facts.role != WORKER)

    def all_windows(self) -> tuple[Window, ...]:
        """Return every window of ours."""
        found = (_window(worker) for worker in consoles.workers(consoles.here()))
        windows = (window for window in found if window)
        return tuple(sorted(windows, key=lambda w: (w.facts.session, w.index)))

    def open(self, session: str, openings: Sequence[Opening]) -> tuple[str, ...]:
        """Open the windows, one after the other.

        Of two starts at once each opens the windows that the other has not.
        """
        if not openings:
            return ()
        with screen_client.turn(session):
            here = self._session(session)
            before = screen_client.current(here) if here else None
            taken = self._taken(session, openings)
            mine = [opening for opening in openings if opening.index not in taken]
            refused = [opening.facts.worker for opening in openings if opening.index in taken]
            for opening in mine:
                self._spawn(here or session, opening, new=here is None)
                if not _begins(opening):
                    refused.append(opening.facts.worker)
                elif here is None:
                    here = self._made(session, opening)
            self._settle(session, mine, before)
        return tuple(refused)

    def record(self, outputs: Sequence[tuple[Window, Path]]) -> None:
        """Have the windows' processes write to the FIFOs."""
        for window, output in outputs:
            _tell(window, b"record " + os.fsencode(output))

    def close(self, windows: Sequence[Window]) -> None:
        """End our processes; a window goes with its own, a session with its last window."""
        workers = {window.facts.worker for window in windows}
        for window in windows:
            _tell(window, b"close")
        deadline = time.monotonic() + _TIMEOUT
        while workers & {*consoles.workers(consoles.here())} and time.monotonic() < deadline:
            time.sleep(_POLL)

    def screens(self, windows: Sequence[Window], above: int = 1) -> Mapping[str, Sequence[str]]:
        """Return the lines with text on each window's screen, and some that have left it."""
        size = _SCREEN_BYTES if above < _ROWS else _ALL_BYTES
        found = {}
        for window in windows:
            data = _tell(window, b"printed %d" % size)
            lines = (line.strip() for line in console.lines(data))
            found[window.pane] = [line for line in lines if line][-(_ROWS + above) :]
        return found

    def attach(self, window: Window, *, select: bool, environ: Mapping[str, str]) -> Attach:
        """Return screen's argv: -x shows a session beside others who look at it."""
        seen = _ask(window.facts.worker)
        if seen is None:
            raise NotRunningError(f"window {window.name} is not there any more")
        sty = screen_client.name_now(seen[1])
        index = screen_client.number_now(sty, seen[0].index, seen[0].name)
        inside = environ.get("STY", "").partition(".")[0] == sty.partition(".")[0]
        if inside:
            # screen refuses to show a session in itself.
            return Attach(argv=("screen", "-S", sty, "-X", "select", index), switches=True)
        chosen = ("-p", index) if select else ()
        return Attach(argv=("screen", "-U", "-x", sty, *chosen), unset=("STY",))

    def _taken(self, session: str, openings: Sequence[Opening]) -> set[int]:
        """Return the indexes of openings whose slot another start has meanwhile given a window."""
        mine = {w.facts.slot: w for w in self.all_windows() if w.facts.session == session}
        return {
            opening.index
            for opening in openings
            if opening.facts.slot in mine
            and (
                opening.replaces is None
                or mine[opening.facts.slot].facts.worker != opening.replaces.facts.worker
            )
        }

    def _session(self, session: str) -> str | None:
        """Return the whole name of a session of ours. Raises UsageError for somebody else's."""
        for pid, name in screen_client.sessions():
            if name != screen_client.safe(session):
                continue
            if _OURS.encode() + b"=" not in screen_client.environ_of(pid):
                raise UsageError(
                    f"screen session {session!r} exists and was not started by tmuxevolve:"
                    " rename one of the two"
                )
            return f"{pid}.{name}"
        return None

    def _spawn(self, session: str, opening: Opening, *, new: bool) -> None:
        worker = opening.facts.worker
        title = ("-t", opening.name)
        argv = (sys.executable, "-I", "-S", str(_ENTRY), consoles.here(), worker)
        if new:
            environ = {name: value for name, value in os.environ.items() if name != "STY"}
            words = ("-U", "-dmS", screen_client.safe(session), *title, *argv)
            screen_client.begin(*words, environ={**environ, _OURS: "1"})
            return
        # Where a user's own window has that number, screen takes the next one that is free.
        number = (str(opening.index),) if opening.index < _MOST_WINDOWS else ()
        screen_client.command(session, "screen", *title, *number, *map(screen_client.literal, argv))

    def _made(self, session: str, first: Opening) -> str | None:
        """Undo what a ~/.screenrc may say that would surprise: the new session is ours alone."""
        seen = _ask(first.facts.worker)
        if seen is None:
            return None
        sty = screen_client.name_now(seen[1])
        # Without it, a window whose process has ended stays, and keys in it do odd things.
        screen_client.command(sty, "zombie")
        screen_client.command(sty, "autodetach", "on")
        if sty.partition(".")[2] != screen_client.safe(session):
            screen_client.command(
                sty, "sessionname", screen_client.literal(screen_client.safe(session))
            )
        return self._session(session)

    def _move(self, session: str, opening: Opening) -> None:
        """Give a window the number of the one whose place it has taken."""
        seen, here = _ask(opening.facts.worker), self._session(session)
        if not (opening.replaces and seen and here):
            return
        number = str(opening.replaces.index)
        screen_client.run("-S", here, "-p", str(seen[0].index), "-X", "number", number)
        with suppress(OSError):
            console.ask(consoles.here(), opening.facts.worker, b"moved " + number.encode())

    def _settle(self, session: str, opened: Sequence[Opening], before: str | None) -> None:
        """Close the windows whose place was taken, and show what is to be shown first."""
        self.close([opening.replaces for opening in opened if opening.replaces])
        for opening in opened:
            self._move(session, opening)
        front = next((opening for opening in opened if opening.front), None)
        wanted = front or (opened[0] if before is None and opened else None)
        seen = _ask(wanted.facts.worker) if wanted else None
        number = str(seen[0].index) if seen else before
        here = self._session(session)
        if here and number is not None:
            screen_client.command(here, "select", number)


def _ask(worker: str) -> tuple[_Look, str] | None:
    """Return what a window answers, and its session by its whole name at first."""
    try:
        head, _, sty = console.ask(consoles.here(), worker, b"look").partition(b"\n")
        return msgspec.json.decode(head, type=_Look), os.fsdecode(sty)
    except (OSError, msgspec.DecodeError):
        # It is about to begin, or to end, or another user's.
        return None


def _tell(window: Window, request: bytes) -> bytes:
    with suppress(OSError):
        return console.ask(consoles.here(), window.facts.worker, request)
    return b""


def _window(worker: str) -> Window | None:
    seen = _ask(worker)
    if seen is None or seen[0].facts is None:
        return None
    look, facts = seen[0], seen[0].facts
    dead, status = look.status is not None, look.status or 0
    return Window(
        index=look.index,
        name=look.name,
        pane=f"{_PANE}{worker}",
        pid=look.pid,
        dead=dead,
        dead_status=status if dead and status >= 0 else None,
        dead_signal=-status if status < 0 else None,
        facts=facts,
        ending=look.ending,
        recorded=look.recorded,
    )


def _begins(opening: Opening) -> bool:
    """Tell a window what to run, once it answers; False when it never does."""
    entry, address, worker = opening.argv[-3:]
    words = (
        os.fsencode(Path(entry).name),
        msgspec.json.encode(opening.facts),
        *(word.encode() for word in (opening.name, address, MARK)),
        os.fsencode(opening.output or ""),
    )
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError):
            console.ask(consoles.here(), worker, b"begin " + b"\n".join(words))
            return True
        time.sleep(_POLL)
    return False
