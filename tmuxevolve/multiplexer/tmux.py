"""Windows in tmux. Nothing else in the program knows tmux."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from tmuxevolve.errors import NotRunningError, TmuxEvolveError, UsageError
from tmuxevolve.multiplexer import (
    WORKER,
    Attach,
    Ending,
    Facts,
    Opening,
    Window,
    client,
    encode,
)
from tmuxevolve.multiplexer.client import Command, Group

_FACTS = "@tmuxevolve"
ENDING = "@tmuxevolve_ending"
_SESSION = "@tmuxevolve_session"
_FIELDS = (
    "#{window_index} #{pane_id} #{pane_pid} #{pane_dead}"
    " s#{pane_dead_status} s#{pane_dead_signal} #{pane_pipe}"
    f" #{{{_FACTS}}} #{{?{ENDING},#{{{ENDING}}},-}} #{{window_name}}"
)
_FACTS_BYTES = 6_000
# Without a client nothing else says how wide a progress bar may be.
_SIZE = (200, 50)
# move-window refuses to move a window onto itself, so the first one goes by way of a far index.
_FAR_INDEX = 99_999
_SERVER_EXIT_TIMEOUT, _SERVER_EXIT_POLL = 5.0, 0.02
_NO_SERVER = (
    r"no server running|error connecting to .*(No such file|refused)|server exited|lost server"
)
_TAKEN = r"index \d+ in use|index in use|duplicate session"
_DEAD = "Pane is dead"
_GONE = r"can't find (window|pane|session)|no current (target|session|client)"

T = TypeVar("T")


class Tmux:
    """A tmux server: the caller's own, or the one at ``socket_name`` (tmux -L).

    ``size`` (columns, rows) is what new sessions have until a client attaches: the caller's own
    terminal fits best, because many progress bars keep the width that they began with.
    """

    def __init__(self, socket_name: str | None = None, size: tuple[int, int] = _SIZE) -> None:
        """Name the server; nothing is run yet."""
        self.socket_name = socket_name
        self._size = size

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options of our own commands that lead to this server."""
        return ("--socket-name", self.socket_name) if self.socket_name else ()

    @property
    def detach_keys(self) -> str:
        """Return what to press to leave a session running."""
        return "Ctrl-b d"

    def check(self) -> None:
        """Raise MissingError when tmux is missing or older than 3.2a."""
        client.check()

    def version(self) -> str:
        """Return what tmux calls itself, such as "tmux 3.3a"."""
        return client.run("-V").stdout.strip()

    def windows(self) -> tuple[Window, ...]:
        """Return every worker's window on this server."""
        return tuple(window for window in self.all_windows() if window.facts.role == WORKER)

    def services(self) -> tuple[Window, ...]:
        """Return our other windows on this server."""
        return tuple(window for window in self.all_windows() if window.facts.role != WORKER)

    def all_windows(self) -> tuple[Window, ...]:
        """Return every window of ours on this server."""
        ours = f"#{{!=:#{{{_FACTS}}},}}"
        lines = self._output(("list-panes", "-a", "-f", ours, "-F", _FIELDS))
        # A pane is listed once for every session of a session group.
        panes = {window.pane: window for window in map(_parse_window, lines)}
        return tuple(sorted(panes.values(), key=lambda w: (w.facts.session, w.index)))

    def open(self, session: str, openings: Sequence[Opening]) -> tuple[str, ...]:
        """Open the windows, all of them in as few messages to the server as they fit in."""
        if not openings:
            return ()
        deadline = time.monotonic() + _SERVER_EXIT_TIMEOUT
        outputs = self._open(session, openings)
        while outputs is None and time.monotonic() < deadline:
            time.sleep(_SERVER_EXIT_POLL)
            outputs = self._open(session, openings)
        if outputs is None:
            raise TmuxEvolveError(f"tmux: cannot make session {session!r}")
        pairs = zip(openings, outputs, strict=True)
        return tuple(opening.facts.worker for opening, output in pairs if output is None)

    def _open(self, session: str, openings: Sequence[Opening]) -> list[list[str] | None] | None:
        """Try once; None when there was a server, about to exit after its last session."""
        exists = self._has_session(session)
        groups = [_opening(session, opening) for opening in openings]
        if not exists:
            groups[0] = _opening(session, openings[0], self._size)
        outputs = self._run(groups, expected=_TAKEN)
        if exists or outputs[0] is not None:
            return outputs
        if not self._has_session(session):
            return None
        # Another start has made the session first: this window still has a place in it.
        return [*self._run([_opening(session, openings[0])], expected=_TAKEN), *outputs[1:]]

    def record(self, outputs: Sequence[tuple[Window, Path]]) -> None:
        """Pipe our panes' output."""
        self._run([[_pipe(window.pane, output)] for window, output in outputs], expected=_GONE)

    def close(self, windows: Sequence[Window]) -> None:
        """Kill our panes; a window goes with its last pane, the session with its last window."""
        self._run([[("kill-pane", "-t", w.pane)] for w in windows], expected=_GONE)

    def screens(self, windows: Sequence[Window], above: int = 1) -> Mapping[str, Sequence[str]]:
        """Return the lines with text on each pane's screen, and some that have left it."""
        # One above: the notice that a pane is dead pushes the topmost line off the screen.
        groups = [[("capture-pane", "-pJ", "-S", f"-{above}", "-t", w.pane)] for w in windows]
        screens = zip(windows, self._run(groups, expected=_GONE), strict=True)
        return {window.pane: [*_with_text(screen or ())] for window, screen in screens}

    def attach(self, window: Window, *, select: bool, environ: Mapping[str, str]) -> Attach:
        """Return a tmux client's argv: attach-session, or switch-client inside the same server."""
        where = "#{pane_id} #{session_id} #{socket_path}"
        lines = self._output(("display-message", "-pt", window.pane, where))
        pane, session, ours = (lines or ["- - "])[0].split(" ", 2)
        # tmux fails for no pane that is gone: it tells of another one, or of none.
        if pane != window.pane:
            raise NotRunningError(f"window {window.name} is not there any more")
        tmux = ("tmux", *(("-L", self.socket_name) if self.socket_name else ()))
        target = window.pane if select else session
        outer = environ.get("TMUX", "").split(",")[0]
        if outer and Path(outer).resolve() == Path(ours).resolve():
            return Attach(argv=(*tmux, "switch-client", "-t", target), switches=True)
        # tmux refuses to nest unless TMUX is unset; on another server nesting is what is wanted.
        return Attach(argv=(*tmux, "attach-session", "-t", target), unset=("TMUX",))

    def _has_session(self, session: str) -> bool:
        for line in self._output(("list-sessions", "-F", f"#{{{_SESSION}}} #{{session_name}}")):
            mark, _, name = line.partition(" ")
            if name == session and not mark:
                raise UsageError(
                    f"tmux session {session!r} exists and was not started by tmuxevolve:"
                    " rename one of the two, or give another server with --socket-name"
                )
            if name == session:
                return True
        return False

    def _output(self, command: Command) -> list[str]:
        return self._run([[command]], expected=_GONE)[0] or []

    def _run(self, groups: Sequence[Group], *, expected: str) -> list[list[str] | None]:
        """Run groups of commands; return each one's output, or None where the server refused it."""
        outputs: list[list[str] | None] = []
        for message in client.messages(groups):
            rest = message
            while rest:
                done, error = self._send(rest)
                outputs += done
                rest = rest[len(done) :]
                if re.search(_NO_SERVER, error):
                    outputs += [None] * len(rest)
                    break
                if rest and not re.search(expected, error):
                    raise TmuxEvolveError(f"tmux: {error or 'stopped answering'}")
                # tmux drops the rest of a message after an error: send what follows again.
                outputs += [None] * len(rest[:1])
                rest = rest[1:]
        return outputs

    def _send(self, groups: Sequence[Group]) -> tuple[list[list[str] | None], str]:
        """Send one message; return the outputs of the groups that were done, and the error."""
        end = os.urandom(8).hex()
        chain = [c for group in groups for c in (*group, ("display-message", "-p", end))]
        words = [word for command in chain for word in (*map(client.literal, command), ";")]
        # -u: names come back as they are whatever the caller's locale.
        socket = ("-L", self.socket_name) if self.socket_name else ()
        reply = client.run(*socket, "-u", *words[:-1])
        *done, _ = client.split(reply.stdout.split("\n"), end)
        return list(done), " ".join(reply.stderr.split("\n")).strip()


