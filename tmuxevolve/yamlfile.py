"""Read one YAML file into plain data, remembering the line of every key."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmuxevolve.errors import UsageError

if TYPE_CHECKING:
    import yaml

_MAX_BYTES = 1 << 20
# An alias is one node however often it is used: what counts is the size written out in full.
_MAX_NODES = 10_000

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
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
        where = f"{'.'.join(keys)}: " if keys else ""
        return UsageError(one_line(f"{self.path}:{line}: {where}{what}"))


def load(path: Path) -> Document:
    """Load a YAML file. Raises UsageError, one line with the place, for all that is wrong in it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = _read(path)
    try:
        node = yaml.compose(text, loader)
        walk = _Walk(path)
        if node is not None:
            walk.visit(node, ())
        data = yaml.load(text, loader)  # noqa: S506  (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise UsageError(one_line(f"{path}{where}: not valid YAML: {error.problem}")) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(one_line(f"{path}: not valid YAML: {error}")) from None
    return Document(path, data, walk.lines, walk.texts)


def one_line(text: str) -> str:
    """Return a text without line breaks or control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


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


class _Walk:
    """Visits every node once per use: counts them, finds duplicate keys, notes lines."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.texts: dict[KeyPath, str] = {}
        self._path = path
        self._nodes = 0

    def visit(self, node: yaml.Node, keys: KeyPath) -> None:
        from yaml import MappingNode, SequenceNode

        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise UsageError(f"{self._path}: more than {_MAX_NODES} values, aliases written out")
        if isinstance(node, MappingNode):
            self._mapping(node, keys)
        elif isinstance(node, SequenceNode):
            for number, item in enumerate(node.value):
                self.lines.setdefault((*keys, str(number)), item.start_mark.line + 1)
                self.visit(item, (*keys, str(number)))
        else:
            self.texts.setdefault(keys, str(node.value))

    def _mapping(self, node: yaml.MappingNode, keys: KeyPath) -> None:
        seen: dict[str, int] = {}
        merged = []
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                merged.append(value)
                continue
            if name in seen:
                where = ".".join((*keys, name))
                raise UsageError(
                    one_line(
                        f"{self._path}:{line}: {where}: given twice, first on line {seen[name]}"
                    )
                )
            seen[name] = line
            self.lines.setdefault((*keys, name), line)
            self.visit(value, (*keys, name))
        # After the mapping's own keys, which win over merged ones.
        for value in merged:
            for part in value.value if value.id == "sequence" else [value]:
                self.visit(part, keys)
