"""Hyps to begin with: read from a YAML file, or given in the session itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError

if TYPE_CHECKING:
    from tmuxevolve.yamlfile import Document


def read(path: Path) -> dict[str, float]:
    """Read a file with one ``name: number`` a line. Raises UsageError with the file and line."""
    document = mapping(path)
    return {str(name): number(document, name, value) for name, value in document.data.items()}


def mapping(path: Path) -> Document:
    """Load a file that has hyps in it. Raises UsageError when it is no mapping, or empty."""
    from tmuxevolve import yamlfile

    document = yamlfile.load(path)
    if not isinstance(document.data, Mapping) or not document.data:
        raise document.error((), "expected hyps, one `name: number` a line")
    return document


def given(session: Session) -> dict[str, float]:
    """Return what the session's ``evolve.hyp`` says: hyps, or a file in the workdir.

    Empty when it says nothing. Raises UsageError.
    """
    hyp = session.evolve.hyp
    if isinstance(hyp, str):
        path = session.workdir / Path(hyp).expanduser()
        if not path.is_file():
            raise refused(session, "hyp", f"{path}: no such file")
        return read(path)
    found = hyp or {}
    odd = next((name for name, value in found.items() if not math.isfinite(value)), None)
    if odd is not None:
        raise refused(session, f"hyp.{odd}", "expected a finite number")
    return found


def refused(session: Session, key: str, what: str) -> UsageError:
    """Return an error about a key of the session's ``evolve``."""
    return UsageError(f"{session.source}: sessions.{session.name}.evolve.{key}: {what}")


def number(document: Document, name: object, value: object) -> float:
    """Return a hyp, or raise UsageError.

    YAML 1.1 takes 1e-5 for text, and so do the trainers: they would fail on it.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise document.error((str(name),), f"{value!r}: expected a number, such as 1.0e-5")
    return float(value)
