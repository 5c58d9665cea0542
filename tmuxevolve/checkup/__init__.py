"""What would keep a session from running, found before it runs: one check for each thing.

A check looks at one thing and returns what it found; it changes nothing, and what goes wrong in it
is one more finding. `session.check` runs them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tmuxevolve.config import Session
from tmuxevolve.gpus import Snapshot
from tmuxevolve.multiplexer import Multiplexer
from tmuxevolve.trainers.inspection import Inspection


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a check has found, and what to do about it; nothing has to be done where it passes."""

    name: str
    state: Literal["pass", "warn", "fail"]
    found: str
    mend: str | None = None


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks look at: a session, and one look at the machine for all of them.

    ``snapshot`` is None when the session wants no GPU. ``on_gpu`` is None where there is no place
    for any worker. ``inspection`` is None when the command cannot be read.
    """

    session: Session
    environ: Mapping[str, str]
    mux: Multiplexer
    trainer: str
    snapshot: Snapshot | None
    on_gpu: bool | None
    workers: int
    inspection: Inspection | None


def passed(name: str, found: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name=name, state="pass", found=found)


def warned(name: str, found: str, mend: str) -> Check:
    """Return a check that found something which may be meant."""
    return Check(name=name, state="warn", found=found, mend=mend)


def failed(name: str, found: str, mend: str) -> Check:
    """Return a check that found what keeps the session from running."""
    return Check(name=name, state="fail", found=found, mend=mend)
