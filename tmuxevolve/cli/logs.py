"""logs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tmuxevolve import streams
from tmuxevolve.cli import completion, options, world


@click.command()
@click.argument("gpu", required=False, shell_complete=completion.slot)
@options.session_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is being printed.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="How many of each window's last lines.",
)
@click.option("--raw", is_flag=True, help="One window's output as it was written.")
@options.results_option
@options.long_file_option
@options.socket_option
def logs(
    gpu: str | None,
    session: str | None,
    follow: bool,
    count: int,
    raw: bool,
    results: Path | None,
    file: Path | None,
    socket_name: str | None,
) -> None:
    """Show what was printed in the windows, also after their end.

    Of all windows by time, or of GPU's alone; of a progress bar there is the last state. The
    session is the running one, otherwise the sessions file's.

    \b
    Examples:
      tmuxevolve logs              the last 100 lines of every window
      tmuxevolve logs 2 -f         GPU 2's, and what follows
      tmuxevolve logs 2 --raw -n 9999999 | less -R
      tmuxevolve logs --results ~/runs/search
    """
    from tmuxevolve import render
    from tmuxevolve.session import logs as core

    if results and session:
        raise click.UsageError("--results goes without --session")
    where = results or core.locate(
        world.multiplexer(socket_name), session, lambda: world.session(file, session).results
    )
    pause = streams.pause if follow else None
    if raw:
        for data in core.raw(where, gpu, count, pause):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    for batch in core.lines(where, gpu, count, pause):
        if batch.lines:
            click.echo(render.log(batch, colour=world.colour()))
