"""What a program prints, as texts, control characters and escape sequences, however it is cut.

The recorder loads it: no imports of weight.
"""

from __future__ import annotations

import codecs
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<text> [^\x00-\x1f\x7f-\x9f]+ )
    | (?P<csi> \x1b\[ (?P<numbers>[0-?]{0,64}) [ -/]{0,8} (?P<final>[@-~]) )
    | (?P<string> \x1b[\]P_^X] )            # a title, a colour table: up to its end
    | (?P<escape> \x1b (?P<intermediate>[ -/]{0,8}) (?P<letter>[0-OQ-WYZ\\`-~]) )
    | (?P<unfinished> \x1b (?: [ -/]{0,8} | \[ [0-?]{0,64} [ -/]{0,8} ) \Z )
    | (?P<broken> \x1b (?: \[ [0-?]{0,64} )? [ -/]{0,8} )
    | (?P<control> . )
    """,
    re.VERBOSE | re.DOTALL,
)
# An unterminated string ends with its line: else all that follows would be lost.
_STRING_END = re.compile(r"[\x07\x1b\x18\x1a\n]")


class Tokens:
    """A stream of bytes, and what is unfinished at its end."""

    def __init__(self) -> None:
        """Begin outside of everything."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._in_string = False

    def of(self, data: bytes, *, final: bool = False) -> Iterator[re.Match[str]]:
        """Yield what is whole now; the name of a match's last group says what it is."""
        text = self._rest + self._decoder.decode(data, final=final)
        self._rest = ""
        position = 0
        while position < len(text):
            if self._in_string:
                position = self._skip_string(text, position)
                continue
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup == "unfinished":
                self._rest = text[position:]
                return
            position = found.end()
            if found.lastgroup == "string":
                self._in_string = True
            else:
                yield found

    def _skip_string(self, text: str, position: int) -> int:
        found = _STRING_END.search(text, position)
        if found is None:
            return len(text)
        self._in_string = False
        # An escape sequence of its own follows, mostly the one that ends the string; so does \n.
        return found.start() if found[0] in "\x1b\n" else found.end()