def _opening(session: str, opening: Opening, new_session: tuple[int, int] | None = None) -> Group:
    """Return the commands for one window; ``new_session`` is the size of a session to make."""
    target = opening.replaces.pane if opening.replaces else f"={session}:{opening.index}"
    facts = ("set-option", "-p", "-t", target, _FACTS, _fitting(opening.facts))
    process = ("-c", _unformatted(str(opening.workdir)), *opening.argv)
    pipe = [_pipe(target, opening.output)] if opening.output else []
    if opening.replaces:
        return [
            ("respawn-pane", "-k", "-t", target, *process),
            *pipe,
            facts,
            ("set-option", "-p", "-u", "-t", target, ENDING),
        ]
    window: list[Command] = [
        *pipe,
        facts,
        ("set-option", "-p", "-t", target, "remain-on-exit", "on"),
        ("set-option", "-w", "-t", target, "allow-rename", "off"),
        ("set-option", "-w", "-t", target, "window-size", "latest"),
    ]
    if new_session:
        return [*_new_session(session, opening, process, new_session), *window]
    if opening.front:
        window.append(("select-window", "-t", target))
    return [("new-window", "-d", "-t", target, "-n", opening.name, *process), *window]


def _new_session(session: str, opening: Opening, process: Command, size: tuple[int, int]) -> Group:
    columns, rows = map(str, size)

    def option(name: str, value: str) -> Command:
        return ("set-option", "-t", f"={session}:", name, value)

    far = f"={session}:{_FAR_INDEX}"
    return [
        (
            "new-session",
            "-d",
            "-s",
            session,
            "-n",
            opening.name,
            "-x",
            columns,
            "-y",
            rows,
            *process,
        ),
        option(_SESSION, "1"),
        option("destroy-unattached", "off"),
        option("renumber-windows", "off"),
        option("default-size", f"{columns}x{rows}"),
        ("move-window", "-s", f"={session}:^", "-t", far),
        ("move-window", "-s", far, "-t", f"={session}:{opening.index}"),
    ]


