"""What a worker does with the tmux pane that it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from tmuxevolve.errors import MissingError
from tmuxevolve.multiplexer import Ending, client
from tmuxevolve.multiplexer.client import literal
from tmuxevolve.multiplexer.tmux import ENDING, encode
from tmuxevolve.terminal import NOTICE

_TIMEOUT = 10


def record_ending(ending: Ending, environ: Mapping[str, str]) -> None:
    """Keep how the trainer ended on the pane that ``environ`` belongs to, if that still exists."""
    _run(("set-option", "-p", "-t", environ.get("TMUX_PANE", ""), ENDING, encode(ending)), environ)


def printed_since(notice: str, environ: Mapping[str, str]) -> str:
    """Return what was printed in the pane since our own notice, as far back as tmux keeps it.

    These are the lines as they stand on the screen: of a progress bar there is the last state.
    """
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
