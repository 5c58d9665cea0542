"""Our small C files, compiled once per machine and user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def library(source: Path, name: str, *flags: str) -> Path:
    """Return the compiled shared library; skip the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip(f"no C compiler for {source.name}")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tmuxevolve-{source.stem}-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = folder / "part.so"
            basic = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra")
            subprocess.run([compiler, *basic, "-o", part, source, *flags], check=True)
            part.rename(made)
    return made
