"""Placeholders in a trainer's command: what a generation puts in their place.

``{hyp}`` is the path of a YAML file with the hyps, ``{hyp.lr0}`` one value, ``{generation}`` the
number, ``{output}`` the generation's folder, ``{seed}`` a whole number.
"""

from __future__ import annotations

from collections.abc import Sequence

from tmuxevolve import placeholders
from tmuxevolve.trainers import Training

_NAMES = r"hyp(?:\.[^{}]+)?|generation|output|seed"


def used(words: Sequence[str]) -> tuple[str, ...]:
    """Return the placeholders in these words, without their braces, each once."""
    return tuple(dict.fromkeys(name for word in words for name in placeholders.used(word, _NAMES)))


def fill(words: Sequence[str], training: Training) -> tuple[str, ...]:
    """Return the words with every placeholder filled in. Raises KeyError for an unknown hyp."""
    values = {
        "hyp": str(training.hyp_file),
        "generation": str(training.number),
        "output": str(training.folder),
        "seed": str(training.seed),
    }

    def value(name: str) -> str:
        _, dot, hyp = name.partition(".")
        return f"{training.hyp[hyp]:.5g}" if dot else values[name]

    return tuple(placeholders.fill(word, _NAMES, value) for word in words)
