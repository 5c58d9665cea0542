"""The picture of a run: its parts one below the other, as PNG, SVG or PDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tmuxevolve.charts import require
from tmuxevolve.errors import UsageError
from tmuxevolve.session.results import Run

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

_SUFFIXES = (".png", ".svg", ".pdf")
_WIDTH = 15.0
_DOTS = 100
# So many points in each panel, and so many lines, can still be told apart.
_POINTS, _LINES = 5000, 1000


class _Part(msgspec.Struct, frozen=True):
    """A part's height in inches, and what draws it."""

    height: float
    draw: Callable[[SubFigure], None]


def check(path: Path) -> None:
    """Raise UsageError for a file of another kind, MissingError without matplotlib."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(_SUFFIXES)}")
    require("plot", "matplotlib")


def save(run: Run, path: Path, parts: Sequence[str]) -> None:
    """Draw these parts of a run into a file. Raises NothingFoundError, OSError."""
    import warnings

    import matplotlib as mpl
    from matplotlib.figure import Figure

    run.check()
    # A $ in a name is no formula.
    plain: Any = {"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(plain), warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes.
        warnings.simplefilter("ignore", UserWarning)
        chosen = [part for part in _parts(run) if part[0] in parts]
        heights = [part.height for _, part in chosen]
        figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DOTS, layout="constrained")
        figures = figure.subfigures(len(chosen), 1, height_ratios=heights, squeeze=False)
        for (_, part), place in zip(chosen, figures.flat, strict=True):
            part.draw(place)
        figure.savefig(path)


def _parts(run: Run) -> Sequence[tuple[str, _Part]]:
    from tmuxevolve.charts import panels, series
    from tmuxevolve.charts.importance import importance

    points, lines = series.sample(run, _POINTS), series.sample(run, _LINES)
    rows = ceil(len(run.points[0].hyp) / panels.COLUMNS)
    return (
        ("fitness", _Part(4.0, lambda figure: panels.fitness(figure, run))),
        ("hyps", _Part(0.8 + 2.0 * rows, lambda figure: panels.hyps(figure, run, points))),
        ("parallel", _Part(5.5, lambda figure: panels.parallel(figure, run, lines))),
        (
            "importance",
            _Part(
                1.4 + 0.17 * len(run.varied),
                lambda figure: panels.importance(figure, importance(run)),
            ),
        ),
    )
