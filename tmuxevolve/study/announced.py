"""Which budget people were told to be spent: each one is announced once, by one worker."""

from __future__ import annotations

import msgspec

from tmuxevolve.study import definition, files
from tmuxevolve.study.files import Files
from tmuxevolve.study.lock import locked
from tmuxevolve.study.survey import Survey, survey


class _Announced(msgspec.Struct, frozen=True):
    id: str
    generations: int


def spent(where: Files) -> Survey | None:
    """Return how far the study is, to the first of all workers that asks when its budget is spent.

    To the others, before that and after, None. Raises OSError, and UsageError for a damaged study.
    """
    found, study = survey(where.results), definition.load(where)
    if not found or not study or found.finished < found.budget:
        return None
    # What was looked at stays true without the lock: a spent budget is spent.
    with locked(where.lock):
        return found if _is_first(where, study.id, found.budget) else None


def _is_first(where: Files, study: str, budget: int) -> bool:
    """Say whether this budget of a study was not announced before, and note that it is now.

    Noted first and told then: whoever is killed in between has told nobody, and nobody is told
    twice.
    """
    try:
        before = msgspec.json.decode(where.announced.read_bytes(), type=_Announced)
    except (FileNotFoundError, msgspec.DecodeError):
        before = None
    if before and before.id == study and before.generations >= budget:
        return False
    text = msgspec.json.encode(_Announced(study, budget)).decode()
    files.replace(where.announced, f"{text}\n")
    return True
