"""Shell completion of session names and GPUs; says nothing rather than fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from tmuxevolve.errors import TmuxEvolveError

if TYPE_CHECKING:
    from tmuxevolve.multiplexer import Window


def session(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from tmuxevolve import configfile

    try:
        path = configfile.find_file(ctx.params.get("file"), os.environ, Path.cwd())
        names = configfile.load(path).sessions
    except TmuxEvolveError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def running(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = dict.fromkeys(window.facts.session for window in _windows(ctx))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def slot(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    wanted = ctx.params.get("session")
    return [
        CompletionItem(window.facts.slot, help=f"{window.facts.session}: {window.facts.device}")
        for window in _windows(ctx)
        if wanted in {None, window.facts.session} and window.facts.slot.startswith(incomplete)
    ]


def _windows(ctx: click.Context) -> tuple[Window, ...]:
    from tmuxevolve.multiplexer import choice

    try:
        return choice.choose(None, ctx.params.get("socket_name")).all_windows()
    except TmuxEvolveError:
        return ()
