"""A command as pasted from a terminal, taken apart without a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_CONTINUATION = re.compile(r"\\[ \t]*\r?\n")
_SUBSTITUTION = re.compile(r"`|\$\(")
_QUOTED = re.compile(r"""'[^']*'|"((?:\\.|[^"\\])*)"|\\.""", re.DOTALL)
_OPERATOR = re.compile(r"&&|\|\||\$\(|[();<>|&`]")
_NO_SHELL = (
    "there is no shell here: give one program with its arguments,"
    ' or a list such as ["bash", "-c", "..."]'
)


def split(text: str) -> tuple[str, ...]:
    """Split a pasted command into words. Raises ValueError, whose text says what to do instead."""
    import shlex

    joined = _CONTINUATION.sub(" ", text)
    try:
        words = shlex.split(joined)
    except ValueError as error:
        raise ValueError(f"cannot split it into words: {str(error).lower()}") from None
    bare = _QUOTED.sub(_without_quotes, joined).strip()
    if words and words[0] == "nohup":
        raise ValueError("leave out 'nohup': tmux keeps it running")
    if bare.endswith("&") and not bare.endswith("&&"):
        raise ValueError("leave out the '&' at the end: tmux keeps it running")
    operator = _OPERATOR.search(bare)
    if operator:
        raise ValueError(f"found {operator[0]!r}: {_NO_SHELL}")
    assignment = _ASSIGNMENT.match(words[0]) if words else None
    if assignment:
        raise ValueError(f"put {assignment[1]} under env: instead of before the command")
    return tuple(words)


def _without_quotes(quoted: re.Match[str]) -> str:
    """Keep of a quoted part only what a shell would still act on within double quotes."""
    return " ".join(_SUBSTITUTION.findall(quoted[1] or "")) or "_"


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Replace a leading ``~`` and ``$NAME``, ``${NAME}``. Raises ValueError for unknown names."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in variables:
            raise ValueError(f"${name} is not set")
        return variables[name]

    home = variables.get("HOME", "~") if word == "~" or word.startswith("~/") else ""
    return home + _VARIABLE.sub(value, word[1:] if home else word)
