"""A fake libnvidia-ml.so.1 under the real pynvml: compiled once, driven by a state file."""

from __future__ import annotations

from pathlib import Path

from compiled import library

SOURCE = Path(__file__).parent / "nvml" / "nvmlstub.c"
_NAME = "libnvidia-ml.so.1"
_FLAGS = ("-fvisibility=hidden", "-pthread", f"-Wl,-soname,{_NAME}")


def library_folder() -> Path:
    """Return the folder with the compiled library."""
    return library(SOURCE, _NAME, *_FLAGS).parent


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
