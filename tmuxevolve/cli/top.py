"""top."""

from __future__ import annotations

import os

import click

from tmuxevolve.cli import completion, options, world


@click.command()
@click.argument("session", required=False, shell_complete=completion.running)
@click.option(
    "-n",
    "--interval",
    type=click.FloatRange(min=0.2, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@options.socket_option
def top(session: str | None, interval: float, socket_name: str | None) -> int:
    """Watch a running session: GPUs, epochs, fitness, budget; attach, stop and restart from there.

    Everything goes on running when it is left (q). Its keys are shown with ?.

    \b
    Examples:
      tmuxevolve top
      tmuxevolve top yolov5 -n 5
    """
    from tmuxevolve import top as view
    from tmuxevolve.session import overview
    from tmuxevolve.session.hand import Hand

    mux = world.multiplexer(socket_name)
    environ = dict(os.environ)
    name = overview.choose(mux, session)
    view.check(environ.get("TERM", ""))
    return view.run(overview.Watcher(mux, name, environ), Hand(mux, environ), interval)
