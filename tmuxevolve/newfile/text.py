"""The text of a new sessions.yaml: short, with a comment where something is to be changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tmuxevolve.gpus import Snapshot
from tmuxevolve.trainers.proposals import Proposal

GENERATIONS = 300
RESULTS = "runs/search"
CPU_SLOTS = 2
_WIDTH = 84
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


class Place(msgspec.Struct, frozen=True):
    """Where the file will be, and the folder that it is for; both absolute."""

    file: Path
    workdir: Path


def compose(place: Place, proposal: Proposal, snapshot: Snapshot, schema: Path) -> str:
    """Return the text."""
    name = "search" if proposal.trainer == "command" else proposal.trainer
    lines = [
        f"# yaml-language-server: $schema={schema.as_uri()}",
        f"# Written by `tmuxevolve init`: {comment(proposal.what)}.",
        "# Only the keys that matter are here. All of them: docs/sessions-yaml.md in tmuxevolve's",
        "# repository, `tmuxevolve schema`, or completion in an editor with yaml-language-server.",
        "",
        "sessions:",
        f"  {name}:",
        *(f"    {line}" if line else "" for line in _session(place, proposal, snapshot)),
    ]
    return "\n".join(lines) + "\n"


def _session(place: Place, proposal: Proposal, snapshot: Snapshot) -> Iterator[str]:
    here = place.file.parent.resolve() == place.workdir.resolve()
    if "workdir" in proposal.todo:
        yield from _changes(proposal, ["workdir"])
        yield "# workdir: ~/yolov5"
    elif not here:
        yield f"workdir: {_expanded(place.workdir)}"
    without = f", without {proposal.added}: those are added" if proposal.added else ""
    where = "in this folder" if here and "workdir" not in proposal.todo else "in workdir"
    yield f"# What you would type {where}{without}."
    keys = [name for name in proposal.todo if name.partition(",")[0] in proposal.evolve]
    yield from _changes(proposal, [n for n in proposal.todo if n not in {"workdir", *keys}])
    yield from (f"# {name}: {comment(what)}" for name, what in proposal.also.items())
    yield from command(proposal.words)
    if proposal.trainer == "command":
        yield "trainer: command"
    yield ""
    yield "# The one folder that all windows share: evolve.csv, the best hyps, generations/."
    yield f"results: {RESULTS if here else _expanded(place.workdir / RESULTS)}"
    yield ""
    yield "# The budget, of all windows together: a generation is one run of the command."
    yield "evolve:"
    yield f"  generations: {GENERATIONS}"
    yield from (f"  {line}" for line in _changes(proposal, keys))
    yield from (f"  {key}: {value}" for key, value in proposal.evolve.items())
    yield ""
    yield from _machine(snapshot)


def _changes(proposal: Proposal, names: Sequence[str]) -> Iterator[str]:
    yield from (f"# TO CHANGE: {name}: {comment(proposal.todo[name])}" for name in names)


def _machine(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.gpus:
        yield f"# Seen: {comment(gpus(snapshot))}. A window on each that nobody uses;"
        yield "# use: [0, 2] names some, and `tmuxevolve gpus` lists them."
        yield "gpus: {use: free}"
        return
    if snapshot.broken:
        yield f"# {comment(snapshot.problem or 'the driver does not answer')}:"
        yield "# `tmuxevolve check` says when it is mended."
        yield "gpus: {use: free}"
        return
    yield f"# {comment(snapshot.problem or 'no NVIDIA GPU')}:"
    yield "# so many windows train on the CPU, for a trial."
    yield f"cpu_slots: {CPU_SLOTS}"


def gpus(snapshot: Snapshot) -> str:
    """Return how many GPUs of which kind there are: "2 NVIDIA H100"."""
    names = [gpu.name for gpu in snapshot.gpus]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def command(words: Sequence[str]) -> Iterator[str]:
    """Return the key `command` as one would type it; as a list where a shell's words cannot."""
    if not all(word.isprintable() for word in words):
        yield f"command: [{', '.join(map(quoted, words))}]"
        return
    yield "command: |"
    line = ""
    for part in _options(words):
        if len(line) + len(part) > _WIDTH:
            yield f"{line} \\"
            line = " " * 3
        line = f"{line} {part}" if line else f"  {part}"
    yield line


def _options(words: Sequence[str]) -> Iterator[str]:
    """Return the words as a shell takes them, an option and its value together."""
    left = [*map(shlex.quote, words)]
    while left:
        word = left.pop(0)
        value = word.startswith("--") and left and not left[0].startswith("--")
        yield f"{word} {left.pop(0)}" if value else word


def quoted(text: str) -> str:
    """Return a text in double quotes, whatever is in it."""
    return f'"{"".join(map(_escaped, text))}"'


def comment(text: str) -> str:
    """Return a text that stays a comment: on one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _escaped(char: str) -> str:
    # A byte that is no text stays what it is, and the file cannot be written.
    as_it_is = char.isprintable() or "\ud800" <= char <= "\udfff"
    return _ESCAPES.get(char) or (char if as_it_is else f"\\U{ord(char):08x}")


def _expanded(path: Path) -> str:
    """Return a path as a value in which `$` is filled in."""
    return quoted(str(path).replace("$", "$$"))
