"""init: write a sessions.yaml for what is in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from tmuxevolve import gpus, schema
from tmuxevolve.config import FILE_NAME
from tmuxevolve.errors import UsageError
from tmuxevolve.newfile import folder, text
from tmuxevolve.newfile.text import Place
from tmuxevolve.trainers import proposals
from tmuxevolve.trainers.proposals import Proposal


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, by what it is; what to change in the file, by the word there.

    ``usual`` says that the other commands find the file by themselves.
    """

    file: str
    usual: bool
    found: Mapping[str, str]
    todo: Mapping[str, str]


def init(file: Path, workdir: Path, environ: Mapping[str, str]) -> Written:
    """Write the file. Raises UsageError when there is one already, or it cannot be made."""
    snapshot = gpus.snapshot(environ)
    seen = folder.look(workdir, environ, len(snapshot.gpus) or text.CPU_SLOTS)
    proposal = proposals.propose(seen)
    _write(file, text.compose(Place(file, workdir), proposal, snapshot, schema.INSTALLED))
    machine = text.gpus(snapshot) if snapshot.gpus else f"none: {snapshot.problem}"
    found = {"trainer": proposal.what, **_parts(proposal), "GPUs": machine}
    usual = file == workdir / FILE_NAME
    return Written(file=str(file), usual=usual, found=found, todo=proposal.todo)


def _parts(proposal: Proposal) -> dict[str, str]:
    parts = {"program": proposal.words[0], "data": proposal.data, "weights": proposal.weights}
    return {name: part for name, part in parts.items() if part}


def _write(file: Path, content: str) -> None:
    """Write a new file; nobody's is replaced, and none is left half written."""
    try:
        data = content.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{file.parent}: the folder's name is no text in UTF-8") from None
    try:
        stream = file.open("xb")
    except FileExistsError:
        raise UsageError(f"{file}: there is one already; name another with -f") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    try:
        with stream:
            stream.write(data)
    except OSError:
        with suppress(OSError):
            file.unlink()
        raise
