"""What the installed command and ``python -m tmuxevolve`` run: Ctrl-C is handled from here on."""

from __future__ import annotations

import gc
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
else:
    # The module `signal` makes enums of its numbers: 2 ms of each command.
    import _signal as signal

_INTERRUPTED = 130
# Modules are no garbage, and looking for some among them takes a tenth of a command's time.
_RARELY = 50_000


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_RARELY)
    # Whoever ignores Ctrl-C for us, as a shell does for `tmuxevolve start &`, has a reason.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    from tmuxevolve import streams

    streams.prepare()
    # Here, and not above: Ctrl-C may come while modules are loaded.
    from tmuxevolve.cli import main as command

    command()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End at once: all that is on disk bears it, as it bears a kill.

    A KeyboardInterrupt in a finalizer, or in one of the import system's callbacks, is a traceback
    on the screen and nothing more: the command would go on.
    """
    del number, frame
    try:
        os.write(2, b"tmuxevolve: interrupted\n")
    finally:
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
