"""What a finished training leaves in its folder that nobody needs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove weights, which trainers write whatever they are told, and TensorBoard's events.

    Raises OSError.
    """
    import shutil

    with suppress(FileNotFoundError):
        shutil.rmtree(folder / "weights")
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink()
