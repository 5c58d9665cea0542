"""What Linux's /proc says of a process; see proc(5)."""

from __future__ import annotations


def read(pid: int, name: str) -> bytes:
    """Return one of a process's files; nothing when it is gone."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123  (thousands of these)
            return file.read()
    except OSError:
        return b""


def stat(pid: int) -> tuple[bytes, int, int] | None:
    """Return a process's state, its parent, and its start in clock ticks; None when it is gone."""
    # The name, in parentheses, may hold anything: state is field 3, ppid 4, starttime 22.
    fields = read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0], int(fields[1]), int(fields[19])) if fields else None
