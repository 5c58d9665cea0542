"""Options that several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tmuxevolve.cli import completion

F = TypeVar("F", bound=Callable[..., Any])


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a duration such as 30s."""
    from tmuxevolve.units import Duration

    try:
        return None if value is None else Duration.parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}", ctx, param) from None


def file_option(command: F) -> F:
    """Add ``--file``."""
    return _file_option(command, "-f", "--file")


def long_file_option(command: F) -> F:
    """Add ``--file`` where ``-f`` is something else."""
    return _file_option(command, "--file")


def _file_option(command: F, *names: str) -> F:
    return click.option(
        *names,
        type=click.Path(path_type=Path),
        help="The sessions file.  [default: $TMUXEVOLVE_CONFIG, ./sessions.yaml,"
        " ~/.config/tmuxevolve/sessions.yaml]",
    )(command)


def socket_option(command: F) -> F:
    """Add ``--socket-name``."""
    return click.option(
        "-L",
        "--socket-name",
        envvar="TMUXEVOLVE_SOCKET_NAME",
        metavar="NAME",
        help="The tmux server, as in tmux -L.  [default: yours]",
    )(command)


def results_option(command: F) -> F:
    """Add ``--results``."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="A results directory, instead of a session's.",
    )(command)


def output_option(default: str, what: str) -> Callable[[F], F]:
    """Return what adds ``--output``."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        default=default,
        show_default=True,
        metavar="FILE",
        help=what,
    )


def gpus_option(command: F) -> F:
    """Add ``--gpus``."""
    return click.option("--gpus", metavar="LIST", help="GPUs to use: 0,2 or free, all, none.")(
        command
    )


def generations_option(command: F) -> F:
    """Add ``--generations``."""
    return click.option(
        "--generations",
        type=click.IntRange(min=1),
        metavar="N",
        help="The budget: generations of the whole study, also of one that is there already.",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def session_option(command: F) -> F:
    """Add ``--session``."""
    return click.option(
        "-s",
        "--session",
        metavar="NAME",
        shell_complete=completion.running,
        help="The session, when several are running.",
    )(command)
