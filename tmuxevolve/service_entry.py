"""The process of a window that no worker runs in: ``python -I -S service_entry.py ADDRESS NAME``.

It fetches what it is to do from the ``start`` that opened the window, as a worker does, and becomes
that command of ours, with the environment of whoever ran ``start``.
"""

import os
import sys

sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from tmuxevolve import console, keeper, terminal
from tmuxevolve.counter import Counter, VisitError


def main(address: str, name: str) -> int:
    """Run one of our own commands; return a status only when there is nothing to run."""
    try:
        counter, brief, _ = Counter.visit(address, name)
    except VisitError as error:
        terminal.say(str(error))
        return 1
    direct = brief["direct"]
    assert direct is not None  # noqa: S101  (a service has nothing else)
    here = terminal.variables()
    place = os.environ.get(console.VARIABLE)
    os.environ.clear()
    os.environ.update({**direct["env"], **here})
    if place:
        os.environ[console.VARIABLE] = place
    os.chdir(direct["folder"])
    counter.running(os.getpid())
    sys.argv = list(direct["argv"])
    keeper.load()
    status = _run()
    _record(status, name)
    return status


def _run() -> int:
    from tmuxevolve.__main__ import main as command

    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _record(status: int, name: str) -> None:
    """Keep the status where `status` finds it: tmux 3.3a can lose its own record."""
    import time

    from tmuxevolve.multiplexer import Ending, pane

    pane.record_ending(Ending(status=status, ended=time.time()), name, os.environ)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
