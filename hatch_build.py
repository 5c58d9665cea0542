"""Puts man pages into the wheel: share/man/man1 beside the program, where `man` looks.

They are made when the wheel is built, out of the commands themselves: so they are never older
than these, and whatever click is installed writes them.
"""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from click_man.core import write_man_pages
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MAN = "share/man/man1"


class ManPages(BuildHookInterface):
    """Writes one page for tmuxevolve and one for each command."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages, and name them as files of the wheel."""
        self.folder = TemporaryDirectory()
        sys.path.insert(0, self.root)
        from tmuxevolve import __version__
        from tmuxevolve.cli import main

        name, folder = self.metadata.name, self.folder.name
        write_man_pages(name, whole(main), version=__version__, target_dir=folder)
        for page in Path(self.folder.name).iterdir():
            build_data["shared_data"][str(page)] = f"{MAN}/{page.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        self.folder.cleanup()


def whole(group: click.Group) -> click.Group:
    """Return a group with all commands loaded: click-man looks at no others."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    for command in (group, *found.values()):
        command.short_help = command.get_short_help_str(200).rstrip(".")
        command.help = roff(command.help)
    return click.Group(
        commands=found, params=group.params, help=group.help, short_help=group.short_help
    )


def roff(text: str) -> str:
    r"""Return a help text for a man page: what stands behind a \b keeps its lines."""
    return "\n\n".join(map(paragraph, cleandoc(text).replace("\\", r"\e").split("\n\n")))


def paragraph(text: str) -> str:
    """Return one paragraph; no line of a text is a request to roff."""
    lines = [line if line[:1] not in {".", "'"} else rf"\&{line}" for line in text.splitlines()]
    return "\n".join([".nf", *lines[1:], ".fi"]) if lines[0] == "\b" else "\n".join(lines)
