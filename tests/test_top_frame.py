"""What the live view draws, without a terminal: any session on any screen."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.style import Style
from rich.text import Text

from tmuxevolve.multiplexer import Facts, State, Window
from tmuxevolve.session.curve import Point, thin
from tmuxevolve.session.overview import Overview, Row
from tmuxevolve.session.status import SessionStatus, WindowStatus
from tmuxevolve.study.record import Part
from tmuxevolve.top import frame
from tmuxevolve.top.bars import bar
from tmuxevolve.top.canvas import changed
from tmuxevolve.top.plot import plot
from tmuxevolve.trainers.progress import Bar, Progress

GIB = 1 << 30


def row(number: int, *, on_gpu: bool = True, mode: str = "cooperative", **keys: Any) -> Row:
    name = f"gpu{number}" if on_gpu else f"cpu{number}"
    state = keys.pop("state", State.RUNNING)
    facts = Facts(
        worker=f"{name}-0123456789abcdef",
        session="demo",
        slot=str(number),
        uuid=f"GPU-{number}" if on_gpu else None,
        trainer="yolov5",
        mode=mode,
        command="python train.py",
        results="/runs/demo",
        started=0.0,
        stop_signal="SIGINT",
        stop_grace=30.0,
    )
    window = Window(
        index=number,
        name=name,
        pane=f"%{number}",
        pid=1000 + number,
        dead=False,
        dead_status=None,
        dead_signal=None,
        facts=facts,
        ending=None,
    )
    status = {
        "window": name,
        "index": number,
        "slot": facts.slot,
        "device": "NVIDIA A100-SXM4-80GB",
        "uuid": facts.uuid,
        "pid": 2000 + number,
        "state": state,
        "exit_status": None,
        "reason": None,
        "started": 0.0,
        "elapsed": 61.0,
        "progress": "3/19  2.1G  0.0451  13  640:  38%|███▊      | 18/48 [00:10<00:20]",
        "generation": 12,
        "failure": None,
        "gpu_memory_used": 23 * GIB if on_gpu else None,
        "gpu_memory_total": 80 * GIB if on_gpu else None,
        "gpu_utilization": 97 if on_gpu else None,
        "gpu_temperature": 54 if on_gpu else None,
        "gpu_power": 212.4 if on_gpu else None,
        "gpu_power_limit": 400.0 if on_gpu else None,
    }
    status |= {name: keys.pop(name) for name in [*keys] if name in status}
    return Row(
        window=window,
        status=WindowStatus(**status),
        **{
            "stopped": False,
            "progress": Progress(4, 20, Bar("", 0.375, 10.0, 20.0)),
            "eta": 750.0,
            "part": Part(0.2311, 0.23937, 2, 1),
            **keys,
        },
    )


def overview(rows: list[Row], values: list[float] = (), **keys: Any) -> Overview:  # type: ignore[assignment]
    session = {
        "session": "demo",
        "trainer": "yolov5",
        "command": "python train.py",
        "results": "/home/me/runs/demo",
        "mode": "cooperative",
        "generations": len(values),
        "budget": 300,
        "waiting": 0,
        "failed": 2,
        "skipped": 1,
        "best_fitness": max(values, default=None),
        "problem": None,
        "memory": None,
        "windows": tuple(row.status for row in rows),
    }
    session |= {name: keys.pop(name) for name in [*keys] if name in session}
    points = thin(values, float)
    more = {"points": points, "each": 35.0, "eta": 4000.0, "at_work": len(rows), **keys}
    return Overview(session=SessionStatus(**session), rows=tuple(rows), **more)


def screen(seen: Overview, width: int, height: int, cursor: int = 0, **keys: Any) -> list[str]:
    place = frame.at(cursor, frame.Place(), seen, height)
    return [line.plain for line in frame.frame(seen, place, (width, height), **keys)]


def test_eighty_columns_hold_what_matters_of_a_gpu() -> None:
    lines = screen(overview([row(number) for number in range(8)], [0.1, 0.2]), 80, 24)
    for column in ("WINDOW", "MEMORY", "UTIL", "TEMP", "STATE", "GEN", "EPOCH", "ETA", "BEST"):
        assert column in lines[1]
    for text in ("gpu0", "23G", "97%", "54°C", "running", "12", "4/20", "12m30s", "0.2311", "1/2"):
        assert text in lines[2]
    assert len(lines) == 24
    assert "2/300 generations" in lines[-2]
    assert "1h06m left" in lines[-2]
    assert "q quit" in lines[-1]


def test_wide_screens_show_power_and_the_last_line() -> None:
    lines = screen(overview([row(0)]), 200, 50)
    assert "212/400W" in lines[2]
    assert "18/48 [00:10<00:20]" in lines[2]


def test_a_phone_shows_the_windows_and_their_epochs() -> None:
    lines = screen(overview([row(0), row(1)]), 40, 20)
    assert "running" in lines[2]
    assert "4/20" in lines[2]
    assert "12m30s" in lines[2]


def test_cpu_slots_have_no_gpu_columns_and_native_windows_no_study_columns() -> None:
    on_cpu = screen(overview([row(0, on_gpu=False)]), 200, 24)
    assert "MEMORY" not in on_cpu[1]
    native = [row(0, on_gpu=False, mode="native", generation=None, part=Part())]
    lines = screen(overview(native, budget=None, eta=None, each=None, mode="native"), 200, 24)
    assert "GEN" not in lines[1]
    assert lines[-2].startswith("0 generations")


def test_where_there_are_no_results_the_windows_get_all_of_the_screen() -> None:
    rows = [row(number, mode="native", generation=None, part=Part()) for number in range(64)]
    seen = overview(rows, generations=None, budget=None, eta=None, each=None, at_work=0)
    lines = screen(seen, 80, 24)
    assert "rows 1-19 of 64" in lines[0]
    assert lines[-2] == "results in /home/me/runs/demo"


def test_sixty_four_windows_scroll() -> None:
    seen = overview([row(number) for number in range(64)])
    assert "rows 1-13 of 64" in screen(seen, 80, 24)[0]
    far = screen(seen, 80, 24, cursor=63)
    assert "rows 52-64 of 64" in far[0]
    assert any(line.startswith("gpu63") for line in far)


def test_a_failure_in_a_row_is_told_and_one_long_past_is_not() -> None:
    failing = row(0, failure="generation 3: CUDA out of memory")
    assert "failed: generation 3: CUDA out of memory" in "\n".join(
        screen(overview([failing]), 80, 24)
    )
    recovered = row(0, failure="generation 3: CUDA out of memory", part=Part(0.1, 0.1, 1, 0))
    assert "out of memory" not in "\n".join(screen(overview([recovered]), 80, 24))


def test_the_state_is_in_colour() -> None:
    seen = overview([row(0), row(1, state=State.FAILED, reason="exit 1")])
    lines = frame.frame(seen, frame.Place(), (80, 24))
    failed = next(line for line in lines if line.plain.startswith("gpu1"))
    styles = {str(span.style) for span in failed.spans}
    assert "bold red" in styles


def test_what_is_odd_is_said_in_the_title() -> None:
    gone = overview([row(0, stopped=True)])
    assert "the session has ended" in screen(gone, 80, 24)[0]
    assert "1 stopped" in screen(gone, 80, 24)[0]
    assert "no answer for 14s" in screen(overview([row(0)]), 80, 24, late=14.0)[0]
    assert (
        screen(overview([row(0)]), 80, 24, say="gpu0 ended by SIGINT")[-1] == "gpu0 ended by SIGINT"
    )


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 64),
    st.booleans(),
    st.integers(1, 220),
    st.integers(1, 60),
    st.lists(st.floats(), max_size=300),
    st.integers(-5, 100),
)
def test_no_screen_is_too_small_and_nothing_sticks_out(
    count: int, on_gpu: bool, width: int, height: int, values: list[float], cursor: int
) -> None:
    seen = overview([row(number, on_gpu=on_gpu) for number in range(count)], values)
    place = frame.at(cursor, frame.Place(), seen, height)
    lines = frame.frame(seen, place, (width, height))
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width
    assert 0 <= place.first <= place.cursor < count


@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=500), st.integers(12, 120))
def test_a_plot_has_the_size_it_was_given(values: list[float], width: int) -> None:
    lines = plot(thin(values, float), width, 9)
    assert len(lines) == 9
    assert {line.cell_len for line in lines} == {max(line.cell_len for line in lines)}


def test_a_plot_shows_the_best_so_far_above_the_points() -> None:
    lines = [line.plain for line in plot(thin([0.1, 0.3, 0.2], float), 40, 6)]
    assert lines[0].startswith("0.3000┤")
    assert lines[-2].startswith("0.1000┤•")
    assert sum(line.count("•") for line in lines) == 3
    assert lines[-1].endswith("generation 2")
    assert plot([Point(0, 0.5, 0.5, 0.5)], 40, 6)
    assert "no generation has finished yet" in "".join(line.plain for line in plot((), 40, 6))


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_bar_is_as_wide_as_it_should_be(share: float, width: int) -> None:
    text = bar(share, width, "green").plain
    assert len(text) == width
    assert abs(text.count("█") - share * width) <= 1


CELL = st.tuples(st.sampled_from("ab "), st.none() | st.just(Style(bold=True)))


@given(st.lists(CELL, max_size=30), st.lists(CELL, max_size=30))
def test_exactly_the_changed_cells_are_drawn(old: list[Any], new: list[Any]) -> None:
    spans = [*changed(old, new)]
    drawn = {x for start, end in spans for x in range(start, end)}
    blank = (" ", None)
    length = max(len(old), len(new))
    before, after = (line + [blank] * (length - len(line)) for line in (old, new))
    assert drawn == {x for x in range(length) if before[x] != after[x]}


def test_text_is_not_taken_for_markup() -> None:
    odd = row(0, reason="[red]exit 1[/red]", state=State.FAILED)
    lines = frame.frame(overview([odd]), frame.Place(), (80, 24))
    assert any("[red]exit 1[/red]" in line.plain for line in lines)
    assert isinstance(lines[0], Text)
