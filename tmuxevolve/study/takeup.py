"""A study that begins to have its truth in a database: what its directory has goes there."""

from __future__ import annotations

from tmuxevolve.errors import UsageError
from tmuxevolve.study import definition, history, rows
from tmuxevolve.study.database import Database, Note, Told, as_told
from tmuxevolve.study.derived import Derived
from tmuxevolve.study.files import Files
from tmuxevolve.study.lock import locked
from tmuxevolve.study.rdb import name_of
from tmuxevolve.study.values import Search


def prepare(url: str, where: Files, search: Search) -> None:
    """Add the directory's finished generations to an empty database, or the other way round.

    Raises OSError, UsageError when the study is gone, and MissingError.
    """
    found = definition.load(where)
    if found is None:
        raise UsageError(f"{where.definition} is gone: run tmuxevolve start again")
    database = Database(url, name_of(found))
    try:
        with locked(where.lock):
            if not database.trials():
                _add(database, history.read(where.table, search.layout))
        Derived(where, search.layout, list(search.base)).complete(database.trials())
    finally:
        database.close()


def _add(database: Database, found: history.History) -> None:
    for generation in found.generations:
        hyp = {name: rows.canonical(value) for name, value in generation.hyp.items()}
        # Nobody knows when it ended; the order is kept.
        told = Told(as_told(generation.metrics), 0.0, float(generation.number))
        note = Note(generation=generation.number, owner="", hyp=hyp, told=told)
        database.add(note, generation.rank)
