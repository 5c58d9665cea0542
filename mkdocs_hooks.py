"""Writes the page of all commands out of the commands themselves, when the site is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from tmuxevolve.cli import COMMANDS, main

NAME = "tmuxevolve"
# What click uses of a terminal that is wide enough.
WIDTH = 98
PLACE = "<!-- what every command says with --help -->"


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Put the commands where a page has a place for them."""
    return markdown.replace(PLACE, "\n".join(commands())) if PLACE in markdown else markdown


def commands() -> Iterator[str]:
    """Give all help texts as Markdown, in the sections of the table of commands."""
    # As in a wide terminal, whatever the one is in which the site is built.
    context = click.Context(main, info_name=NAME, terminal_width=WIDTH, **main.context_settings)
    yield from page(context)
    for section, names in COMMANDS.items():
        yield f"## {section}\n"
        for command in filter(None, (main.get_command(context, name) for name in names)):
            yield f"### {NAME} {command.name} {{ #{command.name} }}\n"
            yield from page(click.Context(command, parent=context, info_name=command.name))


def page(context: click.Context) -> Iterator[str]:
    """Give one help text, as a terminal shows it."""
    yield f"```text\n{context.get_help()}\n```\n"
