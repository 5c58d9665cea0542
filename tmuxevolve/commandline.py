"""A command as pasted from a terminal, taken apart without a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_CONTINUATION = re.compile(r"\\[ \t]*\r?\n")
_SUBSTITUTION = re.compile(r"`|\$\(")
_OPERATORS = frozenset("();<>|&")
_NO_SHELL = (
    "there is no shell here: give one program with its arguments,"
    ' or a list such as ["bash", "-c", "..."]'
)


def split(text: str) -> tuple[str, ...]:
    """Split a pasted command into words. Raises ValueError, whose text says what to do instead."""
    import shlex

    joined = _CONTINUATION.sub(" ", text)
    lexer = shlex.shlex(joined, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
        words = shlex.split(joined)
    except ValueError as error:
        raise ValueError(f"cannot split it into words: {str(error).lower()}") from None
    if tokens and tokens[-1] == "&":
        raise ValueError("leave out the '&' at the end: tmux keeps it running")
    if words and words[0] == "nohup":
        raise ValueError("leave out 'nohup': tmux keeps it running")
    # Quoted operators are part of a word, so the two ways of splitting differ only at real ones.
    operator = next((t for t in tokens if t and t not in words and _OPERATORS.issuperset(t)), None)
    if operator or tokens != words:
        raise ValueError(f"found {operator or 'a shell operator'!r}: {_NO_SHELL}")
    substitution = next((m for m in map(_SUBSTITUTION.search, words) if m), None)
    if substitution:
        raise ValueError(f"found {substitution[0]!r}: {_NO_SHELL}")
    assignment = _ASSIGNMENT.match(words[0]) if words else None
    if assignment:
        raise ValueError(f"put {assignment[1]} under env: instead of before the command")
    return tuple(words)


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Replace a leading ``~`` and ``$NAME``, ``${NAME}``. Raises ValueError for unknown names."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in variables:
            raise ValueError(f"${name} is not set")
        return variables[name]

    home = variables.get("HOME", "~") if word == "~" or word.startswith("~/") else ""
    return home + _VARIABLE.sub(value, word[1:] if home else word)
