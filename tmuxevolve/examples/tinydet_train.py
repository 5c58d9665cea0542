"""tinydet's training: the schedule of its learning rate, its epochs, its progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NoReturn

from tqdm import tqdm

from tmuxevolve.examples.tinydet_data import (
    SIZE,
    Example,
    augment,
    training_images,
    validation_images,
)
from tmuxevolve.examples.tinydet_metrics import Detection, Scores, score
from tmuxevolve.examples.tinydet_model import Detector, Gains, Loss, Rates, loss_of

HYPS = (
    "lr0",
    "lrf",
    "momentum",
    "weight_decay",
    "warmup_epochs",
    "warmup_momentum",
    "warmup_bias_lr",
    "box",
    "obj",
    "obj_pw",
    "hsv_v",
    "translate",
    "scale",
    "flipud",
    "fliplr",
)
"""The hyps a training needs."""

_BAR = "{l_bar}{bar:10}{r_bar}"
_TRAIN_COLUMNS = ("Epoch", "box_loss", "obj_loss", "Instances", "Size")
_VAL_COLUMNS = ("Class", "Images", "Instances", "P", "R", "mAP50", "mAP50-95")
_UNKNOWN = Scores(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training depends on besides its hyps."""

    epochs: int
    batch_size: int
    seed: int
    last_validation_only: bool = False


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to; scores and validation loss are zero where it was not validated."""

    number: int
    loss: Loss
    scores: Scores
    validation: Loss
    rates: Rates

    @property
    def metrics(self) -> tuple[float, ...]:
        """Return the seven numbers of a row of evolve.csv; there are no classes to confuse."""
        found = self.scores
        quality = (found.precision, found.recall, found.map50, found.map50_95)
        return (*quality, self.validation.box, self.validation.obj, 0.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """YOLOv5's: the rate falls in a line from lr0 to lr0 x lrf, after a warm-up."""

    hyp: Mapping[str, float]
    epochs: int
    batches: int

    def rates(self, step: int) -> Rates:
        """Return how far the step of this number goes."""
        hyp = self.hyp
        progress = step // self.batches / self.epochs
        rate = hyp["lr0"] * (1 - progress * (1 - hyp["lrf"]))
        warmup = round(hyp["warmup_epochs"] * self.batches)
        warm = min(step / warmup, 1.0) if warmup else 1.0
        return Rates(
            weights=warm * rate,
            biases=_between(hyp["warmup_bias_lr"], rate, warm),
            momentum=_between(hyp["warmup_momentum"], hyp["momentum"], warm),
            decay=hyp["weight_decay"],
        )


def say(text: str) -> None:
    """Write a line to stderr, where the bars are, without breaking one."""
    tqdm.write(text, file=sys.stderr)


def train(hyp: Mapping[str, float], settings: Settings) -> Iterator[Epoch]:
    """Train a new model, epoch by epoch; the same hyps and settings give the same numbers."""
    rng = Random(settings.seed)
    model = Detector(rng)
    gains = Gains(hyp["box"], hyp["obj"], hyp["obj_pw"])
    batches = -(-len(training_images()) // settings.batch_size)
    schedule = Schedule(hyp, settings.epochs, batches)
    for number in range(settings.epochs):
        run = _Run(model, gains, schedule, rng, number)
        loss = run.epoch(settings.batch_size)
        rates = schedule.rates((number + 1) * batches - 1)
        if number + 1 < settings.epochs and settings.last_validation_only:
            yield Epoch(number, loss, _UNKNOWN, Loss(), rates)
        else:
            yield Epoch(number, loss, *_validate(model, gains), rates)


@dataclass(frozen=True, slots=True)
class _Run:
    """One epoch: every image once, in a new order, each as augmented anew."""

    model: Detector
    gains: Gains
    schedule: Schedule
    rng: Random
    number: int

    def epoch(self, batch_size: int) -> Loss:
        """Learn from all images and return the mean loss."""
        images = list(training_images())
        self.rng.shuffle(images)
        total = Loss()
        say("\n" + _cells(_TRAIN_COLUMNS))
        with _bar(self.schedule.batches, self._describe(total, ())) as bar:
            for index in range(self.schedule.batches):
                batch = images[index * batch_size : (index + 1) * batch_size]
                examples = [augment(image, self.schedule.hyp, self.rng) for image in batch]
                total += self._batch(examples, index)
                seen = min((index + 1) * batch_size, len(images))
                bar.set_description_str(self._describe(total / seen, examples), refresh=False)
                bar.update()
        return total / len(images)

    def _batch(self, examples: Sequence[Example], index: int) -> Loss:
        loss = sum((self.model.learn(example, self.gains) for example in examples), Loss())
        rates = self.schedule.rates(self.number * self.schedule.batches + index)
        self.model.step(rates, len(examples))
        return loss

    def _describe(self, loss: Loss, examples: Sequence[Example]) -> str:
        instances = sum(example.box is not None for example in examples)
        at = f"{self.number}/{self.schedule.epochs - 1}"
        return _cells((at, f"{loss.box:.4g}", f"{loss.obj:.4g}", f"{instances}", f"{SIZE}"))


def _validate(model: Detector, gains: Gains) -> tuple[Scores, Loss]:
    """Score the model on images it never learns from."""
    images = validation_images()
    total, detections = Loss(), []
    with _bar(len(images), _cells(_VAL_COLUMNS)) as bar:
        for image in images:
            said = model.predict(image.pixels)
            total += loss_of(said, image.box, gains)[0]
            iou = said.box.iou(image.box) if image.box else 0.0
            detections.append(Detection(said.confidence, iou))
            bar.update()
    objects = sum(image.box is not None for image in images)
    scores = score(detections, objects)
    found = (scores.precision, scores.recall, scores.map50, scores.map50_95)
    numbers = (f"{value:.3g}" for value in found)
    say(_cells(("all", f"{len(images)}", f"{objects}", *numbers)))
    return scores, total / len(images)


def _bar(total: int, text: str) -> tqdm[NoReturn]:
    # The window may be resized by whoever attaches to it.
    return tqdm(total=total, desc=text, bar_format=_BAR, dynamic_ncols=True, file=sys.stderr)


def _cells(values: Sequence[str]) -> str:
    return "".join(f"{value:>11}" for value in values)


def _between(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress
