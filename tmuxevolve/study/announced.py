"""Which budget people were told to be spent: each one is announced once, by one worker."""

from __future__ import annotations

import msgspec

from tmuxevolve.study import files
from tmuxevolve.study.files import Files


class _Announced(msgspec.Struct, frozen=True):
    id: str
    generations: int


def first(where: Files, study: str, budget: int) -> bool:
    """Say whether this budget of a study was not announced before, and note that it is now.

    The caller holds the study's lock. Noted first and told then: whoever is killed in between has
    told nobody, and nobody is told twice. Raises OSError.
    """
    try:
        found = msgspec.json.decode(where.announced.read_bytes(), type=_Announced)
    except (FileNotFoundError, msgspec.DecodeError):
        found = None
    if found and found.id == study and found.generations >= budget:
        return False
    text = msgspec.json.encode(_Announced(study, budget)).decode()
    files.replace(where.announced, f"{text}\n")
    return True