def _pipe(target: str, output: Path) -> Command:
    """Return the command for it; a Python per window would take ten times the memory of cat."""
    from shlex import quote

    # tmux expands formats in it, and strftime's; sh has the rest.
    shell = _unformatted(f"exec cat >{quote(str(output))}").replace("%", "%%")
    return ("pipe-pane", "-t", target, shell)


def _with_text(screen: Sequence[str]) -> Iterator[str]:
    lines = (line.strip() for line in screen)
    return (line for line in lines if line and not line.startswith(_DEAD))


def _unformatted(text: str) -> str:
    """Keep tmux from expanding formats in a text."""
    return text.replace("#", "##")


def _fitting(facts: Facts) -> str:
    """Shorten the command, which is for people, until a message has room for the facts.

    As ASCII, characters are up to twelve bytes each.
    """
    while len(text := encode(facts)) > _FACTS_BYTES and facts.command:
        facts = msgspec.structs.replace(facts, command=facts.command[: len(facts.command) // 2])
    return text


def _decode(text: str, kind: type[T]) -> T:
    return msgspec.convert(json.loads(text), kind)


def _parse_window(line: str) -> Window:
    index, pane, pid, dead, status, signal, pipe, facts, ending, name = line.split(" ", 9)
    return Window(
        index=int(index),
        name=name,
        pane=pane,
        pid=int(pid),
        dead=dead == "1",
        dead_status=int(status[1:]) if status[1:] else None,
        dead_signal=int(signal[1:]) if signal[1:] else None,
        facts=_decode(facts, Facts),
        ending=None if ending == "-" else _decode(ending, Ending),
        recorded=pipe == "1",
    )
