"""The bundled trainer: its mathematics, YOLOv5's contract, several workers in one directory."""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import poll

from tmuxevolve.examples import tinydet
from tmuxevolve.examples.tinydet_data import (
    SIZE,
    Box,
    Example,
    augment,
    generate,
    training_images,
    validation_images,
)
from tmuxevolve.examples.tinydet_metrics import IOU_THRESHOLDS, Detection, Scores, score
from tmuxevolve.examples.tinydet_model import Detector, Gains, Loss, Prediction, Rates, loss_of
from tmuxevolve.examples.tinydet_train import HYPS, Schedule, Settings, train
from tmuxevolve.study import history
from tmuxevolve.study.mutation import META, constrain
from tmuxevolve.study.rows import METRICS

BUNDLED = Path(tinydet.__file__).with_name("hyp.tinydet.yaml")
STILL = dict.fromkeys(("scale", "translate", "hsv_v", "flipud", "fliplr"), 0.0)


def hyp(**changes: float) -> dict[str, float]:
    return {**tinydet.load_hyp(BUNDLED), **changes}


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tmuxevolve.examples.tinydet", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(tinydet.__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *args: str) -> tuple[int, str]:
    process = start(folder, *args)
    out, err = process.communicate(timeout=60)
    assert out == ""
    return process.returncode, err


def wait_for_bar(worker: subprocess.Popen[str]) -> None:
    assert worker.stderr
    descriptor = worker.stderr.fileno()
    poll(lambda: b"/48 [" in os.read(descriptor, 4096))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, skipinitialspace=True))


# Data


