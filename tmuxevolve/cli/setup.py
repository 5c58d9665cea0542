"""init, check, schema."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tmuxevolve.cli import completion, options, world


@click.command()
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default="sessions.yaml",
    show_default=True,
    help="The file to write.",
)
@options.json_option
def init(file: Path, as_json: bool) -> None:
    """Write a sessions.yaml for what is in this folder.

    It looks for train.py or Ultralytics, the environment with PyTorch, your data file, weights and
    GPUs. What it cannot find gets a default, and a comment that says what to change. A file that
    is there is never replaced.

    \b
    Examples:
      tmuxevolve init
      tmuxevolve init -f ~/searches/mine.yaml
    """
    from tmuxevolve import render, render_setup
    from tmuxevolve.session import init as core

    here = Path.cwd()
    done = core.init(here / file, here, os.environ)
    click.echo(render.json(done) if as_json else render_setup.written(done, world.program()))


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.socket_option
@options.json_option
def check(session: str | None, file: Path | None, socket_name: str | None, as_json: bool) -> int:
    """Say what would keep a session from running, and how to mend it.

    It looks at tmux, the driver, the GPUs, the trainer with its own Python and PyTorch, the data
    and the results directory. Nothing is started.

    \b
    Examples:
      tmuxevolve check             the default session of ./sessions.yaml
      tmuxevolve check yolov5 --json
    """
    from tmuxevolve import render, render_setup
    from tmuxevolve.session import check as core

    chosen = world.session(file, session)
    found = core.check(chosen, world.multiplexer(socket_name, chosen), os.environ)
    text = render_setup.checkup(found, colour=world.colour())
    click.echo(render.json(found) if as_json else text)
    return found.exit_status


@click.command()
def schema() -> None:
    """Print the JSON Schema of sessions.yaml, for editors.

    The same is in a file beside the program, which init names in the first line that it writes.

    \b
    Examples:
      tmuxevolve schema > sessions.schema.json
    """
    from tmuxevolve import render
    from tmuxevolve import schema as core

    click.echo(render.json(core.sessions_file()))
