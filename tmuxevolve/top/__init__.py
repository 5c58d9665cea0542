"""The live view of a session. It draws what session.overview says, and sends keys to session.hand.

Nothing else imports this package: Textual takes longer to load than any other command takes to run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tmuxevolve.errors import ExitStatus, MissingError, NotRunningError

if TYPE_CHECKING:
    from tmuxevolve.session.hand import Hand
    from tmuxevolve.session.overview import Watcher

# They have no second screen to draw on, and most of them cannot place a character.
_PLAIN = frozenset({"", "dumb", "unknown", "vt52", "vt100", "vt102", "vt220"})


def check(term: str) -> None:
    """Raise NotRunningError without a terminal, and MissingError for one that can show no view."""
    # Textual writes to stderr.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise NotRunningError("top needs a terminal")
    if term in _PLAIN:
        raise MissingError(
            f"top cannot draw on this terminal (TERM={term or 'unset'}): use tmuxevolve status"
        )


def run(watcher: Watcher, hand: Hand, interval: float) -> int:
    """Show the view until somebody quits it. Raises MissingError when Textual is missing."""
    try:
        from tmuxevolve.top.app import Top
    except ImportError as error:
        if not (error.name or "").startswith(("textual", "rich")):
            raise
        raise MissingError(
            'top needs Textual 8, which is not installed: pip install "textual>=8.2,<9"'
        ) from None
    app = Top(watcher.look, hand, interval)
    # With the mouse left to the terminal, text can be selected, and its moves are not sent.
    app.run(mouse=False)
    return app.return_code or ExitStatus.OK
