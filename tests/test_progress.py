"""How far a training is, from lines of text; how long it takes yet; the curve's thinning."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tqdm import tqdm

from tmuxevolve import trainers
from tmuxevolve.session import curve, eta
from tmuxevolve.trainers.progress import Bar, Progress, bar

YOLOV5 = "      3/19      2.1G    0.04512    0.02134    0.01201         13        640:"
ULTRALYTICS = "      4/100      2.4G      1.206      2.913      1.201         11        640:"
VALIDATION = "                 Class     Images  Instances          P          R      mAP50"


def test_yolov5_counts_epochs_from_0() -> None:
    lines = ["Epoch GPU_mem box_loss", f"{YOLOV5}  38%|███▊      | 18/48 [00:10<00:20,  1.5it/s]"]
    found = trainers.find("yolov5", ()).progress(lines)
    assert found
    assert (found.epoch, found.epochs) == (4, 20)
    assert found.share == (3 + 18 / 48) / 20
    assert found.bar == Bar(YOLOV5 + "  ", 18 / 48, 10.0, 20.0)


@pytest.mark.parametrize(
    "line",
    [
        f"{ULTRALYTICS} 38%|███▊      | 18/48 [00:10<00:20,  1.5it/s]",
        f"{ULTRALYTICS} 38% ━━━━╸─────── 18/48 1.5it/s 10.2s<20.1s",
        f"{ULTRALYTICS} 38% ━━━━╸─────── 18/48  10.2s<20.1s",
        f"{ULTRALYTICS} 38% ━━━━╸─────── 18/48 1.5it/s 1:10<1:20:05",
    ],
)
def test_ultralytics_counts_them_from_1_in_both_kinds_of_bar(line: str) -> None:
    found = trainers.find("ultralytics", ()).progress([line])
    assert found
    assert (found.epoch, found.epochs) == (4, 100)
    assert found.bar
    assert found.bar.share == 18 / 48
    assert found.bar.left in {20.0, 20.1, 4805.0}


@pytest.mark.parametrize("trainer", ["yolov5", "ultralytics"])
def test_a_validation_belongs_to_the_epoch_above_it(trainer: str) -> None:
    lines = [
        "      0/19       2.1G  13  640: 100%|██████████| 48/48 [00:30<00:00, 1.6it/s]",
        "      2/19       2.1G  13  640: 100%|██████████| 48/48 [00:30<00:00, 1.6it/s]",
        f"{VALIDATION}:  12%|█▏        | 3/25 [00:01<00:08, 2.7it/s]",
    ]
    found = trainers.find(trainer, ()).progress(lines)
    assert found
    assert found.epoch == (3 if trainer == "yolov5" else 2)
    assert found.bar
    assert found.bar.share == 1


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Epoch 3/20", " 50%|█████     | 5/10 [00:02<00:03]"], (3, 20, 0.5)),
        (["epoch: 3 of 20  loss 0.2"], (3, 20, 0.0)),
        (["[Epoch 3/20]  50%|#####     | 5/10 [00:02<00:03, 2it/s]"], (3, 20, 0.5)),
        (["train:  50%|█████     | 5/10 [00:02<00:03, 2it/s]"], (1, 1, 0.5)),
        (["50%|█████"], (1, 1, 0.5)),
        (["loading"], None),
        (["epoch 9/3"], None),
        ([], None),
    ],
)
def test_any_program(lines: list[str], expected: tuple[int, int, float] | None) -> None:
    found = trainers.find("command", ()).progress(lines)
    assert (
        found and (found.epoch, found.epochs, found.bar.share if found.bar else 0.0)
    ) == expected


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.floats(0, 10**5),
    st.integers(20, 300),
    st.booleans(),
)
def test_whatever_tqdm_draws_is_read(
    done: int, total: int, elapsed: float, columns: int, ascii_: bool
) -> None:
    done = min(done, total)
    drawn = tqdm.format_meter(done, total, elapsed, ncols=columns, prefix="3/19 x", ascii=ascii_)
    found = bar(drawn)
    # A narrow terminal cuts what it has no room for, in the end the percentage too.
    if "%|" in drawn:
        assert found
        assert found.share == pytest.approx(done / total, abs=0.006)
        if found.elapsed is not None and elapsed < 10**5 - 1:
            assert found.elapsed == int(elapsed)


@given(st.lists(st.text(max_size=300), max_size=5))
@example(["9" * 400 + "%|" + "9" * 400])
@example(["5%|| 1/0 [00:00<00:00"])
@example(["  0/0  : 5%|| 1/2"])
def test_no_screen_is_too_odd(lines: list[str]) -> None:
    for name in trainers.NAMES:
        found = trainers.find(name, ()).progress(lines)
        assert found is None or (1 <= found.epoch <= found.epochs and 0 <= found.share <= 1)


def test_long_lines_take_no_time() -> None:
    for line in ("9" * 200_000, "% |" * 50_000, "1/" * 100_000, "5%|" * 60_000, " " * 200_000):
        for name in trainers.NAMES:
            trainers.find(name, ()).progress([line] * 3)


def test_the_whole_trainings_time_counts_after_its_first_epoch() -> None:
    # 100 s for 5 of 20 epochs, validations and all: whatever the bar says.
    assert eta.of_training(Progress(6, 20, Bar("", 0.0, 0.0, None)), 100) == 300
    assert eta.of_training(Progress(20, 20, Bar("", 1.0, 30.0, 0.0)), 100) == 0
    # In the first one the time to load would count twenty times.
    assert eta.of_training(Progress(1, 20, Bar("", 0.5, 5.0, 5.0)), 100) == 5 + 19 * 10
    # A bar that counts whole seconds says nothing about an epoch of less than one.
    assert eta.of_training(Progress(1, 20, Bar("", 0.5, 0.0, 0.0)), 2) == pytest.approx(78)
    assert eta.of_training(Progress(1, 1, Bar("", 0.5, 50.0, 50.0)), None) == 50
    assert eta.of_training(Progress(1, 20, Bar("", 0.0, 0.0, None)), None) is None
    assert eta.of_training(None, 100) is None


def test_what_is_left_is_shared_among_the_workers() -> None:
    assert eta.of_study(0, [10], [5]) == 0
    assert eta.of_study(10, [], [None]) is None
    assert eta.of_study(10, [10], []) is None
    assert eta.of_study(12, [8, 12], [5, 5]) == (5 + 5 + 10 * 10) / 2
    assert eta.of_study(2, [10], [1, 9]) == 9
    assert eta.of_study(2, [], [1, 9]) == 9
    assert eta.of_study(1, [10], [None]) == 5


@given(
    st.integers(0, 10_000),
    st.lists(st.floats(0, 1e6), max_size=5),
    st.lists(st.none() | st.floats(0, 1e6), max_size=8),
)
def test_an_estimate_is_no_less_than_what_is_known(
    left: int, seconds: list[float], running: list[float | None]
) -> None:
    found = eta.of_study(left, seconds, running)
    known = [rest for rest in running if rest is not None]
    if found is not None and left:
        assert found >= max(known, default=0)


@given(
    st.lists(st.floats() | st.sampled_from([math.nan, math.inf]), max_size=200),
    st.integers(1, 50),
    st.sampled_from([1.0, -1.0]),
)
def test_a_thinned_curve_keeps_the_extremes(values: list[float], points: int, sign: float) -> None:
    found = curve.thin(values, lambda value: sign * value, points)
    finite = [value for value in values if math.isfinite(value)]
    assert len(found) <= points
    assert bool(found) == bool(finite)
    if finite:
        best = max(finite, key=lambda value: sign * value)
        assert found[-1].best == best
        assert max((p.top for p in found), key=lambda v: sign * v) == best
        assert min((p.worst for p in found), key=lambda v: sign * v) == min(
            finite, key=lambda v: sign * v
        )
        assert [p.number for p in found] == sorted({p.number for p in found})
        assert found[-1].number < len(values)
