"""What runs in windows that no worker runs in: follow in `watch`, job where one is followed."""

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
    mux = world.multiplexer(socket_name, found)
    follower = Follower(found, mux, os.environ, _say, generations=generations)
    _say(f"{session}: looking every {INTERVAL:g} s for free GPUs")
    while not ended.is_set() and follower.look():
        ended.wait(INTERVAL)


@click.command(hidden=True)
@click.argument("number")
@click.option("--output", type=click.Path(path_type=Path), help="Where jobs' own output is.")
@options.socket_option
def job(number: str, output: Path | None, socket_name: str | None) -> int:
    """Show what a Slurm job prints, until it is over.

    `start` opens a window with it for each job. To close that ends nothing.
    """
    del socket_name
    from tmuxevolve.session.following import Following

    return Following(number, output).until_over()


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%a %H:%M:%S')}  {text}")
