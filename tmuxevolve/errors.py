"""Exit codes and the errors that carry them. Imports nothing of ours."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitStatus(IntEnum):
    """Exit codes of ``tmuxevolve``, by kind of outcome."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOTHING_FREE = 3
    NOT_RUNNING = 4
    MISSING = 5
    INTERRUPTED = 130


class TmuxEvolveError(Exception):
    """An error a user can cause or mend; its text is one line for people."""

    exit_status = ExitStatus.FAILURE


class UsageError(TmuxEvolveError):
    """The command line or the configuration is wrong."""

    exit_status = ExitStatus.USAGE


class NothingFreeError(TmuxEvolveError):
    """No GPU (or CPU slot) can take a worker now."""

    exit_status = ExitStatus.NOTHING_FREE


class NotRunningError(TmuxEvolveError):
    """There is no such running session or window."""

    exit_status = ExitStatus.NOT_RUNNING


class MissingError(TmuxEvolveError):
    """tmux, the NVIDIA driver or another part of the machine is missing or too old."""

    exit_status = ExitStatus.MISSING


class NothingFoundError(TmuxEvolveError):
    """There are no results to look at."""

    exit_status = ExitStatus.NOT_RUNNING
