"""Read one YAML file into plain data, remembering the line of every key."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tmuxevolve.errors import UsageError

if TYPE_CHECKING:
    import yaml

_MAX_BYTES = 1 << 20
# An alias is one node however often it is used: what counts is the size written out in full.
_MAX_NODES = 10_000
# libyaml composes nested nodes by recursion in C: some 30,000 levels end the process by SIGSEGV.
_MAX_DEPTH = 50
# Linux takes no longer word in a command, and no longer variable.
_MAX_TEXT = 128 << 10
_SHOWN_KEY = 80
_TAG = "tag:yaml.org,2002:"

KeyPath = tuple[str, ...]


class Document(msgspec.Struct, frozen=True):
    """A YAML file's data; ``lines`` and ``texts`` hold line and raw text by key path."""

    path: Path
    data: Any
    lines: dict[KeyPath, int]
    texts: dict[KeyPath, str]

    def error(self, keys: KeyPath, what: str) -> UsageError:
        """Return an error that names the file, the line and the key."""
        known = keys
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        return UsageError(one_line(f"{self.path}:{line}: {_where(keys)}{what}"))


def load(path: Path) -> Document:
    """Load a YAML file. Raises UsageError, one line with the place, for all that is wrong in it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = _read(path)
    walk = _Walk(path)
    try:
        _refuse_large(path, yaml.parse(text, loader))
        node = yaml.compose(text, loader)
        data = None if node is None else walk.data(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise UsageError(one_line(f"{path}{where}: not valid YAML: {error.problem}")) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(one_line(f"{path}:{line}: not valid YAML: {error.reason}")) from None
    return Document(path, data, walk.lines, walk.texts)


def one_line(text: str) -> str:
    """Return a text without line breaks or control characters."""
    return " ".join(plain(text).split())


def plain(text: str) -> str:
    """Return a text with a blank for each character that a terminal would act on."""
    return "".join(c if c.isprintable() else " " for c in text)


def _where(keys: KeyPath) -> str:
    return f"{'.'.join(key[:_SHOWN_KEY] for key in keys)}: " if keys else ""


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: not a regular file")
        if status.st_size > _MAX_BYTES:
            raise UsageError(f"{path}: larger than 1 MiB, which no sessions file is")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file in UTF-8") from None


def _refuse_large(path: Path, events: Iterable[yaml.Event]) -> None:
    """Refuse deep nesting, and very many values, before any node is made of them."""
    from yaml import CollectionEndEvent, CollectionStartEvent, NodeEvent

    depth = nodes = 0
    for event in events:
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        nodes += isinstance(event, NodeEvent)
        if depth > _MAX_DEPTH:
            raise _too_deep(path, event)
        # A key is a node too.
        if nodes > 2 * _MAX_NODES:
            raise _too_many(path)


def _too_deep(path: Path, place: Any) -> UsageError:
    line = place.start_mark.line + 1
    return UsageError(f"{path}:{line}: not valid YAML: nested deeper than {_MAX_DEPTH} levels")


def _too_many(path: Path) -> UsageError:
    return UsageError(f"{path}: more than {_MAX_NODES} values, aliases written out")


class _Walk:
    """Visits every node once per use: counts them, finds duplicate keys, notes lines."""

    def __init__(self, path: Path) -> None:
        from yaml.constructor import SafeConstructor

        self.lines: dict[KeyPath, int] = {}
        self.texts: dict[KeyPath, str] = {}
        self._path = path
        self._nodes = 0
        self._constructor = SafeConstructor()

    def data(self, node: yaml.Node) -> Any:
        """Return what the document holds; only a whole walk shows that it may be made."""
        from yaml.constructor import SafeConstructor

        self._visit(node, (), 1)
        # A new one: the walk's remembers scalars as they were before they were made text.
        return SafeConstructor().construct_document(node)

    def _visit(self, node: yaml.Node, keys: KeyPath, depth: int) -> None:
        from yaml import MappingNode, ScalarNode, SequenceNode

        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _too_many(self._path)
        # Once more: an alias nests what it stands for, and may stand for itself.
        if depth > _MAX_DEPTH:
            raise _too_deep(self._path, node)
        if isinstance(node, MappingNode):
            self._mapping(node, keys, depth)
        elif isinstance(node, SequenceNode):
            for number, item in enumerate(node.value):
                self.lines.setdefault((*keys, str(number)), item.start_mark.line + 1)
                self._visit(item, (*keys, str(number)), depth + 1)
        elif isinstance(node, ScalarNode):
            self.texts.setdefault(keys, self._scalar(node, keys))

    def _mapping(self, node: yaml.MappingNode, keys: KeyPath, depth: int) -> None:
        seen: dict[str, int] = {}
        merged = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged.append(value)
                continue
            if key.tag == f"{_TAG}bool":
                # `on:` is a key, whatever YAML 1.1 makes of the word.
                key.tag = f"{_TAG}str"
            name, line = self._scalar(key, keys), key.start_mark.line + 1
            if name in seen:
                what = f"given twice, first on line {seen[name]}"
                raise self._error(key, (*keys, name), what)
            seen[name] = line
            self.lines.setdefault((*keys, name), line)
            self._visit(value, (*keys, name), depth + 1)
        # After the mapping's own keys, which win over merged ones.
        for value in merged:
            for part in value.value if value.id == "sequence" else [value]:
                self._visit(part, keys, depth + 1)

    def _scalar(self, node: yaml.Node, keys: KeyPath) -> str:
        """Return a scalar's text; let those be text that YAML 1.1 reads as nobody means them."""
        text = node.value
        if not isinstance(text, str):
            raise self._error(node, keys, "not valid YAML: a key cannot be a list or a mapping")
        if "\0" in text:
            raise self._error(node, keys, "a NUL byte cannot be in it")
        if len(text.encode(errors="replace")) >= _MAX_TEXT:
            what = f"{_MAX_TEXT >> 10} KiB or more, which no program can take"
            raise self._error(node, keys, what)
        try:
            text.encode()
            self._constructor.construct_object(node)
        except (ValueError, ArithmeticError, LookupError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise self._error(node, keys, f"not valid YAML: {text[:40]!r} is no {kind}") from None
        # 1:30 is 90 there, and so MIG instance 1:0 is GPU 60.
        sexagesimal = ":" in text and node.tag in {f"{_TAG}int", f"{_TAG}float"}
        if sexagesimal or node.tag == f"{_TAG}timestamp":
            node.tag = f"{_TAG}str"
        return text

    def _error(self, node: yaml.Node, keys: KeyPath, what: str) -> UsageError:
        line = node.start_mark.line + 1
        return UsageError(one_line(f"{self._path}:{line}: {_where(keys)}{what}"))
