"""Placeholders in a command's words: what a generation puts in their place.

``{hyp}`` is the path of a YAML file with the hyps, ``{hyp.lr0}`` one value, ``{generation}`` the
number, ``{output}`` the generation's folder, ``{seed}`` a whole number. Doubled braces,
``{{output}}``, stand for the text itself. Other braces are left alone, since programs have their
own uses for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tmuxevolve.trainers import Training

_NAME = r"hyp(?:\.(?P<{0}>[^{{}}]+))?|generation|output|seed"
_PLACEHOLDER = r"\{\{(?:" + _NAME.format("_1") + r")\}\}|\{(?:" + _NAME.format("hyp") + r")\}"


def used(words: Sequence[str]) -> tuple[str, ...]:
    """Return the placeholders in these words, without their braces, each once."""
    found = (match for word in words for match in re.finditer(_PLACEHOLDER, word))
    return tuple(dict.fromkeys(m.group()[1:-1] for m in found if not _is_escaped(m)))


def fill(words: Sequence[str], training: Training) -> tuple[str, ...]:
    """Return the words with every placeholder filled in. Raises KeyError for an unknown hyp."""
    values = {
        "hyp": str(training.hyp_file),
        "generation": str(training.number),
        "output": str(training.folder),
        "seed": str(training.seed),
    }
    return tuple(_fill(word, values, training.hyp) for word in words)


def _fill(word: str, values: Mapping[str, str], hyp: Mapping[str, float]) -> str:
    def value(match: re.Match[str]) -> str:
        if _is_escaped(match):
            return match.group()[1:-1]
        name = match["hyp"]
        return f"{hyp[name]:.5g}" if name else values[match.group()[1:-1]]

    return re.sub(_PLACEHOLDER, value, word)


def _is_escaped(match: re.Match[str]) -> bool:
    return match.group().startswith("{{")
