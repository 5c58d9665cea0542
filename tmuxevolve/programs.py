"""Run other people's programs: words in, words out, whatever the locale."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from tmuxevolve.errors import MissingError


def find(program: str) -> str | None:
    """Return where a program is on the PATH; None when it is not.

    shutil.which does the same, but its import takes longer than most commands have to look.
    """
    paths = (f"{folder}/{program}" for folder in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def run(
    argv: Sequence[str],
    install: str,
    environ: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program without input and return what it said.

    Raises MissingError, with what to ``install``, when there is no such program, and
    subprocess.TimeoutExpired.
    """
    try:
        return subprocess.run(
            argv,
            env=environ,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError:
        raise MissingError(f"{argv[0]} is not on the PATH: {install}") from None
