"""A command as pasted from a terminal, taken apart without a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ASSIGNMENT = r"([A-Za-z_]\w*)="
_OPERATOR = r"&&|\|\||\$\(|[();<>|&`]"
_SUBSTITUTION = r"`|\$\("
_COMMENT = r"(?<!\S)#"
# A backslash and a blank where a word would begin: a line's end that YAML has folded into a blank.
_PIECE = r"""(?sx)(?P<single>'[^']*')
    | (?P<double>"(?:\\.|[^"\\])*")
    | (?P<joined>\\\r?\n)
    | (?P<folded>\\[ \t]+\r?\n|(?<!\S)\\[ \t]+)
    | (?P<escape>\\.)"""
_JOINTS = {"joined": "", "folded": " "}
_ESCAPE = r"(?s)\\(?:\r?\n|.)"
# What shlex leaves undone, within double quotes above all.
_ESCAPES = {"\\\n": "", "\\\r\n": "", "\\$": "$$", "\\`": "`"}
# Marks where a quoted part begins, for shlex takes the quotes away; no command has it in it.
_QUOTED = "\0"
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE = rf"\$(?:(\$)|({_NAME})|\{{({_NAME})\}}|(\{{[^}}]*\}}?|[0-9]))"
_NO_SHELL = (
    "there is no shell here: give one program with its arguments,"
    ' or a list such as ["bash", "-c", "..."]'
)


def split(text: str) -> tuple[str, ...]:
    """Split a pasted command into words for ``expand``.

    A quoted ``$`` comes out as ``$$``, and a quoted ``~`` that begins a word as ``~~``.

    Raises ValueError, whose text says what to do instead.
    """
    import shlex

    try:
        words = [_unmarked(word) for word in shlex.split(re.sub(_PIECE, _for_shlex, text))]
    except ValueError as error:
        raise ValueError(f"cannot split it into words: {str(error).lower()}") from None
    if words and words[0] == "nohup":
        raise ValueError("leave out 'nohup': tmux keeps it running")
    _refuse_shell(re.sub(_PIECE, _bare, text).strip())
    assignment = re.match(_ASSIGNMENT, words[0]) if words else None
    if assignment:
        raise ValueError(f"put {assignment[1]} under env: instead of before the command")
    return tuple(words)


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Replace a leading ``~/``, ``$NAME`` and ``${NAME}``.

    ``$$`` is a plain ``$``, and a leading ``~~`` a plain ``~``.

    Raises ValueError for a variable that is not set, and for what only a shell could fill in.
    """

    def value(match: re.Match[str]) -> str:
        dollar, short, long, other = match.groups()
        if other:
            raise ValueError(f"${other[:20]}: only $NAME and ${{NAME}} are known; $$ is a plain $")
        return dollar or _value(short or long, variables)

    if word == "~" or word.startswith("~/"):
        return _value("HOME", variables) + re.sub(_VARIABLE, value, word[1:])
    return re.sub(_VARIABLE, value, word[1:] if word.startswith("~~") else word)


def _value(name: str, variables: Mapping[str, str]) -> str:
    if name not in variables:
        raise ValueError(f"${name} is not set")
    return variables[name]


def _for_shlex(match: re.Match[str]) -> str:
    piece, kind = match[0], match.lastgroup
    if kind == "single":
        return f"'{_QUOTED}{piece[1:]}".replace("$", "$$")
    if kind == "double":
        inner = re.sub(_ESCAPE, lambda escape: _ESCAPES.get(escape[0], escape[0]), piece[1:])
        return f'"{_QUOTED}{inner}'
    if kind == "escape":
        return _QUOTED + _ESCAPES.get(piece, piece)
    return _JOINTS.get(kind or "", piece)


def _unmarked(word: str) -> str:
    plain = word.replace(_QUOTED, "")
    literal = word.startswith(_QUOTED) and plain.startswith("~")
    return f"~{plain}" if literal or plain.startswith("~~") else plain


def _bare(match: re.Match[str]) -> str:
    """Keep of a quoted part only what a shell would still act on within double quotes."""
    piece, kind = match[0], match.lastgroup
    if kind == "double":
        return " ".join(re.findall(_SUBSTITUTION, re.sub(_ESCAPE, "", piece))) or "_"
    return _JOINTS.get(kind or "", "_")


def _refuse_shell(bare: str) -> None:
    if bare.endswith("&") and not bare.endswith("&&"):
        raise ValueError("leave out the '&' at the end: tmux keeps it running")
    operator = re.search(_OPERATOR, bare)
    if operator:
        raise ValueError(f"found {operator[0]!r}: {_NO_SHELL}")
    if re.search(_COMMENT, bare):
        raise ValueError("found '#': a comment cannot be in it; quote the '#' if it is none")
