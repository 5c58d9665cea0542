"""best, plot, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmuxevolve.charts import PARTS
from tmuxevolve.cli import completion, options, world

if TYPE_CHECKING:
    from tmuxevolve.config import Session
    from tmuxevolve.session.results import Run


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.results_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="The N best ones, side by side.  [default: 1]",
)
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the hyps as a YOLOv5 hyp file.")
@options.json_option
def best(
    session: str | None,
    file: Path | None,
    results: Path | None,
    top: int,
    as_yaml: bool,
    as_json: bool,
) -> None:
    """Show the best generation, its hyps beside the base's, and how to train with them.

    It works while a session runs and long after: only its results directory is read.

    \b
    Examples:
      tmuxevolve best
      tmuxevolve best yolov5 --top 5
      tmuxevolve best --yaml > hyp.best.yaml
      tmuxevolve best --results ~/runs/search --json
    """
    from tmuxevolve import render, render_results
    from tmuxevolve.session import best as core

    if as_yaml and (as_json or top > 1):
        raise click.UsageError("--yaml goes with neither --json nor --top")
    run, found = _run(session, file, results)
    result = core.best(run, found, top)
    if as_yaml:
        click.echo(core.as_yaml(result), nl=False)
    elif as_json:
        click.echo(render.json(result))
    else:
        click.echo(render_results.best(result, world.program(), world.width()))


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.results_option
@options.output_option("evolve.png", "What to write: .png, .svg or .pdf.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    help="Only this part; may be repeated.",
)
def plot(
    session: str | None,
    file: Path | None,
    results: Path | None,
    output: Path,
    parts: tuple[str, ...],
) -> None:
    """Draw the run into one picture: fitness, every hyp, which hyps matter.

    The parts are one below the other. fitness: fitness over time, by window, with the best so far.
    hyps: a panel for each hyp with the fitness over it. parallel: a line for each generation
    through the hyps that vary. importance: how much each hyp decides whether a generation is one of
    the best tenth (needs tmuxevolve[optuna] and 30 generations).

    \b
    Examples:
      tmuxevolve plot
      tmuxevolve plot yolov5 -o search.pdf
      tmuxevolve plot --results ~/runs/search --part fitness --part hyps
    """
    from tmuxevolve.charts import picture

    picture.check(output)
    run, _ = _run(session, file, results)
    picture.save(run, output, parts or PARTS)
    click.echo(f"{output}: {len(run.points)} generations")


@click.command()
@click.argument("session", required=False, shell_complete=completion.session)
@options.file_option
@options.results_option
@options.output_option("report.html", "What to write.")
def report(session: str | None, file: Path | None, results: Path | None, output: Path) -> None:
    """Write the run as one page for a browser, which needs no network.

    It shows what plot draws; a click on a generation shows its hyps beside the base's. All is in
    the one file: copy it wherever you like.

    \b
    Examples:
      tmuxevolve report
      tmuxevolve report yolov5 -o search.html
      tmuxevolve report --results ~/runs/search
    """
    from tmuxevolve.charts import page

    page.check()
    run, found = _run(session, file, results)
    page.save(run, found.name if found else run.results.name, output)
    click.echo(f"{output}: {len(run.points)} generations")


def _run(
    session: str | None, file: Path | None, results: Path | None
) -> tuple[Run, Session | None]:
    """Return the run in a session's results directory, or in one that was named itself."""
    from tmuxevolve.session.results import read

    if results and (session or file):
        raise click.UsageError("--results goes with neither SESSION nor --file")
    if results:
        return read(results.expanduser().absolute()), None
    found = world.session(file, session)
    return read(found.results), found
