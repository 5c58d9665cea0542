"""The command line: parse, one call into the program, one call to render. Decides nothing.

A command's module is loaded when that command is run: `--help` shows the table below.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from tmuxevolve import __version__, streams
from tmuxevolve.errors import ExitStatus, TmuxEvolveError

# What each command is for, in the words of its own help, and the module that has it. What has no
# title is not for people.
COMMANDS = {
    "Run": {
        "start": ("sessions", "Open a window on every free GPU and start the evolution there."),
        "attach": ("sessions", "Put this terminal into a running session."),
        "stop": ("sessions", "End what start started, all of it, and nothing else."),
    },
    "Look": {
        "status": (
            "sessions",
            "Show every window: its GPU, its training, its last line, the results.",
        ),
        "top": (
            "top",
            "Watch a running session: GPUs, epochs, fitness, budget; attach, stop and restart from"
            " there.",
        ),
        "logs": ("logs", "Show what was printed in the windows, also after their end."),
        "gpus": ("sessions", "List every GPU: who uses it, and whether a worker would get it."),
    },
    "Results": {
        "best": (
            "results",
            "Show the best generation, its hyps beside the base's, and how to train with them.",
        ),
        "plot": (
            "results",
            "Draw the run into one picture: fitness, every hyp, which hyps matter.",
        ),
        "report": ("results", "Write the run as one page for a browser, which needs no network."),
    },
    "Set up": {
        "init": ("setup", "Write a sessions.yaml for what is in this folder."),
        "check": ("setup", "Say what would keep a session from running, and how to mend it."),
        "schema": ("setup", "Print the JSON Schema of sessions.yaml, for editors."),
        "notify": ("notify", "Send a test notification, to all that a session's notify names."),
    },
    "": {
        "follow": ("watching", "Open workers as GPUs become free, until the budget is spent."),
        "job": ("watching", "Show what a Slurm job prints, until it is over."),
    },
}


class _Group(click.Group):
    """Loads commands when they are run, and maps every outcome to its exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table."""
        del ctx
        return [name for title, section in COMMANDS.items() if title for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command."""
        del ctx
        found = next((s[cmd_name] for s in COMMANDS.values() if cmd_name in s), None)
        if found is None:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{found[0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, for which no command is loaded."""
        del ctx
        for section, commands in COMMANDS.items():
            if section:
                with formatter.section(section):
                    formatter.write_dl([(name, what) for name, (_, what) in commands.items()])

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command and exit."""
        kwargs["standalone_mode"] = False
        sys.exit(self._run(*args, **kwargs))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            status = super().main(*args, **kwargs)
            sys.stdout.flush()
        except click.ClickException as error:
            streams.say(_usage(error))
            return error.exit_code
        except TmuxEvolveError as error:
            streams.say(str(error))
            return error.exit_status
        except OSError as error:
            streams.discard_output()
            if not isinstance(error, BrokenPipeError):
                streams.say(_refused(error))
            return ExitStatus.FAILURE
        return int(status or ExitStatus.OK)


def _usage(error: click.ClickException) -> str:
    """Return click's message as one line that says where to read on."""
    text = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f" (see {context.command_path} --help)" if context else ""
    return f"{text[:1].lower()}{text[1:]}{where}"


def _refused(error: OSError) -> str:
    """Say what the system refused: a full disk, a directory that is gone."""
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


@click.group(
    cls=_Group,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="tmuxevolve", message="%(prog)s %(version)s")
def main() -> None:
    """Hyperparameter evolution on every free GPU of this machine, each in a tmux window.

    \b
    Examples:
      tmuxevolve start             the default session of ./sessions.yaml
      tmuxevolve status            how far it is
      tmuxevolve attach 2          GPU 2's window; Ctrl-b d leaves it running
      tmuxevolve stop 2            end GPU 2's worker
      tmuxevolve stop              end the session, and nothing else
    """
