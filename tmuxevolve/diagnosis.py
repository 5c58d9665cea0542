"""Why a training failed, in a few words, from its exit status and what it printed. Pure."""

from __future__ import annotations

import re
import signal

_OUT_OF_MEMORY = (
    r"CUDA out of memory|CUDA error: out of memory|torch\.(cuda\.)?OutOfMemoryError"
    r"|CUBLAS_STATUS_ALLOC_FAILED"
)
_TRACEBACK = "Traceback (most recent call last):"
# The line that ends a traceback: the exception's name, perhaps with its module, and its text.
_EXCEPTION = r"^[A-Za-z_][\w.]*(: .*|$)"
_CHARS = 200


def why(returncode: int, printed: str) -> str:
    """Return the reason for a failure; ``returncode`` is Popen's, where -n is signal n.

    ``printed`` must be this attempt's output alone: an earlier one may have failed otherwise.
    """
    how = _how(returncode)
    if re.search(_OUT_OF_MEMORY, printed):
        return f"CUDA out of memory ({how})"
    exception = _exception(printed)
    if exception:
        return f"{exception[:_CHARS]} ({how})"
    if returncode == -signal.SIGKILL:
        return f"{how}: out of memory, or killed by somebody"
    return how


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def _exception(printed: str) -> str | None:
    """Return the last traceback's last line."""
    _, mark, after = printed.rpartition(_TRACEBACK)
    if not mark:
        return None
    return next((line for line in after.splitlines() if re.match(_EXCEPTION, line)), None)
