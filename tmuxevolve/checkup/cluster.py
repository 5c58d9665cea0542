"""Slurm: whether it is there, and would take the session's jobs."""

from __future__ import annotations

import sys

from tmuxevolve import slurm
from tmuxevolve.checkup import Check, Scene, failed, passed
from tmuxevolve.errors import TmuxEvolveError
from tmuxevolve.session import submission

_NAME = "Slurm"


def check(scene: Scene) -> Check | None:
    """Ask Slurm about one of the session's jobs; None where the launcher is another one."""
    wanted = scene.session.slurm
    if wanted is None:
        return None
    try:
        slurm.check()
        slurm.test(submission.options(scene.session, "job0"), (sys.executable,))
    except TmuxEvolveError as error:
        return failed(_NAME, str(error), "see slurm: in the sessions file; sinfo lists partitions")
    jobs = "1 job" if wanted.workers == 1 else f"{wanted.workers} jobs"
    return passed(_NAME, f"would take {jobs}; this Python and the results must be on the nodes too")
