"""Placeholders in a command's words: ``{name}`` stands for a value, ``{{name}}`` for itself.

Other braces are left alone, since programs have their own uses for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

WORD = "[A-Za-z_]+"
"""Names that are words."""


def used(word: str, names: str) -> Iterator[str]:
    """Return the placeholders in a word, without their braces; ``names`` is a regex for them."""
    return (match[2] for match in re.finditer(_pattern(names), word) if match[2])


def fill(word: str, names: str, value: Callable[[str], str]) -> str:
    """Return the word with every placeholder's value in its place."""
    return re.sub(_pattern(names), lambda m: value(m[2]) if m[2] else f"{{{m[1]}}}", word)


def _pattern(names: str) -> str:
    return rf"\{{\{{({names})\}}\}}|\{{({names})\}}"
