"""A worker of a study with a storage, whose trainings take no time.

python rdb_worker.py URL RESULTS NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import study_worker as instant

from tmuxevolve.study.heartbeat import myself
from tmuxevolve.study.opening import AskTell, join, prepare


def joined(url: str | None, results: Path, name: str, sampler: str = "yolov5") -> AskTell:
    """Join the study as a worker of this name."""
    search = msgspec.structs.replace(instant.search(sampler), storage=url)
    prepare(results, search)
    return join(results, search, myself(name, name))


def main(url: str, results: str, name: str) -> None:
    study = joined(url if "://" in url else None, Path(results), name)
    while reservation := study.ask():
        study.tell(reservation, instant.result(reservation.hyp))
    study.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
