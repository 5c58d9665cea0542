"""How long it will take: pure estimates, in seconds, from what has happened so far."""

from __future__ import annotations

from collections.abc import Sequence

from tmuxevolve.trainers.progress import Progress

# A bar counts whole seconds: of shorter epochs it says next to nothing.
_COARSE = 3.0


def of_training(progress: Progress | None, elapsed: float | None) -> float | None:
    """Return how long a training will take yet; ``elapsed`` is how long it has been at work.

    After the first epoch its whole time counts, with validations. Before that, and where nobody
    knows when it began, the bar's own estimate for one epoch does, for all that are left.
    """
    if progress is None:
        return None
    found, share = progress.bar, progress.share
    left = None if found is None else 0.0 if found.share >= 1 else found.left
    one = None if not found or found.elapsed is None or left is None else found.elapsed + left
    if elapsed is not None and share and (progress.epoch > 1 or one is None or one < _COARSE):
        return elapsed * (1 - share) / share
    if one is None or left is None:
        return None
    return left + one * (progress.epochs - progress.epoch)


def of_study(left: int, seconds: Sequence[float], running: Sequence[float | None]) -> float | None:
    """Return how long it takes until ``left`` generations are finished.

    ``seconds`` is what finished ones took; ``running`` has an entry for each that is being trained,
    with how long it takes yet where that is known. All that is left is shared among these.
    """
    if left <= 0:
        return 0.0
    if not running:
        return None
    known = [rest for rest in running if rest is not None]
    if not seconds and len(known) < len(running):
        return None
    each = sum(seconds) / len(seconds) if seconds else None
    if each is None:
        return max(known) if left <= len(running) else None
    begun = [each / 2 if rest is None else rest for rest in running]
    waiting = max(0, left - len(begun))
    return max(*begun, (sum(begun) + waiting * each) / len(begun))
