"""start, attach, status, stop, gpus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmuxevolve import streams
from tmuxevolve.cli import completion, options, world
from tmuxevolve.errors import ExitStatus

if TYPE_CHECKING:
    from tmuxevolve.session.plan import Refusal


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.socket_option
@options.gpus_option
@options.generations_option
@click.option("--dry-run", is_flag=True, help="Print what would run, and run nothing.")
@click.option("--wait", is_flag=True, help="When nothing is free, wait until something is.")
@click.option(
    "--follow",
    is_flag=True,
    help="Open a window that goes on looking, and opens workers as GPUs become free.",
)
@click.option("--attach", "then_attach", is_flag=True, help="Attach to the session afterwards.")
@options.json_option
def start(
    session: str | None,
    file: Path | None,
    socket_name: str | None,
    gpus: str | None,
    generations: int | None,
    dry_run: bool,
    wait: bool,
    follow: bool,
    then_attach: bool,
    as_json: bool,
) -> int:
    """Open a window on every free GPU and start the evolution there.

    Run it again while it is running: it fills GPUs that have become free and leaves the rest alone.

    \b
    Examples:
      tmuxevolve start
      tmuxevolve start yolov5 --gpus 0,2 --attach
      tmuxevolve start --dry-run
      tmuxevolve start --follow    and use GPUs that become free later
    """
    from tmuxevolve import render
    from tmuxevolve.session import preparation, services, waiting
    from tmuxevolve.session import start as core
    from tmuxevolve.session.attach import attach

    found = world.session(file, session, gpus)
    mux = world.multiplexer(socket_name, found)

    def prepare() -> preparation.Preparation:
        wanted = services.wanted(found, follow=follow)
        return preparation.prepare(found, mux, os.environ, generations, look=dry_run, wanted=wanted)

    if dry_run:
        prepared = prepare()
        runs = preparation.dry_run(prepared)
        text = render.dry_run(runs, prepared.plan.refused, prepared.notes)
        click.echo(render.json(runs) if as_json else text)
        return prepared.exit_status
    prepared = waiting.until_free(prepare, _waiting) if wait else prepare()
    result = core.start(prepared, mux, os.environ)
    text = render.started(result, world.program(), mux.detach_keys, socket_name)
    click.echo(render.json(result) if as_json else text)
    if then_attach and result.exit_status == ExitStatus.OK:
        world.become(attach(mux, result.session, None, os.environ))
    return result.exit_status


@click.command()
@click.argument("gpu", required=False, shell_complete=completion.slot)
@options.session_option
@options.socket_option
def attach(gpu: str | None, session: str | None, socket_name: str | None) -> None:
    """Put this terminal into a running session.

    At GPU's window, if one is named. Ctrl-b d, in screen Ctrl-a d, leaves it running; Ctrl-c
    reaches the training.

    \b
    Examples:
      tmuxevolve attach            the session as it was left
      tmuxevolve attach 2          GPU 2's window
      tmuxevolve attach cpu0       CPU slot 0's window
    """
    from tmuxevolve.session import attach as core

    world.become(core.attach(world.multiplexer(socket_name), session, gpu, os.environ))


@click.command()
@click.argument("session", required=False, shell_complete=completion.running)
@options.file_option
@options.socket_option
@options.json_option
def status(session: str | None, file: Path | None, socket_name: str | None, as_json: bool) -> int:
    """Show every window: its GPU, its training, its last line, the results.

    And the workers of the same study on other hosts. Of a session that is named and does not run
    here, the sessions file says where its study is.

    \b
    Examples:
      tmuxevolve status
      tmuxevolve status yolov5 --json
    """
    from tmuxevolve import render, render_status
    from tmuxevolve.session import hosts

    mux = world.multiplexer(socket_name)
    found = hosts.look(
        mux, session, os.environ, lambda: world.session(file, session), insist=bool(file)
    )
    if as_json:
        click.echo(render.json(found))
    elif found:
        click.echo(render_status.status(found, world.width(), colour=world.colour()))
    else:
        click.echo("no session is running")
    return hosts.exit_status(found)


@click.command()
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
    the generations that were running are given back to the study. Workers on other hosts go on.

    \b
    Examples:
      tmuxevolve stop              the running session
      tmuxevolve stop 2 3          the workers on GPUs 2 and 3
      tmuxevolve stop --drain      after the generations that are running
      tmuxevolve stop --all --now
    """
    from tmuxevolve import render, render_hosts
    from tmuxevolve.session import hosts
    from tmuxevolve.session import stop as core

    mux = world.multiplexer(socket_name)
    windows = core.to_stop(mux, session, gpus, everything=everything)
    if drain and (now or grace is not None):
        raise click.UsageError("--drain goes with neither --now nor --grace")
    if drain:
        core.drain(mux, windows, _draining)
    override = core.StopOverride(grace, now)
    ended = core.stop(mux, windows, override)
    others = hosts.going_on(windows)
    if as_json:
        click.echo(render.json(ended))
    else:
        click.echo(render.stopped(ended) or "nothing is running")
        if others:
            click.echo(render_hosts.going_on(others))
    return max((result.exit_status for result in ended), default=ExitStatus.OK)


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.socket_option
@options.json_option
def gpus(session: str | None, file: Path | None, socket_name: str | None, as_json: bool) -> None:
    """List every GPU: who uses it, and whether a worker would get it.

    The limits are SESSION's when one is named, the defaults otherwise.
    """
    from tmuxevolve import config, render, render_status
    from tmuxevolve.session import gpu_list as core

    policy = world.session(file, session).gpus if session or file else config.GpuPolicy()
    found = core.gpu_list(world.multiplexer(socket_name), policy, os.environ)
    if as_json:
        click.echo(render.json(found))
    else:
        click.echo(render_status.gpu_list(found, world.width(), colour=world.colour()))


def _waiting(refused: tuple[Refusal, ...]) -> None:
    from tmuxevolve import render

    streams.say("waiting until something is free (Ctrl-C: no longer)")
    for line in render.refusals(refused):
        streams.say(line)


def _draining(workers: int) -> None:
    what = "1 window ends" if workers == 1 else f"{workers} windows end"
    streams.say(f"{what} after the generation running there (Ctrl-C: without waiting here)")
