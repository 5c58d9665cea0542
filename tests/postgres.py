"""A real PostgreSQL of the tests' own, over a socket, as a user who is not root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path


def programs() -> Path | None:
    """Return the folder of initdb and postgres; None when they are not installed."""
    debians = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    found = [*debians[-1:], *(Path(p).parent for p in [shutil.which("initdb")] if p)]
    return next((folder for folder in found if (folder / "postgres").exists()), None)


class Postgres:
    """A server; ``url`` has a password in it, which is asked for."""

    PASSWORD = "s3cret-of-the-database"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._home.chmod(0o777)
        # PostgreSQL refuses to run as root.
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self._user = drop if os.geteuid() == 0 else []
        password = self._home / "password"
        password.write_text(self.PASSWORD)
        self._run(
            *("initdb", "-D", f"{self._home}/data", "-U", "me", "-A", "scram-sha-256", "-N"),
            f"--pwfile={password}",
        )
        self.url = f"postgresql://me:{self.PASSWORD}@/postgres?host={self._home}"

    def _run(self, program: str, *words: str) -> None:
        argv = [*self._user, str(self._folder / program), *words]
        subprocess.run(argv, check=True, capture_output=True)

    def start(self) -> None:
        options = ["-k", str(self._home), "-c", "listen_addresses=", "-c", "fsync=off"]
        argv = [*self._user, str(self._folder / "postgres"), "-D", f"{self._home}/data", *options]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [*argv, "-c", "max_connections=200"], stdout=null, stderr=null
        )

    def stop(self) -> None:
        """End it at once, whatever connections are open."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)
