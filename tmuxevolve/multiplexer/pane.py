"""What a worker does with the window that it runs in, whichever multiplexer that is of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from tmuxevolve import console
from tmuxevolve.errors import MissingError
from tmuxevolve.multiplexer import Ending, client, encode
from tmuxevolve.multiplexer.client import literal
from tmuxevolve.multiplexer.tmux import ENDING
from tmuxevolve.terminal import NOTICE

_TIMEOUT = 10


def record_ending(ending: Ending, worker: str, environ: Mapping[str, str]) -> None:
    """Keep how the trainer ended on the window that ``environ`` belongs to, if that still exists.

    Raises OSError when it does not.
    """
    place = environ.get(console.VARIABLE)
    if place:
        console.ask(place, worker, b"ending " + msgspec.json.encode(ending))
        return
    _run(("set-option", "-p", "-t", environ.get("TMUX_PANE", ""), ENDING, encode(ending)), environ)


def printed_since(notice: str, worker: str, environ: Mapping[str, str]) -> str:
    """Return what was printed in the window since our own notice, as far back as that is kept.

    These are the lines as they stand on the screen: of a progress bar there is the last state.
    Raises OSError.
    """
    place = environ.get(console.VARIABLE)
    if place:
        return console.printed_since(notice, worker, place)
    pane = environ.get("TMUX_PANE", "")
    lines = _run(("capture-pane", "-pJ", "-S", "-", "-t", pane), environ).splitlines()
    wanted = f"{NOTICE}{notice}"
    starts = [number for number, line in enumerate(lines) if line.startswith(wanted)]
    found = lines[starts[-1] + 1 if starts else 0 :]
    return "\n".join(line.rstrip() for line in found).rstrip() + "\n"


def _run(command: tuple[str, ...], environ: Mapping[str, str]) -> str:
    if "TMUX" not in environ:
        return ""
    with suppress(MissingError):
        words = map(literal, command)
        return client.run("-u", *words, environ=environ, timeout=_TIMEOUT).stdout
    return ""
