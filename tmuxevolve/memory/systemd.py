"""The limit as a transient scope of the user's systemd: MemoryMax, as systemd.resource-control(5).

A user's manager ends with the last login unless the user lingers, and takes its scopes with it:
without lingering, the training would end with the ssh connection.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tmuxevolve.memory import Limit, over

_LINGER = Path("/var/lib/systemd/linger")
_ROOT = Path("/sys/fs/cgroup")
_TIMEOUT = 20


class Scopes:
    """A scope for each of a worker's trainers."""

    interval = 3600.0

    def __init__(self, limit: Limit, worker: str, environ: Mapping[str, str]) -> None:
        """Take the limit; nothing is made yet."""
        self._limit = limit
        self._worker = worker
        self._environ = environ
        self._count = 0

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return systemd-run's argv, which becomes the command in a scope of its own."""
        self.close()
        self._count += 1
        return (*_scope(self._limit.bytes, self._unit), *argv)

    def enter(self) -> None:
        """Do nothing."""

    def exceeded(self) -> str | None:
        """Ask systemd what the scope has ended by."""
        result = _systemctl(self._environ, "show", "-P", "Result", self._unit)
        return over(self._limit) if result == "oom-kill" else None

    def close(self) -> None:
        """Let systemd forget a scope that has failed."""
        if self._count:
            _systemctl(self._environ, "reset-failed", self._unit)

    @property
    def _unit(self) -> str:
        # A pid: another worker of this name begins to count anew.
        return f"tmuxevolve-{self._worker}-{os.getpid()}-{self._count}.scope"


def problem(environ: Mapping[str, str]) -> str | None:
    """Return why the user's systemd cannot limit memory here; None when it can."""
    if not shutil.which("systemd-run", path=environ.get("PATH")):
        return "no systemd-run"
    manager = f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service"
    try:
        controllers = (_ROOT / manager / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return "no systemd user manager with cgroup v2"
    if "memory" not in controllers:
        return "systemd does not delegate memory to users"
    if not (_LINGER / pwd.getpwuid(os.getuid()).pw_name).exists():
        return "you do not linger: `loginctl enable-linger` would let systemd limit the memory"
    done = _run([*_scope(1 << 30, f"tmuxevolve-try-{os.getpid()}.scope"), "true"], environ)
    return None if done and not done.returncode else "systemd-run --user fails"


def _scope(size: int, unit: str) -> tuple[str, ...]:
    properties = (f"MemoryMax={size}", "MemorySwapMax=0", "OOMPolicy=kill")
    options = [word for text in properties for word in ("-p", text)]
    return ("systemd-run", "--user", "--scope", "--quiet", f"--unit={unit}", *options, "--")


def _systemctl(environ: Mapping[str, str], *words: str) -> str:
    done = _run(["systemctl", "--user", *words], environ)
    return done.stdout.strip() if done else ""


def _run(argv: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str] | None:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    return None
