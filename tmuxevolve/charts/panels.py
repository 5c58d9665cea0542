"""The parts of the picture, each drawn by matplotlib into what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log10
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tmuxevolve.charts import series
from tmuxevolve.session.results import Point, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from tmuxevolve.charts.importance import Importance
    from tmuxevolve.charts.series import Sample

COLUMNS = 6
_COLOURS = "viridis"
_BEST = "crimson"
_NAME_CHARS = 24
# In files of vectors so many points are a picture in the picture, or they would be huge.
_VECTORS = 2000


def fitness(figure: SubFigure, run: Run) -> None:
    """Draw fitness over time, a colour for each window, and the best so far."""
    axes, where = figure.subplots(), series.axis(run)
    colours = _colours(series.windows(run))
    axes.scatter(
        where.values,
        [point.fitness for point in run.points],
        s=_size(len(run.points)),
        c=[colours[series.window(point)] for point in run.points],
        rasterized=len(run.points) > _VECTORS,
    )
    for name, colour in colours.items():
        axes.scatter([], [], color=[colour], label=_short(name))
    line = series.running_best(run, where)
    axes.step(line.places, line.fitness, where="post", color="black", lw=1.2, label="best so far")
    best = run.ranked[0]
    _star(axes, where.values[run.points.index(best)], best.fitness)
    axes.set(xlabel=where.label, ylabel="fitness", title=_title(run))
    axes.margins(x=0.01)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)


def hyps(figure: SubFigure, run: Run, drawn: Sample) -> None:
    """Draw fitness over each hyp, a panel for each, early generations dark and late ones light."""
    names = tuple(run.ranked[0].hyp)
    grid = figure.subplots(ceil(len(names) / COLUMNS), COLUMNS, squeeze=False, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        _hyp(axes, run, drawn, name)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("fitness", fontsize=8)
    text = "Fitness over each hyp (dark: early, light: late; dashed: the base; star: the best)"
    figure.suptitle(_noted(text, drawn), fontsize=12)


def parallel(figure: SubFigure, run: Run, drawn: Sample) -> None:
    """Draw a line through the varied hyps of each generation, coloured by fitness."""
    axes, names = figure.subplots(), run.varied
    if not names:
        _say(axes, "no hyp varies")
        return
    scales = [_Scale(drawn.points, name) for name in names]
    lines = [[(i, s.of(point)) for i, s in enumerate(scales)] for point in drawn.points[::-1]]
    values = [point.fitness for point in drawn.points[::-1]]
    drawing = LineCollection(
        lines,
        array=values,
        cmap=_COLOURS if run.layout.direction == "maximize" else f"{_COLOURS}_r",
        clim=series.limits(drawn),
        lw=0.8 if len(lines) < 200 else 0.4,
        alpha=0.6,
        rasterized=len(lines) > _VECTORS // 10,
    )
    axes.add_collection(drawing)
    axes.plot(range(len(names)), [s.of(run.ranked[0]) for s in scales], color=_BEST, lw=2)
    axes.set_xticks(range(len(names)), [s.label for s in scales], rotation=45, ha="right")
    axes.tick_params(axis="x", labelsize=8)
    axes.set(yticks=[0, 1], yticklabels=["min", "max"], xlim=(-0.1, len(names) - 0.9))
    axes.grid(axis="x", color="0.8")
    axes.set_title(_noted("Hyps that vary, by fitness (thick: the best)", drawn))
    figure.colorbar(drawing, ax=axes, label="fitness", pad=0.01, aspect=30)


def importance(figure: SubFigure, found: Importance) -> None:
    """Draw how much each hyp decides whether a generation is among the best."""
    axes = figure.subplots()
    axes.set_title("What makes the best tenth (PED-ANOVA)")
    if found.missing:
        _say(axes, found.missing)
        return
    names = [*found.shares][::-1]
    axes.barh([_short(name) for name in names], [found.shares[name] for name in names])
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="share of the importance", ylim=(-0.6, len(names) - 0.4))


def _colours(names: Sequence[str]) -> Mapping[str, Sequence[float]]:
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
    return {name: colours(number % colours.N) for number, name in enumerate(names)}


class _Scale:
    """Where a hyp's values lie between its smallest and its largest."""

    def __init__(self, points: tuple[Point, ...], name: str) -> None:
        values = [point.hyp[name] for point in points]
        self._name, self._log = name, series.is_wide(values)
        low, high = min(values), max(values)
        self._low, self._span = self._place(low), self._place(high) - self._place(low)
        self.label = f"{_short(name)}\n{low:.3g} to {high:.3g}"

    def of(self, point: Point) -> float:
        return (self._place(point.hyp[self._name]) - self._low) / (self._span or 1.0)

    def _place(self, value: float) -> float:
        return log10(value) if self._log else value


def _hyp(axes: Axes, run: Run, drawn: Sample, name: str) -> None:
    best, values = run.ranked[0], [point.hyp[name] for point in drawn.points]
    axes.scatter(
        values,
        [point.fitness for point in drawn.points],
        c=[point.number for point in drawn.points],
        s=_size(len(values)) / 2,
        cmap=_COLOURS,
        rasterized=len(values) * len(best.hyp) > _VECTORS,
    )
    axes.axvline(run.base[name], color="0.5", ls="--", lw=1, zorder=0)
    _star(axes, best.hyp[name], best.fitness)
    if min(values) == max(values):
        axes.set_xticks(values[:1])
    elif series.is_wide(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_title(f"{_short(name)} = {best.hyp[name]:.4g}", fontsize=9)
    axes.tick_params(labelsize=8)


def _say(axes: Axes, text: str) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, fontsize=9)


def _star(axes: Axes, x: float, y: float) -> None:
    axes.scatter(x, y, marker="*", s=130, color=_BEST, edgecolors="white", lw=0.6, zorder=4)


def _size(points: int) -> float:
    return 18 if points < 500 else 8 if points < 5000 else 2


def _title(run: Run) -> str:
    diverged = len(run.points) - len(run.ranked)
    noted = f" ({diverged} diverged and are not drawn)" if diverged else ""
    best = run.ranked[0]
    return f"Best fitness {best.fitness:.5g} of {len(run.points)} generations{noted}"


def _noted(title: str, drawn: Sample) -> str:
    return f"{title}\n{drawn.note}" if drawn.note else title


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"
