"""The command line: parse, one call into the program, one call to render. Decides nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tmuxevolve import __version__, completion, options, streams
from tmuxevolve.errors import ExitStatus, NotRunningError, TmuxEvolveError

if TYPE_CHECKING:
    from tmuxevolve.config import Session
    from tmuxevolve.multiplexer import Attach, Multiplexer

_STATUS_LINE = 1


class _Group(click.Group):
    """Maps every outcome to its exit status, in one place."""

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


@main.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.socket_option
@click.option("--gpus", metavar="LIST", help="GPUs to use: 0,2 or free, all, none.")
@click.option(
    "--generations",
    type=click.IntRange(min=1),
    metavar="N",
    help="The budget: generations of the whole study, also of one that is there already.",
)
@click.option("--dry-run", is_flag=True, help="Print what would run, and run nothing.")
@click.option("--attach", "then_attach", is_flag=True, help="Attach to the session afterwards.")
@options.json_option
def start(
    session: str | None,
    file: Path | None,
    socket_name: str | None,
    gpus: str | None,
    generations: int | None,
    dry_run: bool,
    then_attach: bool,
    as_json: bool,
) -> int:
    """Open a window on every free GPU and start the session's evolution there.

    Run it again while it is running: it fills GPUs that have become free and leaves the rest alone.

    \b
    Examples:
      tmuxevolve start
      tmuxevolve start yolov5 --gpus 0,2 --attach
      tmuxevolve start --dry-run
    """
    from tmuxevolve import render
    from tmuxevolve.session import start as core
    from tmuxevolve.session.attach import attach

    mux = _multiplexer(socket_name)
    prepared = core.prepare(
        _session(file, session, gpus), mux, os.environ, generations, look=dry_run
    )
    if dry_run:
        runs = core.dry_run(prepared)
        text = render.dry_run(runs, prepared.plan.refused, prepared.notes)
        click.echo(render.json(runs) if as_json else text)
        return prepared.exit_status
    result = core.start(prepared, mux, os.environ)
    text = render.started(result, _program(), socket_name)
    click.echo(render.json(result) if as_json else text)
    if then_attach and result.exit_status == ExitStatus.OK:
        _become(attach(mux, result.session, None, os.environ))
    return result.exit_status


@main.command()
@click.argument("gpu", required=False, shell_complete=completion.slot)
@options.session_option
@options.socket_option
def attach(gpu: str | None, session: str | None, socket_name: str | None) -> None:
    """Put this terminal into a running session, at GPU's window if one is named.

    Ctrl-b d leaves it running; Ctrl-c reaches the training.

    \b
    Examples:
      tmuxevolve attach            the session as it was left
      tmuxevolve attach 2          GPU 2's window
      tmuxevolve attach cpu0       CPU slot 0's window
    """
    from tmuxevolve.session import attach as core

    _become(core.attach(_multiplexer(socket_name), session, gpu, os.environ))


@main.command()
@click.argument("session", required=False, shell_complete=completion.running)
@options.socket_option
@options.json_option
def status(session: str | None, socket_name: str | None, as_json: bool) -> None:
    """Show every window: its GPU, its training, its last line; and the results so far.

    \b
    Examples:
      tmuxevolve status
      tmuxevolve status yolov5 --json
    """
    from tmuxevolve import render
    from tmuxevolve.session import status as core
    from tmuxevolve.session.attach import select

    mux = _multiplexer(socket_name)
    windows = mux.windows()
    chosen = select(windows, session, []) if session or windows else []
    found = core.status(mux, chosen, os.environ)
    if as_json:
        click.echo(render.json(found))
    elif found:
        click.echo(render.status(found, _width(), colour=_colour()))
    else:
        click.echo("no session is running")


@main.command()
@click.argument("gpus", nargs=-1, shell_complete=completion.slot, metavar="[GPU]...")
@options.session_option
@click.option("--all", "everything", is_flag=True, help="End every session.")
@click.option(
    "--grace",
    callback=options.seconds,
    metavar="TIME",
    help="How long trainers may take, e.g. 30s.",
)
@click.option("--now", is_flag=True, help="Kill at once (SIGKILL).")
@click.option("--drain", is_flag=True, help="Let each worker finish its generation, and wait.")
@options.socket_option
@options.json_option
def stop(
    gpus: tuple[str, ...],
    session: str | None,
    everything: bool,
    grace: float | None,
    now: bool,
    drain: bool,
    socket_name: str | None,
    as_json: bool,
) -> int:
    """End what start started, all of it, and nothing else.

    Each trainer gets SIGINT and the grace period (30s, or what the session says), then its whole
    process tree SIGTERM, then SIGKILL. All windows are ended at the same time. In cooperative mode
    the generations that were running are given back to the study.

    \b
    Examples:
      tmuxevolve stop              the running session
      tmuxevolve stop 2 3          the workers on GPUs 2 and 3
      tmuxevolve stop --drain      after the generations that are running
      tmuxevolve stop --all --now
    """
    from tmuxevolve import render
    from tmuxevolve.session import stop as core

    mux = _multiplexer(socket_name)
    windows = core.to_stop(mux.windows(), session, gpus, everything=everything)
    if drain and (now or grace is not None):
        raise click.UsageError("--drain goes with neither --now nor --grace")
    if drain:
        core.drain(mux, windows, _draining)
    override = core.StopOverride(grace, now)
    ended = core.stop(mux, windows, override)
    if as_json:
        click.echo(render.json(ended))
    else:
        click.echo(render.stopped(ended) or "nothing is running")
    return max((result.exit_status for result in ended), default=ExitStatus.OK)


@main.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.socket_option
@options.json_option
def gpus(session: str | None, file: Path | None, socket_name: str | None, as_json: bool) -> None:
    """List every GPU: who uses it, and whether a worker would get it.

    The limits are SESSION's when one is named, the defaults otherwise.
    """
    from tmuxevolve import config, render
    from tmuxevolve.session import status as core

    policy = _session(file, session, None).gpus if session or file else config.GpuPolicy()
    found = core.gpu_list(_multiplexer(socket_name), policy, os.environ)
    click.echo(
        render.json(found) if as_json else render.gpu_list(found, _width(), colour=_colour())
    )


def _draining(workers: int) -> None:
    what = "1 window ends" if workers == 1 else f"{workers} windows end"
    streams.say(f"{what} after the generation running there (Ctrl-C: without waiting here)")


def _session(file: Path | None, name: str | None, use: str | None) -> Session:
    from tmuxevolve import config, configfile

    path = configfile.find_file(file, os.environ, Path.cwd())
    session = configfile.load(path).session(name, os.environ)
    return config.with_use(session, use) if use else session


def _multiplexer(socket_name: str | None) -> Multiplexer:
    from tmuxevolve.multiplexer.tmux import Tmux

    if not sys.stdout.isatty():
        return Tmux(socket_name)
    import shutil

    terminal = shutil.get_terminal_size()
    return Tmux(socket_name, (terminal.columns, terminal.lines - _STATUS_LINE))


def _become(attached: Attach) -> NoReturn:
    if not sys.stdin.isatty():
        raise NotRunningError("attach needs a terminal")
    environ = {k: v for k, v in os.environ.items() if k not in attached.unset}
    sys.stdout.flush()
    os.execvpe(attached.argv[0], attached.argv, environ)  # noqa: S606


def _program() -> str:
    """Return what to type to run this program again: its name, if that finds it."""
    import shutil

    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return f"{sys.executable} -m {__package__}"
    return name if shutil.which(name) == str(Path(sys.argv[0]).absolute()) else sys.argv[0]


def _width() -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
