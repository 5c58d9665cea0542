"""follow: what runs in a session's watch window."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Event

import click

from tmuxevolve.cli import options, world


@click.command(hidden=True)
@click.argument("session")
@options.file_option
@options.socket_option
@options.gpus_option
@options.generations_option
def follow(
    session: str,
    file: Path | None,
    socket_name: str | None,
    gpus: str | None,
    generations: int | None,
) -> None:
    """Open workers as GPUs become free, until the budget is spent.

    `start --follow` opens a window that runs this.
    """
    from tmuxevolve.session.follow import Follower
    from tmuxevolve.session.waiting import INTERVAL

    ended = Event()
    # Between two looks, and not in the middle of opening a window.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    found = world.session(file, session, gpus)
    mux = world.multiplexer(socket_name)
    follower = Follower(found, mux, os.environ, _say, generations=generations)
    _say(f"{session}: looking every {INTERVAL:g} s for free GPUs")
    while not ended.is_set() and follower.look():
        ended.wait(INTERVAL)


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%a %H:%M:%S')}  {text}")
