"""notify."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tmuxevolve.cli import completion, options, world


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.json_option
def notify(session: str | None, file: Path | None, as_json: bool) -> int:
    """Send a test notification, to all that a session's notify names.

    \b
    Examples:
      tmuxevolve notify
      tmuxevolve notify yolov5
    """
    from tmuxevolve import render
    from tmuxevolve.session import notify as core

    result = core.try_out(world.session(file, session), os.environ)
    click.echo(render.json(result) if as_json else render.tried_out(result))
    return result.exit_status
