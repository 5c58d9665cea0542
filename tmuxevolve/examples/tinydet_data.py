"""tinydet's data: generated grey images, noisy, each with at most one bright rectangle to find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

SIZE = 10

_TRAINING, _VALIDATION = 768, 300
_NOISE = 0.08
_EMPTY = 0.2
_SMALLEST, _LARGEST = 4, 8
_DISTRACTORS = 2
# What a moved image uncovers.
_OUTSIDE = 0.15
# An object of which less is left in the picture is none.
_LEAST_VISIBLE = 0.5


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels from the image's upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Return the area; zero for a box that is turned inside out."""
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    def iou(self, other: Box) -> float:
        """Return the intersection over the union of both."""
        shared = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        return shared / max(self.area + other.area - shared, 1e-9)


@dataclass(frozen=True, slots=True)
class Example:
    """An image, row by row, and the object in it, if there is one."""

    pixels: tuple[float, ...]
    box: Box | None


def training_images() -> tuple[Example, ...]:
    """Return the images to learn from."""
    return generate(_TRAINING, seed=1)


def validation_images() -> tuple[Example, ...]:
    """Return other images, to be scored on."""
    return generate(_VALIDATION, seed=2)


@cache
def generate(count: int, seed: int) -> tuple[Example, ...]:
    """Return ``count`` images, the same ones for the same seed."""
    rng = Random(seed)
    return tuple(_generate(rng) for _ in range(count))


def augment(example: Example, hyp: Mapping[str, float], rng: Random) -> Example:
    """Return the image as it might also have been seen: brighter, moved, zoomed, mirrored."""
    gain = 1 + rng.uniform(-hyp["scale"], hyp["scale"])
    move = hyp["translate"] * SIZE
    across = _Axis(gain, rng.uniform(-move, move), mirrored=rng.random() < hyp["fliplr"])
    down = _Axis(gain, rng.uniform(-move, move), mirrored=rng.random() < hyp["flipud"])
    light = 1 + rng.uniform(-hyp["hsv_v"], hyp["hsv_v"])
    pixels = [light * pixel for pixel in example.pixels]
    return Example(
        _resampled(pixels, across, down), example.box and _moved(example.box, across, down)
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """How one axis is zoomed about its middle, moved and mirrored."""

    gain: float
    shift: float
    mirrored: bool

    def sources(self) -> list[int]:
        """Return, for each pixel, the one that it shows; SIZE for one outside of the image."""
        middle = SIZE / 2
        found = [
            int((at + 0.5 - middle - self.shift) / self.gain + middle + SIZE) - SIZE
            for at in range(SIZE)
        ]
        inside = [at if 0 <= at < SIZE else SIZE for at in found]
        return [SIZE - 1 - at if self.mirrored and at < SIZE else at for at in inside]

    def place(self, low: float, high: float) -> tuple[float, float]:
        """Return where a stretch of this axis is seen, not yet cut at the image's edge."""
        middle = SIZE / 2
        if self.mirrored:
            low, high = SIZE - high, SIZE - low
        return (
            (low - middle) * self.gain + middle + self.shift,
            (high - middle) * self.gain + middle + self.shift,
        )


def _resampled(pixels: Sequence[float], across: _Axis, down: _Axis) -> tuple[float, ...]:
    rows = [[*pixels[start : start + SIZE], _OUTSIDE] for start in range(0, SIZE * SIZE, SIZE)]
    rows.append([_OUTSIDE] * (SIZE + 1))
    columns = across.sources()
    return tuple(rows[row][column] for row in down.sources() for column in columns)


def _moved(box: Box, across: _Axis, down: _Axis) -> Box | None:
    left, right = across.place(box.left, box.right)
    top, bottom = down.place(box.top, box.bottom)
    whole = Box(left, top, right, bottom)
    seen = Box(max(left, 0.0), max(top, 0.0), min(right, SIZE), min(bottom, SIZE))
    # What is less than a pixel wide may fall between the pixels and not be seen at all.
    shows = min(seen.right - seen.left, seen.bottom - seen.top) > 1
    return seen if shows and seen.area >= _LEAST_VISIBLE * whole.area else None


def _generate(rng: Random) -> Example:
    ground = rng.uniform(0.0, 0.3)
    canvas = [[ground] * SIZE for _ in range(SIZE)]
    for _ in range(rng.randint(0, _DISTRACTORS)):
        _fill(canvas, _line(rng), ground + rng.uniform(0.3, 0.7))
    box = None if rng.random() < _EMPTY else _rectangle(rng)
    if box:
        _fill(canvas, box, ground + rng.uniform(0.3, 0.7))
    pixels = tuple(rng.gauss(value, _NOISE) for row in canvas for value in row)
    return Example(pixels, box)


def _rectangle(rng: Random) -> Box:
    width, height = rng.randint(_SMALLEST, _LARGEST), rng.randint(_SMALLEST, _LARGEST)
    left, top = rng.randint(0, SIZE - width), rng.randint(0, SIZE - height)
    return Box(left, top, left + width, top + height)


def _line(rng: Random) -> Box:
    """Return a stroke one pixel wide: bright, but not to be found."""
    length = rng.randint(1, SIZE - 2)
    along, across = rng.randint(0, SIZE - length), rng.randrange(SIZE)
    if rng.random() < 0.5:
        return Box(along, across, along + length, across + 1)
    return Box(across, along, across + 1, along + length)


def _fill(canvas: list[list[float]], box: Box, value: float) -> None:
    columns = slice(int(box.left), int(box.right))
    for row in canvas[int(box.top) : int(box.bottom)]:
        row[columns] = [value] * len(row[columns])