def test_images_come_back_and_validation_sees_none_of_the_training() -> None:
    before = generate(20, 1)
    generate.cache_clear()
    assert generate(20, 1) == before
    assert not set(training_images()) & set(validation_images())
    assert {image.box is None for image in validation_images()} == {True, False}


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 1))
# So small that it falls between the pixels.
@example(seed=17442, scale=0.875, translate=0.5, flip=0.0)
def test_augmented_boxes_stay_on_their_objects(
    seed: int, scale: float, translate: float, flip: float
) -> None:
    box = Box(1, 2, 6, 9)
    pixels = (
        1.0 if box.left <= x < box.right and box.top <= y < box.bottom else 0.0
        for y, x in itertools.product(range(SIZE), repeat=2)
    )
    moves = {"scale": scale, "translate": translate, "flipud": flip, "fliplr": flip, "hsv_v": 0}
    seen = augment(Example(tuple(pixels), box), moves, Random(seed))
    if seen.box is None:
        return
    lit = [(at % SIZE, at // SIZE) for at, value in enumerate(seen.pixels) if value == 1.0]
    bounds = Box(
        min(x for x, _ in lit),
        min(y for _, y in lit),
        max(x for x, _ in lit) + 1,
        max(y for _, y in lit) + 1,
    )
    # Pixels are whole and boxes are not.
    for edge in ("left", "top", "right", "bottom"):
        assert abs(getattr(bounds, edge) - getattr(seen.box, edge)) <= 0.51
    assert len(lit) == bounds.area


def test_augmentation_without_strength_changes_nothing() -> None:
    for image in generate(20, 3):
        assert augment(image, STILL, Random(0)) == image


def test_brightness_is_jittered() -> None:
    image = generate(1, 3)[0]
    seen = augment(image, {**STILL, "hsv_v": 0.5}, Random(0))
    ratios = {round(a / b, 9) for a, b in zip(seen.pixels, image.pixels, strict=True)}
    assert len(ratios) == 1
    assert 0.5 <= ratios.pop() <= 1.5


# Metrics


def reference_map(detections: Sequence[Detection], objects: int) -> list[float]:
    """Return the AP per threshold from its definition: over recall, the best precision beyond."""
    ranked = sorted(detections, key=lambda found: -found.confidence)
    found = []
    for threshold in IOU_THRESHOLDS:
        hits = [detection.iou >= threshold for detection in ranked]
        points = [(sum(hits[:k]) / objects, sum(hits[:k]) / k) for k in range(1, len(hits) + 1)]
        levels = [level / objects for level in range(1, objects + 1)]
        best = [max((p for r, p in points if r >= level - 1e-9), default=0.0) for level in levels]
        found.append(sum(best) / objects)
    return found


DETECTIONS = st.lists(
    st.builds(Detection, st.integers(0, 10**9).map(float), st.floats(0, 1)),
    max_size=12,
    unique_by=lambda detection: detection.confidence,
)


@settings(deadline=None)
@given(DETECTIONS)
def test_scores_equal_their_definition(detections: list[Detection]) -> None:
    objects = sum(detection.iou > 0 for detection in detections) + 1
    scores = score(detections, objects)
    expected = reference_map(detections, objects)
    assert scores.map50 == pytest.approx(expected[0])
    assert scores.map50_95 == pytest.approx(sum(expected) / 10)


def test_precision_and_recall_are_those_of_the_best_f1() -> None:
    def found(*ious: float) -> tuple[float, float]:
        ranked = [Detection(1 - rank / 10, iou) for rank, iou in enumerate(ious)]
        scores = score(ranked[::-1], objects=3)
        return scores.precision, scores.recall

    assert found(0.6, 0.6, 0.0, 0.0, 0.6) == (1, 2 / 3)
    assert found(0.6, 0.0, 0.6, 0.6, 0.0) == (3 / 4, 1)


def test_perfect_and_empty_scores() -> None:
    assert score([Detection(0.5, 1.0)], 1) == Scores(1, 1, 1, 1)
    assert score([], 3) == Scores(0, 0, 0, 0)
    assert score([Detection(0.9, 0.0)], 0) == Scores(0, 0, 0, 0)


# Model


def test_iou() -> None:
    assert Box(0, 0, 2, 2).iou(Box(1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert Box(0, 0, 2, 2).iou(Box(2, 2, 3, 3)) == 0
    assert Box(0, 0, 2, 2).iou(Box(0, 0, 2, 2)) == pytest.approx(1)


@pytest.mark.parametrize("gains", [Gains(0.05, 0.0, 1.0), Gains(0.0, 1.5, 0.7)])
def test_gradients_equal_differences_of_the_loss(gains: Gains) -> None:
    """The fit that confidence learns is a constant to it, so both losses are looked at alone."""
    truth = Box(2, 3, 7, 8)
    raw = [0.3, -0.2, 0.4, 0.1, -0.5]

    def said(outputs: Sequence[float]) -> Prediction:
        confidence, x, y, w, h = (1 / (1 + math.exp(-value)) for value in outputs)
        return Prediction(confidence, (x, y), (w, h))

    _, gradient = loss_of(said(raw), truth, gains)
    for at in range(5) if gains.box else [0]:
        up, down = list(raw), list(raw)
        up[at] += 1e-5
        down[at] -= 1e-5
        losses = [loss_of(said(outputs), truth, gains)[0] for outputs in (up, down)]
        slope = (losses[0].box + losses[0].obj - losses[1].box - losses[1].obj) / 2e-5
        assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-9)


def total(model: Detector, images: Sequence[Example], gains: Gains) -> float:
    losses = (loss_of(model.predict(image.pixels), image.box, gains)[0] for image in images)
    return sum(loss.box for loss in losses)


def test_a_step_goes_down_the_gradient_of_all_layers() -> None:
    """Down a gradient g, a short step of length r x g lowers the loss by r x |g| squared."""
    # Four images: the model takes four times the mean of their gradients, that is, their sum.
    images, gains = generate(4, 5), Gains(0.05, 0.0, 1.0)
    model = Detector(Random(1))
    before = total(model, images, gains)
    weights = [[*itertools.chain(*layer.weights), *layer.biases] for layer in model.layers]
    for image in images:
        model.learn(image, gains)
    model.step(Rates(weights=1e-7, biases=1e-7, momentum=0.0, decay=0.0), len(images))
    moved = [[*itertools.chain(*layer.weights), *layer.biases] for layer in model.layers]
    for old, new in zip(weights, moved, strict=True):
        assert old != new
    steps = [b - a for a, b in zip(itertools.chain(*weights), itertools.chain(*moved), strict=True)]
    squared = sum(step * step for step in steps) / 1e-7
    assert before - total(model, images, gains) == pytest.approx(squared, rel=1e-3)


def test_decay_shrinks_weights_and_momentum_keeps_going() -> None:
    model = Detector(Random(1))
    weight = model.layers[0].weights[0][0]
    model.step(Rates(weights=0.01, biases=0.01, momentum=0.5, decay=0.1), 16)
    first = model.layers[0].weights[0][0] / weight
    assert 0.99 < first < 1
    model.step(Rates(weights=0.01, biases=0.01, momentum=0.5, decay=0.0), 16)
    assert model.layers[0].weights[0][0] / weight == pytest.approx(first - (1 - first) / 2)
    assert not any(model.layers[0].biases)


# Schedule


def test_rates_warm_up_and_then_fall_to_lr0_times_lrf() -> None:
    values = {"lr0": 0.01, "lrf": 0.1, "momentum": 0.9, "weight_decay": 0.0005}
    warmup = {"warmup_epochs": 2.0, "warmup_momentum": 0.5, "warmup_bias_lr": 0.1}
    schedule = Schedule({**values, **warmup}, epochs=10, batches=5)
    assert schedule.rates(0) == Rates(weights=0.0, biases=0.1, momentum=0.5, decay=0.0005)
    assert schedule.rates(10).weights == pytest.approx(0.01 * (1 - 0.2 * 0.9))
    assert schedule.rates(10).biases == schedule.rates(10).weights
    assert schedule.rates(10).momentum == 0.9
    assert schedule.rates(49).weights == pytest.approx(0.01 * (1 - 0.9 * 0.9))


def test_without_warmup_the_first_step_is_a_full_one() -> None:
    assert Schedule(hyp(warmup_epochs=0.0), 3, 5).rates(0).weights == hyp()["lr0"]


# Training


def test_training_learns() -> None:
    images = validation_images()
    untrained = Detector(Random(0))
    said = [untrained.predict(image.pixels) for image in images]
    ious = [p.box.iou(i.box) if i.box else 0.0 for p, i in zip(said, images, strict=True)]
    found = [Detection(p.confidence, iou) for p, iou in zip(said, ious, strict=True)]
    before = score(found, sum(image.box is not None for image in images))
    first, *_, last = train(hyp(lr0=0.01), Settings(4, 16, 0, last_validation_only=True))
    assert last.loss.box < 0.75 * first.loss.box
    assert last.scores.map50 > before.map50 + 0.3
    assert first.scores.map50 == 0


def test_good_hyps_beat_bad_ones_and_the_seed_decides_the_rest() -> None:
    one = Settings(1, 16, 0)
    (good,), (again,) = train(hyp(lr0=0.01), one), train(hyp(lr0=0.01), one)
    (bad,), (other,) = train(hyp(lr0=1e-5), one), train(hyp(lr0=0.01), Settings(1, 16, 1))
    assert good == again
    assert good != other
    assert good.scores.map50 > bad.scores.map50 + 0.1


def test_the_wildest_hyps_end_without_an_error() -> None:
    wild = {name: META[name].upper for name in HYPS} | {"warmup_epochs": 0.0}
    *_, last = train(wild, Settings(2, 1, 0, last_validation_only=True))
    assert 0 <= last.scores.map50_95 <= 1


def test_the_bundled_hyps_are_yolov5s_and_can_all_move() -> None:
    values = yaml.safe_load(BUNDLED.read_text())
    assert tuple(values) == HYPS
    assert constrain(values, META) == values
    assert all(values.values())


# Command line


def test_options_mean_what_they_mean_in_yolov5() -> None:
    def parsed(*args: str) -> tuple[int, str, bool]:
        options = tinydet.parse(args)
        return options.evolve, str(options.project), options.exist_ok

    assert parsed() == (0, "runs/train", False)
    assert parsed("--exist-ok") == (0, "runs/train", True)
    assert parsed("--evolve") == (300, "runs/evolve", False)
    assert parsed("--evolve", "7", "--exist-ok") == (7, "runs/evolve", False)
    assert parsed("--evolve", "7", "--resume", "--project", "p") == (7, "p", True)
    given = ("--noval", "--nosave", "--noplots", "--device", "cpu", "--seed", "4", "--epochs", "2")
    assert tinydet.parse(given).settings == Settings(2, 16, 4, last_validation_only=True)


@pytest.mark.parametrize(
    "args", [("--resume",), ("--device", "0"), ("--epochs", "0"), ("--evolve", "-1")]
)
def test_wrong_options_exit_2(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tinydet.parse(args)
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["lr0: 0.1\n", "- a\n", "lr0: x\n", "lr0: .nan\n", "", ": : :\n", None]
)
def test_a_bad_hyp_file_is_one_line_and_exit_2(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hyp.yaml"
    if text is not None:
        file.write_text(text)
    assert tinydet.main(["--hyp", str(file), "--project", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert ("lacks" in err) is (text == "lr0: 0.1\n")
    assert not (tmp_path / "out").exists()


def test_directories_are_numbered_unless_they_may_exist(tmp_path: Path) -> None:
    names = [tinydet.results_directory(tmp_path, "search", exist_ok=False).name for _ in range(3)]
    assert names == ["search", "search2", "search3"]
    assert tinydet.results_directory(tmp_path, "search", exist_ok=True).name == "search"


def test_a_plain_training_writes_yolov5s_files(tmp_path: Path) -> None:
    code, err = run(tmp_path, "--epochs", "2", "--noval", "--name", "plain")
    assert code == 0, err
    directory = tmp_path / "runs/train/plain"
    assert yaml.safe_load((directory / "hyp.yaml").read_text()) == hyp()
    assert yaml.safe_load((directory / "opt.yaml").read_text())["epochs"] == 2
    first, last = rows(directory / "results.csv")
    assert list(first) == [
        *("epoch", "train/box_loss", "train/obj_loss", "train/cls_loss"),
        *METRICS,
        *("x/lr0", "x/lr1", "x/lr2"),
    ]
    assert (first["epoch"].strip(), last["epoch"].strip()) == ("0", "1")
    assert float(first["metrics/mAP_0.5"]) == 0 < float(last["metrics/mAP_0.5"])
    widths = {
        len(cell)
        for line in (directory / "results.csv").read_text().splitlines()
        for cell in line.split(",")
    }
    assert widths == {20}
    # A bar as YOLOv5 draws it, each epoch's under its header, and full at the end.
    assert err.count("      Epoch   box_loss   obj_loss  Instances       Size") == 2
    full = [line for line in re.split("[\r\n]", err) if "100%|██████████| 48/48 [" in line]
    assert {line.split()[0] for line in full} == {"0/1", "1/1"}


def test_workers_that_join_share_one_evolution_and_train_no_hyps_twice(tmp_path: Path) -> None:
    shared = ("--epochs", "1", "--evolve", "2", "--project", "out", "--name", "search", "--resume")
    workers = [start(tmp_path, *shared) for _ in range(2)]
    texts = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], texts
    directory = tmp_path / "out/search"
    assert sorted(path.name for path in directory.iterdir()) == ["evolve.csv", "hyp_evolve.yaml"]
    found = history.read(directory / "evolve.csv")
    assert found.problem is None
    assert found.best
    assert max(Counter(tuple(g.hyp.values()) for g in found.generations).values()) == 1
    assert sum(g.hyp == pytest.approx(hyp()) for g in found.generations) == 1
    assert len(found.generations) == 4
    assert (
        f"evolve: 4 generations finished, fitness {found.generations[-1].fitness:.3f}"
        in "".join(texts)
    )
    assert all("finished 2 generations, results saved to out/search" in text for text in texts)
    assert tinydet.load_hyp(directory / "hyp_evolve.yaml") == found.best.hyp


def test_workers_with_one_parent_and_one_seed_draw_different_children(tmp_path: Path) -> None:
    directory = tmp_path / "runs/evolve/exp"
    directory.mkdir(parents=True)
    history.append(directory / "evolve.csv", (0.5,) * 7, hyp())
    workers = [start(tmp_path, "--epochs", "1", "--evolve", "1", "--resume") for _ in range(2)]
    for worker in workers:
        worker.communicate(timeout=60)
    _, one, other = history.read(directory / "evolve.csv").generations
    assert one.hyp != other.hyp


def test_workers_that_do_not_join_get_directories_of_their_own(tmp_path: Path) -> None:
    # With --evolve, --exist-ok says nothing: only --resume does.
    args = ("--epochs", "1", "--evolve", "1", "--name", "search", "--exist-ok")
    workers = [start(tmp_path, *args) for _ in range(2)]
    assert [worker.communicate(timeout=60) and worker.returncode for worker in workers] == [0, 0]
    made = sorted(path.parent.name for path in tmp_path.glob("runs/evolve/*/evolve.csv"))
    assert made == ["search", "search2"]


def test_an_evolution_of_other_hyps_is_not_joined(tmp_path: Path) -> None:
    directory = tmp_path / "runs/evolve/exp"
    directory.mkdir(parents=True)
    history.append(directory / "evolve.csv", (0.0,) * 7, {"lr0": 0.01})
    code, err = run(tmp_path, "--evolve", "1", "--resume")
    assert code == 2
    assert "other hyps" in err


def test_ctrl_c_ends_it_at_once_without_a_row(tmp_path: Path) -> None:
    worker = start(tmp_path, "--epochs", "500", "--evolve", "1", "--name", "search")
    wait_for_bar(worker)
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate(timeout=10)
    assert worker.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("tinydet: interrupted")
    assert not (tmp_path / "runs/evolve/search/evolve.csv").exists()


def test_a_killed_first_worker_gives_its_turn_back(tmp_path: Path) -> None:
    args = ("--evolve", "1", "--name", "search", "--resume")
    worker = start(tmp_path, "--epochs", "500", *args)
    wait_for_bar(worker)
    worker.kill()
    worker.communicate()
    code, err = run(tmp_path, "--epochs", "1", *args)
    assert code == 0, err
    (only,) = history.read(tmp_path / "runs/evolve/search/evolve.csv").generations
    assert only.hyp == pytest.approx(hyp())


def test_losses_add_up() -> None:
    assert (Loss(1, 2) + Loss(3, 4)) / 2 == Loss(2, 3)
