"""Sends one notification: ``python -I messenger.py``, started by notify.py.

What to send comes as JSON on its standard input, so that no URL is on an argv; a list of what went
wrong goes to its standard output. The kernel ends it by SIGALRM when its time is up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

MISSING = "Apprise is not installed"
_CHARS, _TAIL = 200, 4096


def main() -> None:
    """Do what the standard input says: run a program, send to URLs, or look whether it could."""
    message = json.load(sys.stdin.buffer)
    problems = _run(message["argv"]) if "argv" in message else _with_apprise(message)
    print(json.dumps(problems))


def _run(argv: Sequence[str]) -> list[str]:
    """Run a program in a session of its own, and end all of that in the end."""
    import subprocess

    from tmuxevolve import lineage

    messenger = os.getpid()
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # There is one thread as yet.
            preexec_fn=lambda: lineage.end_with_parent(messenger, signal.SIGKILL),  # noqa: PLW1509
        )
    except OSError as error:
        return [f"cannot run {argv[0]!r}: {error.strerror}"]
    errors = _Tail(child.stderr)
    if _is_late(child.pid):
        return [f"{argv[0]} took too long and was ended"]
    status = child.wait()
    return [f"{argv[0]}: {_how(status)}{errors.last_line()}"] if status else []


def _is_late(pid: int) -> bool:
    """Wait for a child's end, or for the alarm; end its process group."""
    signal.signal(signal.SIGALRM, _raise)
    try:
        # It stays a zombie until its group is ended: nobody else can get that number.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except TimeoutError:
        return True
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    return False


def _raise(*_: object) -> NoReturn:
    raise TimeoutError


class _Tail:
    """Reads a stream to its end and keeps the last of it, however much comes."""

    def __init__(self, stream: Any) -> None:
        from threading import Thread

        self._text = b""
        self._stream = stream
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for chunk in iter(lambda: self._stream.read1(_TAIL), b""):
            self._text = (self._text + chunk)[-_TAIL:]

    def last_line(self) -> str:
        # A process that has left the group may keep the stream open.
        self._reader.join(1.0)
        lines = self._text.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        # It is printed to a terminal.
        plain = "".join(c if c.isprintable() else " " for c in last[:_CHARS])
        return f": {plain}" if last else ""


def _how(status: int) -> str:
    return f"exit {status}" if status > 0 else f"signal {-status}"


def _with_apprise(message: dict[str, Any]) -> list[str]:
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        return [MISSING]
    asset = AppriseAsset(app_id="tmuxevolve", app_desc="tmuxevolve")
    services = [Apprise(asset=asset) for _ in message["urls"]]
    known = [s.add(url) for s, url in zip(services, message["urls"], strict=True)]
    if "title" not in message:
        return [f"{_nth(n, known)} is no URL that Apprise knows" for n in _where(known)]
    return _send([service.notify for service in services], message)


def _send(services: Sequence[Callable[..., object]], message: dict[str, str]) -> list[str]:
    """Send to all at the same time: one that does not answer holds no other up."""
    from concurrent.futures import ThreadPoolExecutor

    # Text that is no UTF-8, such as a folder's name, goes through no service.
    title, body = (message[name].encode(errors="replace").decode() for name in ("title", "body"))

    def took(service: Callable[..., object]) -> bool:
        with suppress(Exception):
            return bool(service(title=title, body=body, notify_type=message["kind"]))
        return False

    with ThreadPoolExecutor(len(services)) as pool:
        answers = [*pool.map(took, services)]
    return [f"{_nth(n, answers)} did not take it" for n in _where(answers)]


def _where(answers: Sequence[Any]) -> list[int]:
    return [number for number, answer in enumerate(answers, start=1) if not answer]


def _nth(number: int, of: Sequence[Any]) -> str:
    """Name a URL by its place: its text holds passwords."""
    return f"number {number} of {len(of)}"


if __name__ == "__main__":
    # Isolated mode leaves the package's folder out.
    sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])
    main()
