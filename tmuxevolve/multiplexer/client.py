"""tmux's client: one process per message to the server, and what a message may hold."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tmuxevolve import programs
from tmuxevolve.errors import MissingError

MINIMUM = "3.2a"
_MINIMUM = (3, 2, "a")
_RELEASE = r"tmux ([0-9]+)\.([0-9]+)([a-z]?)\n"
_INSTALL = "install it, e.g. apt install tmux"
# A client hands its whole command line to the server in one message of at most 16 KiB.
_MESSAGE_BYTES = 12_000
Command = tuple[str, ...]
Group = Sequence[Command]


def check() -> None:
    """Raise MissingError when tmux is missing or older than 3.2a."""
    release = re.fullmatch(_RELEASE, run("-V").stdout)
    if release and (int(release[1]), int(release[2]), release[3]) >= _MINIMUM:
        return
    # What is no plain release, or too old, is for libtmux to judge: its import takes 40 ms.
    from libtmux import common, exc

    try:
        if common.has_gte_version(MINIMUM):
            return
        found = common.get_version()
    except exc.LibTmuxException as error:
        raise MissingError(f"tmux -V failed: {error}") from None
    raise MissingError(f"tmux {found} is too old: {MINIMUM} or newer is needed; {_INSTALL}")


def run(
    *words: str, environ: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tmux client: libtmux does the same, but its import takes longer than the whole of it.

    Raises MissingError when there is no tmux, and subprocess.TimeoutExpired.
    """
    return programs.run(["tmux", *words], _INSTALL, environ, timeout)


def messages(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield as few messages as the groups fit into; a group stays whole."""
    message: list[Group] = []
    size = 0
    for group in groups:
        bytes_ = sum(len(os.fsencode(word)) + 1 for command in group for word in command) + 64
        if message and size + bytes_ > _MESSAGE_BYTES:
            yield message
            message, size = [], 0
        message.append(group)
        size += bytes_
    if message:
        yield message


def split(lines: Iterable[str], end: str) -> list[list[str]]:
    """Return the lines before each line that is ``end``, and those after the last one."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == end:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def literal(word: str) -> str:
    """Keep a word that ends in a semicolon from ending the command."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word
