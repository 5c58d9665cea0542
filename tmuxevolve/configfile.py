"""Find, read and check a sessions.yaml; every mistake is one line with file, line and key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from tmuxevolve import resolve, units, yamlfile
from tmuxevolve.config import FILE_NAME, Session, SessionEntry
from tmuxevolve.errors import UsageError
from tmuxevolve.yamlfile import Document, KeyPath

_FILE_VARIABLE = "TMUXEVOLVE_CONFIG"
_NAME_CHARS = 64
_LISTED = 20
# What tmux takes for target syntax, a format, or the start of an option; $ it writes as \$.
_BAD_IN_NAME = frozenset(":.#\\$")
_BAD_FIRST = frozenset("-=$@%+!{~^ ")
_PLACE = r" - at `\$(.*)`$"
_UNKNOWN = r"(?s)unknown field `(.*)`"
# Their values may be secrets: no message shows them.
_SECRET = (("env",), ("notify", "urls"), ("evolve", "storage"))


class Config(msgspec.Struct, frozen=True):
    """A sessions file: the default session's name and all sessions."""

    document: Document
    default: str | None
    sessions: dict[str, SessionEntry]

    def session(self, name: str | None, environ: Mapping[str, str]) -> Session:
        """Resolve one session; None is the default, or the only one.

        Raises UsageError when there is no such session, or its paths are not there.
        """
        chosen = self._choose(name)
        return resolve.session(self.document, chosen, self.sessions[chosen], environ)

    def _choose(self, name: str | None) -> str:
        names = list(self.sessions)
        chosen = name or self.default or (names[0] if len(names) == 1 else None)
        if chosen is None:
            raise UsageError(f"{self.document.path}: name a session: {_listed(names)}")
        if chosen not in self.sessions:
            keys = () if name else ("default",)
            raise self.document.error(
                keys, f"there is no session {_show(chosen)}{_hint(chosen, names)}"
            )
        return chosen


