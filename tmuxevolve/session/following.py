"""What a window does that follows a job: show it when it runs, say why when it does not."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tmuxevolve import slurm
from tmuxevolve.errors import ExitStatus, TmuxEvolveError
from tmuxevolve.slurm import Job, JobState, view
from tmuxevolve.terminal import say

# A cluster's controller serves all its users: the longer a job waits, the less it is asked.
_FIRST_LOOK, _LAST_LOOK, _SLOWER = 0.5, 20.0, 1.3
_LINES = 5


class Following:
    """One job. To end this ends nothing else."""

    def __init__(self, job: str, output: Path | None) -> None:
        """Name the job, and the folder with jobs' own output."""
        self._job = job
        self._output = output
        self._told = ""
        self._pause = _FIRST_LOOK

    def until_over(self) -> int:
        """Follow the job until it is over; return its exit status."""
        last: Job | None = None
        while True:
            try:
                found = slurm.find(self._job)
            except TmuxEvolveError as error:
                self._tell(f"{error}; the job goes on, and this looks again")
            else:
                if found is None or found.state.is_over():
                    return self._end(found or last)
                last = found
                self._look(found)
            self._wait()

    def _look(self, found: Job) -> None:
        if found.state.is_queued():
            self._tell(f"job {self._job} is {found.state.value.lower()}: {found.reason}")
        elif found.state is JobState.RUNNING:
            if self._tell(f"job {self._job} runs on {found.node}"):
                self._pause = _FIRST_LOOK
            before = time.monotonic()
            view.show(self._job)
            if time.monotonic() - before > self._pause:
                # It has ended, or is queued again: to be seen at once.
                self._pause = _FIRST_LOOK

    def _end(self, found: Job | None) -> int:
        status = self._exit_status(found)
        word = found.state.value if found and found.state.is_over() else "gone"
        say(f"job {self._job} is {word.lower()} (exit {status})")
        if status:
            self._show_output()
        return status

    def _exit_status(self, found: Job | None) -> int:
        ok = found is not None and found.state is JobState.COMPLETED
        try:
            status = slurm.exit_status(self._job)
        except TmuxEvolveError:
            status = None
        if status is None:
            return ExitStatus.OK if ok else ExitStatus.FAILURE
        # A job that was cancelled, or whose node died, has not done what it was to do.
        return status if ok or status else ExitStatus.FAILURE

    def _show_output(self) -> None:
        """Print the end of what the job itself said, beside its step: why nothing has begun."""
        if self._output is None:
            return
        path = self._output / f"{self._job}.out"
        try:
            lines = path.read_text(errors="replace").splitlines()[-_LINES:]
        except OSError:
            return
        for line in lines:
            say(line)

    def _tell(self, text: str) -> bool:
        """Say something new; return whether it was."""
        if text == self._told:
            return False
        self._told = text
        say(text)
        return True

    def _wait(self) -> None:
        sys.stdout.flush()
        time.sleep(self._pause)
        self._pause = min(_LAST_LOOK, self._pause * _SLOWER)
