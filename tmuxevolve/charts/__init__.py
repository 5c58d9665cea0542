"""Pictures and pages of a run. Each module is loaded only by the command that needs it."""

from __future__ import annotations

from tmuxevolve.errors import MissingError

PARTS = ("fitness", "hyps", "parallel", "importance")
"""What a picture may show, in its order from above."""


def require(command: str, library: str) -> None:
    """Raise MissingError where a command's library is not installed; its extra has its name."""
    from importlib.util import find_spec

    if find_spec(library) is None:
        raise MissingError(
            f"{command} needs {library}: pip install 'tmuxevolve[{command}]',"
            f" or pipx inject tmuxevolve {library}"
        )