def find_file(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the sessions file to use. Raises UsageError that says where it was looked for."""
    if explicit or environ.get(_FILE_VARIABLE):
        path = (cwd / (explicit or environ[_FILE_VARIABLE])).absolute()
        if not exists(path):
            by = "" if explicit else f" (from ${_FILE_VARIABLE})"
            raise UsageError(f"{path}: no such file{by}")
        return path
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '~')}/.config"
    places = (cwd / FILE_NAME, Path(home) / "tmuxevolve" / FILE_NAME)
    for path in places:
        if exists(path):
            return path
    looked = ", ".join(map(str, places))
    raise UsageError(
        f"no {FILE_NAME}: looked for {looked}; name one with --file or ${_FILE_VARIABLE}"
    )


def exists(path: Path) -> bool:
    """Say whether something is there; what cannot be looked at is not."""
    try:
        return path.exists()
    except OSError:  # too long a name, a folder that may not be entered
        return False


def load(path: Path) -> Config:
    """Read and check a sessions file. Raises UsageError, one line with file, line and key."""
    document = yamlfile.load(path)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("sessions", {}), dict):
        raise document.error((), "expected `sessions:` with a session under it")
    for key in data:
        if key not in {"default", "sessions"}:
            what = f"unknown key{_hint(str(key), ['default', 'sessions'])}"
            raise document.error((str(key),), what)
    default = data.get("default")
    if default is not None and not isinstance(default, str):
        raise document.error(("default",), f"{_show(default)}: expected a session's name")
    entries = {
        name: _entry(document, name, entry) for name, entry in data.get("sessions", {}).items()
    }
    if not entries:
        raise document.error(("sessions",), "there is no session in it")
    return Config(document=document, default=default, sessions=entries)


def _entry(document: Document, name: Any, entry: Any) -> SessionEntry:
    keys: KeyPath = ("sessions", str(name))
    problem = _name_problem(name)
    if problem:
        raise document.error(keys, f"{_show(name)} cannot be a session's name: {problem}")
    if not isinstance(entry, dict):
        raise document.error(keys, f"{_show(entry)}: expected the session's keys")
    entry = _text_keys(entry)
    if isinstance(entry.get("env"), dict):
        entry = {**entry, "env": _env(document, (*keys, "env"), entry["env"])}
    try:
        return msgspec.convert(entry, SessionEntry, dec_hook=units.decode)
    except msgspec.ValidationError as error:
        raise _explain(document, keys, entry, str(error)) from None


def _name_problem(name: Any) -> str | None:
    if not isinstance(name, str):
        return "it is not a text; put it in quotes"
    bad = next((c for c in name if c in _BAD_IN_NAME or not c.isprintable()), None)
    if bad is not None:
        return f"tmux gives {bad!r} a meaning of its own"
    # To tmux, a word that ends in ; ends its command.
    if not name or name[0] in _BAD_FIRST or name != name.strip() or name[-1] == ";":
        return "tmux would not take it as it is"
    return f"longer than {_NAME_CHARS} characters" if len(name) > _NAME_CHARS else None


def _text_keys(value: Any) -> Any:
    """Make keys such as ``1`` text, so that they are unknown keys like any other."""
    if not isinstance(value, dict):
        return value
    return {str(key): _text_keys(inner) for key, inner in value.items()}


def _env(document: Document, keys: KeyPath, env: dict[str, Any]) -> dict[str, str]:
    """Keep numbers and words such as ``off`` as they are written: variables are text."""
    return {key: _variable(document, (*keys, key), value) for key, value in env.items()}


def _variable(document: Document, keys: KeyPath, value: Any) -> str:
    text = document.texts.get(keys)
    # Without the value in the message: it may be a secret.
    if text is None or isinstance(value, (dict, list)):
        raise document.error(keys, "expected one value")
    if value is None and not text:
        raise document.error(keys, 'no value; "" is an empty one')
    return text


def _explain(document: Document, keys: KeyPath, entry: Any, message: str) -> UsageError:
    """Turn msgspec's message into ours: its path, the line, the value and the nearest key."""
    place = re.search(_PLACE, message)
    what = re.sub(_PLACE, "", message).replace("`", "")
    inner = _key_path(place[1] if place else "", entry)
    unknown = re.search(_UNKNOWN, re.sub(_PLACE, "", message))
    if unknown:
        return document.error(
            (*keys, *inner, unknown[1]), f"unknown key{_hint(unknown[1], _fields(inner))}"
        )
    if "missing required field" in message:
        return document.error((*keys, *inner), what.replace("Object missing", "missing"))
    value = _at(entry, inner)
    # Of `off` and `yes` only the text is what was written.
    path = (*keys, *inner)
    shown = document.texts.get(path) if isinstance(value, bool) else None
    secret = any(inner[: len(keys)] == keys for keys in _SECRET)
    shown = "" if secret else f"{shown or _show(value)}: "
    return document.error(path, shown + _expected(inner, value, what))


def _expected(inner: KeyPath, value: Any, what: str) -> str:
    if what.startswith("Invalid enum value"):
        return f"invalid enum value{_hint(value, _words(_type(inner)))}"
    if "matching regex" in what:
        return 'expected a GPU such as 0, "1:0" or "GPU-8f2c..."'
    quotes = what.startswith("Expected str,") and isinstance(value, (int, float))
    return f"{what[:1].lower()}{what[1:]}{'; put it in quotes' if quotes else ''}"


def _key_path(place: str, entry: Any) -> KeyPath:
    """Read msgspec's ".gpus.use[0]", where a mapping's own keys are all "[...]"."""
    keys: KeyPath = ()
    for name, number in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place):
        key = name or number
        keys = (*keys, _culprit(_at(entry, keys), _type(keys)) if key == "..." else key)
    return keys


def _culprit(mapping: dict[str, Any], kind: Any) -> str:
    """Return the first key whose value is not of the mapping's kind."""
    return next(key for key, value in mapping.items() if not _fits(value, _inside(kind, key)))


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, dec_hook=units.decode)
    except msgspec.ValidationError:
        return False
    return True


def _at(value: Any, keys: KeyPath) -> Any:
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _type(inner: KeyPath) -> Any:
    kind: Any = SessionEntry
    for key in inner:
        kind = _inside(kind, key)
    return kind


def _inside(kind: Any, key: str) -> Any:
    """Return the type of what is at a key of a struct, a mapping or a list."""
    for part in _parts(kind):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return next(f.type for f in msgspec.structs.fields(part) if f.encode_name == key)
        if get_origin(part) in {dict, tuple}:
            return get_args(part)[get_origin(part) is dict]
    raise LookupError(kind)


def _parts(kind: Any) -> list[Any]:
    """Take unions and annotations apart."""
    if get_origin(kind) is Annotated:
        return _parts(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return [inner for part in get_args(kind) for inner in _parts(part)]
    return [kind]


def _fields(inner: KeyPath) -> Sequence[str]:
    kinds = (part for part in _parts(_type(inner)) if isinstance(part, type))
    struct = next(kind for kind in kinds if issubclass(kind, msgspec.Struct))
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _words(kind: Any) -> list[str]:
    """Return the words that a type takes: those of its Literals."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return list(parts)
    return [word for part in parts for word in _words(part)]


def _hint(word: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {_listed(known)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_LISTED], *["..."][: len(names) > _LISTED]])


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
