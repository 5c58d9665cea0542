"""screen's own programs: a process for each thing that is asked of a session."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from tmuxevolve import programs
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.multiplexer import consoles

INSTALL = "install it, e.g. apt install screen"
_SESSION = r"^\t([0-9]+)\.(.*?)\t.*\((?:Attached|Detached|Multi, attached|Multi, detached)\)$"
# screen takes 80 bytes; with its folder and a pid they are to fit into the 107 of a socket's path.
_NAME_BYTES = 48
_TIMEOUT, _POLL = 10.0, 0.02


def run(*words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return programs.run(["screen", *words], INSTALL, environ, _TIMEOUT)
    except subprocess.TimeoutExpired:
        raise TmuxEvolveError(f"screen {words[0]} does not answer in {_TIMEOUT:g} s") from None


def begin(*words: str, environ: Mapping[str, str]) -> None:
    """Make a session. Raises TmuxEvolveError with what screen has against it."""
    done = run(*words, environ=environ)
    if done.returncode:
        raise TmuxEvolveError(f"screen: {_said(done)}")


def command(sty: str, *words: str) -> str:
    """Send a command to a session, by its whole name: a part of it would match others."""
    done = run("-S", sty, "-X", *words)
    if done.returncode and words[0] == "screen":
        raise TmuxEvolveError(f"screen: {_said(done)}")
    return done.stdout


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line, where screen says what is wrong."""
    return (done.stdout + done.stderr).strip().rpartition("\n")[2].strip() or "refused"


def current(sty: str) -> str | None:
    """Return the number of the window that a session shows."""
    found = re.match(r"[0-9]+", run("-S", sty, "-Q", "number").stdout)
    return found[0] if found else None


def sessions() -> list[tuple[str, str]]:
    """Return the pid and the name of each session that is alive."""
    lines = run("-ls").stdout.splitlines()
    found = (re.match(_SESSION, line) for line in lines)
    return [(match[1], match[2]) for match in found if match]


def environ_of(pid: str) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def safe(session: str) -> str:
    """Return a session's name as screen can have it: it is a file's, and a socket's."""
    name = session.replace("/", "_").encode()
    if len(name) <= _NAME_BYTES:
        return name.decode()
    kept = name[: _NAME_BYTES - 9].decode(errors="ignore")
    return f"{kept}~{crc32(name):08x}"


def literal(word: str) -> str:
    """Keep a word from being expanded: screen parses what -X sends."""
    return re.sub(r"([\\$^])", r"\\\1", word)


def name_now(sty: str) -> str:
    """Return a session's whole name as it is now: a user may have given it another one."""
    pid = sty.partition(".")[0]
    return next((f"{found}.{name}" for found, name in sessions() if found == pid), sty)


def number_now(sty: str, index: int, title: str) -> str:
    """Return a window's number as it is now: a user may have moved it, or another one there."""
    for chosen in (str(index), title):
        said = run("-S", sty, "-p", chosen, "-Q", "number").stdout
        found = re.match(r"([0-9]+) \((.*)\)\s*$", said)
        if found and found[2] == title:
            return found[1]
    return str(index)


@contextmanager
def turn(session: str) -> Iterator[None]:
    """Let one start at a time open windows in a session: to look and to open are two steps."""
    name = f"\0tmuxevolve.screen/{consoles.here()}/{session}"[:107]
    deadline = time.monotonic() + 6 * _TIMEOUT
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        while True:
            try:
                held.bind(name.encode()[:107])
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    what = f"another start is opening windows in {session}"
                    raise TmuxEvolveError(f"screen: {what}: {error.strerror}") from None
            time.sleep(_POLL)
        yield
