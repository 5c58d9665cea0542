"""screen's client: one process per command, and what session names, numbers and words become."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tmuxevolve.errors import MissingError, TmuxEvolveError

MINIMUM = "4.9"
_MINIMUM = (4, 9)
_INSTALL = "install it, e.g. apt install screen"
_SESSION = r"^\t([0-9]+)\.(.*?)\t.*\((?:Attached|Detached|Multi, attached|Multi, detached)\)$"
# screen takes 80 bytes; with its folder and a pid they are to fit into the 107 of a socket's path.
_NAME_BYTES = 48
_TIMEOUT = 10.0


def check() -> None:
    """Raise MissingError when screen is missing or older than 4.9."""
    found = re.search(r"([0-9]+)\.0*([0-9]+)", version())
    if not found or (int(found[1]), int(found[2])) < _MINIMUM:
        raise MissingError(f"{version()} is too old: {MINIMUM} or newer is needed; {_INSTALL}")


def version() -> str:
    """Return screen's name and version, such as "screen 4.9.0"."""
    said = run("--version").stdout
    found = re.search(r"version ([0-9]+)\.0*([0-9]+)\.0*([0-9]+)", said)
    return f"screen {found[1]}.{found[2]}.{found[3]}" if found else said.strip()


def run(*words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a screen client. Raises MissingError where there is no screen."""
    try:
        return subprocess.run(
            ["screen", *words],
            env=environ,
            timeout=_TIMEOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError:
        raise MissingError(f"screen is not on the PATH: {_INSTALL}") from None
    except subprocess.TimeoutExpired:
        raise TmuxEvolveError(f"screen {words[0]} does not answer in {_TIMEOUT:g} s") from None


def command(sty: str, *words: str) -> str:
    """Send a command to a session, by its whole name: a part of it would match others."""
    done = run("-S", sty, "-X", *words)
    if done.returncode and words[0] == "screen":
        raise TmuxEvolveError(f"screen: {said(done)}")
    return done.stdout


def said(done: subprocess.CompletedProcess[str]) -> str:
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


def environ(pid: str) -> bytes:
    """Return the environment that a session's server began with."""
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def safe(session: str) -> str:
    """Return a session's name as screen can have it: it is a file's, and a socket's."""
    import hashlib

    name = session.replace("/", "_").encode()
    if len(name) <= _NAME_BYTES:
        return name.decode()
    digest = hashlib.sha256(name).hexdigest()[:8]
    return f"{name[: _NAME_BYTES - 9].decode(errors='ignore')}~{digest}"


def literal(word: str) -> str:
    """Keep a word from being expanded: screen parses what -X sends."""
    return re.sub(r"([\\$^])", r"\\\1", word)


def whole_name(sty: str) -> str:
    """Return a session's whole name as it is now: a user may have given it another one."""
    pid = sty.partition(".")[0]
    return next((f"{found}.{name}" for found, name in sessions() if found == pid), sty)


def number(sty: str, index: int, title: str) -> str:
    """Return a window's number as it is now: a user may have moved it, or another one there."""
    for chosen in (str(index), title):
        said = run("-S", sty, "-p", chosen, "-Q", "number").stdout
        found = re.match(r"([0-9]+) \((.*)\)\s*$", said)
        if found and found[2] == title:
            return found[1]
    return str(index)
