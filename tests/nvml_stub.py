"""A fake libnvidia-ml.so.1 under the real pynvml: compiled once, driven by a state file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "nvml" / "nvmlstub.c"
FLAGS = "-shared -fPIC -O1 -Wall -Wextra -fvisibility=hidden -pthread -Wl,-soname,libnvidia-ml.so.1"


def library_folder() -> Path:
    """Return the folder with the compiled library; skip the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler for the NVML stub")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tmuxevolve-nvml-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            part = folder / "part.so"
            subprocess.run([compiler, *FLAGS.split(), "-o", part, SOURCE], check=True)
            part.rename(library)
    return folder


class NvmlStub:
    """GPUs of a pretended machine; ``env`` makes a process see them."""

    def __init__(self, root: Path) -> None:
        self.state = root / "nvml-state.txt"
        self.env = {"LD_LIBRARY_PATH": str(library_folder()), "NVML_STUB_STATE": str(self.state)}
        self.uuids: list[str] = []
        self.write([])

    def write(self, lines: list[str]) -> None:
        """Replace the state: one line per GPU or MIG instance, as the C file says."""
        part = self.state.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n")
        part.rename(self.state)
