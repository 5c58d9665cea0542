"""tinydet's model: a perceptron with one hidden layer that sees one image and says one box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from random import Random

from tmuxevolve.examples.tinydet_data import SIZE, Box, Example

_HIDDEN = 24
_OUTPUTS = 5
# Beyond this a sigmoid is flat and exp overflows; a diverged training must end like any other.
_STEEPEST = 50.0
_LEAST_SURE = 1e-7
# These two bring what YOLOv5's bounds allow into the range that suits a model this small.
_BOX_SCALE = 100.0
_STRIDE = 4.0


@dataclass(frozen=True, slots=True)
class Rates:
    """How far and how a step of gradient descent goes."""

    weights: float
    biases: float
    momentum: float
    decay: float


@dataclass(frozen=True, slots=True)
class Gains:
    """What each part of the loss counts."""

    box: float
    obj: float
    obj_pw: float


@dataclass(frozen=True, slots=True)
class Loss:
    """What a training makes smaller, its parts weighted by their gains."""

    box: float = 0.0
    obj: float = 0.0

    def __add__(self, other: Loss) -> Loss:
        """Return the sum, part by part."""
        return Loss(self.box + other.box, self.obj + other.obj)

    def __truediv__(self, count: float) -> Loss:
        """Return the mean of a sum."""
        return Loss(self.box / count, self.obj / count)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image: how sure it is of an object, and where that is."""

    confidence: float
    center: tuple[float, float]
    extent: tuple[float, float]

    @property
    def box(self) -> Box:
        """Return the box in pixels."""
        (x, y), (width, height) = self.center, self.extent
        return Box(
            (x - width / 2) * SIZE,
            (y - height / 2) * SIZE,
            (x + width / 2) * SIZE,
            (y + height / 2) * SIZE,
        )


class Layer:
    """Weights, biases, their summed gradients and their momentum."""

    def __init__(self, inputs: int, outputs: int, rng: Random) -> None:
        """Draw the weights; the biases start at zero."""
        spread = math.sqrt(2 / inputs)
        self.weights = [[rng.gauss(0, spread) for _ in range(inputs)] for _ in range(outputs)]
        self.biases = [0.0] * outputs
        self._speeds = [[0.0] * inputs for _ in range(outputs)]
        self._bias_speeds = [0.0] * outputs
        self._forget()

    def forward(self, inputs: Sequence[float]) -> list[float]:
        """Return the weighted sums."""
        return [
            bias + sum(map(mul, row, inputs))
            for row, bias in zip(self.weights, self.biases, strict=True)
        ]

    def learn(self, inputs: Sequence[float], deltas: Sequence[float]) -> None:
        """Add one example's gradient for the next step, given those of the outputs."""
        for unit, delta in enumerate(deltas):
            # A unit that was off has no part in it: half of the work of a whole training.
            if delta:
                row = self._gradients[unit]
                self._gradients[unit] = [g + delta * x for g, x in zip(row, inputs, strict=True)]
                self._bias_gradients[unit] += delta

    def backward(self, deltas: Sequence[float]) -> list[float]:
        """Return the gradients of the inputs, given those of the outputs."""
        return [sum(map(mul, column, deltas)) for column in zip(*self.weights, strict=True)]

    def step(self, rates: Rates, examples: int) -> None:
        """Go down the mean of the gradients added since the last step."""
        share = _STRIDE / examples
        decay = rates.decay * examples
        for unit, gradient in enumerate(self._gradients):
            row = self.weights[unit]
            speeds = [
                rates.momentum * v + g + decay * w
                for v, g, w in zip(self._speeds[unit], gradient, row, strict=True)
            ]
            self._speeds[unit] = speeds
            self.weights[unit] = _moved(row, speeds, rates.weights * share)
        self._bias_speeds = [
            rates.momentum * v + g
            for v, g in zip(self._bias_speeds, self._bias_gradients, strict=True)
        ]
        self.biases = _moved(self.biases, self._bias_speeds, rates.biases * share)
        self._forget()

    def _forget(self) -> None:
        self._gradients = [[0.0] * len(row) for row in self.weights]
        self._bias_gradients = [0.0] * len(self.biases)


class Detector:
    """The model."""

    def __init__(self, rng: Random) -> None:
        """Start from random weights."""
        self.layers = (Layer(SIZE * SIZE, _HIDDEN, rng), Layer(_HIDDEN, _OUTPUTS, rng))

    def predict(self, pixels: Sequence[float]) -> Prediction:
        """Say what is in an image."""
        return self._look(pixels)[1]

    def learn(self, example: Example, gains: Gains) -> Loss:
        """Add an image's gradient for the next step and return its loss."""
        hidden, output = self.layers
        active, prediction = self._look(example.pixels)
        loss, deltas = loss_of(prediction, example.box, gains)
        output.learn(active, deltas)
        upstream = output.backward(deltas)
        hidden.learn(
            example.pixels, [d if a else 0.0 for d, a in zip(upstream, active, strict=True)]
        )
        return loss

    def step(self, rates: Rates, examples: int) -> None:
        """Learn from the examples seen since the last step."""
        for layer in self.layers:
            layer.step(rates, examples)

    def _look(self, pixels: Sequence[float]) -> tuple[list[float], Prediction]:
        hidden, output = self.layers
        active = [value if value > 0 else 0.0 for value in hidden.forward(pixels)]
        confidence, x, y, width, height = map(_sigmoid, output.forward(active))
        return active, Prediction(confidence, (x, y), (width, height))


def loss_of(said: Prediction, truth: Box | None, gains: Gains) -> tuple[Loss, list[float]]:
    """Return the loss and the gradients of the five outputs, before their sigmoids.

    As in YOLO, the confidence to learn is how well the box fits.
    """
    fit = said.box.iou(truth) if truth else 0.0
    box, pull = _box_loss(said, truth, gains.box * _BOX_SCALE) if truth else (0.0, [0.0] * 4)
    obj, push = _confidence_loss(said.confidence, fit, gains)
    return Loss(box, obj), [push, *pull]


def _box_loss(said: Prediction, truth: Box, gain: float) -> tuple[float, list[float]]:
    values = (*said.center, *said.extent)
    errors = [value - wanted for value, wanted in zip(values, _wanted(truth), strict=True)]
    pull = [2 * gain * e * v * (1 - v) for e, v in zip(errors, values, strict=True)]
    return gain * sum(error * error for error in errors), pull


def _confidence_loss(confidence: float, wanted: float, gains: Gains) -> tuple[float, float]:
    sure = min(max(confidence, _LEAST_SURE), 1 - _LEAST_SURE)
    positive, negative = gains.obj * gains.obj_pw * wanted, gains.obj * (1 - wanted)
    loss = -positive * math.log(sure) - negative * math.log(1 - sure)
    return loss, negative * sure - positive * (1 - sure)


def _wanted(box: Box) -> tuple[float, float, float, float]:
    return (
        (box.left + box.right) / 2 / SIZE,
        (box.top + box.bottom) / 2 / SIZE,
        (box.right - box.left) / SIZE,
        (box.bottom - box.top) / SIZE,
    )


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-min(max(value, -_STEEPEST), _STEEPEST)))


def _moved(values: Sequence[float], speeds: Sequence[float], rate: float) -> list[float]:
    return [value - rate * speed for value, speed in zip(values, speeds, strict=True)]
