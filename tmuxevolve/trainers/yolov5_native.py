"""YOLOv5's own --evolve, with its writing to a shared evolve.csv made safe.

    python yolov5_native.py train.py OPTIONS...
    python yolov5_native.py -m yolov5.train OPTIONS...

print_mutation() writes the header when it finds no evolve.csv. Of several workers that finish their
first generation together more than one does, and another may read the file while it is empty: both
end YOLOv5's search, and every later one in that folder. So print_mutation() is given a lock, in
memory, and the first row appears together with its header. The checkout stays as it is.

Standard library only, and for the Python of YOLOv5's time (3.7).
"""

from __future__ import annotations

import fcntl
import runpy
import sys
from pathlib import Path
from typing import Any, Callable, Sequence  # noqa: UP035

# This file's own folder is the first on the path while it starts.
from yolov5_runner import imported  # type: ignore[import-not-found]

_TABLE = "evolve.csv"


def main(words: Sequence[str]) -> None:
    """Load the trainer and run it as its user wrote."""
    module = imported(words)
    if not all(callable(getattr(module, name, None)) for name in ("main", "parse_opt")):
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    if callable(getattr(module, "print_mutation", None)):
        setattr(module, "print_mutation", one_at_a_time(module.print_mutation))  # noqa: B010
    module.main(module.parse_opt())


def one_at_a_time(write: Any) -> Callable[..., Any]:
    """Return print_mutation() for processes that share its folder, the one path it is given."""

    def written(*args: Any, **kwargs: Any) -> Any:
        folder = next((a for a in (*args, *kwargs.values()) if isinstance(a, Path)), None)
        if folder is None:
            return write(*args, **kwargs)
        with (folder / ".evolve.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            table = folder / _TABLE
            if table.exists() and table.stat().st_size:
                return write(*args, **kwargs)
            return _first(write, folder, args, kwargs)

    return written


def _first(write: Any, folder: Path, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Have the first row written elsewhere, and put it in place with its header at once."""
    aside = folder / ".first"
    aside.mkdir(exist_ok=True)
    for path in aside.iterdir():
        path.unlink()
    there = [aside if a is folder else a for a in args]
    options = {name: aside if a is folder else a for name, a in kwargs.items()}
    returned = write(*there, **options)
    for path in aside.iterdir():
        path.replace(folder / path.name)
    aside.rmdir()
    return returned


if __name__ == "__main__":
    main(sys.argv[1:])
