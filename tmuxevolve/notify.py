"""Tell people what became of a session: by a program, and by services that Apprise knows.

Each notification is a process of its own (messenger.py), detached from the worker, its terminal and
its trainer. It holds nothing up: a worker starts it when a trainer runs, or nothing is left to do.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tmuxevolve.census import MARK, MESSENGER
from tmuxevolve.config import Notify
from tmuxevolve.interrupts import DRAIN
from tmuxevolve.placeholders import WORD, fill
from tmuxevolve.spawn import Program, spawn
from tmuxevolve.terminal import say

if TYPE_CHECKING:
    from tmuxevolve.interrupts import Interrupts
    from tmuxevolve.order import Order

LIMIT = 30
"""Seconds that a notification may take before it is ended."""

# How long a worker that has come to its end waits to be able to say that nobody was told.
_PATIENCE = 5.0
# Words of Apprise, from which services make colours and pictures.
_KINDS = {"finished": "success", "failed": "failure"}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told; ``fitness`` and ``generation`` are None where it is about none."""

    event: str
    message: str
    session: str
    window: str
    results: str
    fitness: float | None = None
    generation: int | None = None

    @property
    def title(self) -> str:
        """Return the message in short."""
        return f"{self.session}: {'the best so far' if self.event == 'best' else self.event}"

    def values(self) -> dict[str, str]:
        """Return what stands in place of each placeholder."""
        return {
            "event": self.event,
            "title": self.title,
            "message": self.message,
            "session": self.session,
            "window": self.window,
            "results": self.results,
            "fitness": "" if self.fitness is None else f"{self.fitness:.5g}",
            "generation": "" if self.generation is None else str(self.generation),
        }


class Messenger:
    """One notification on its way; ``by`` is the key of ``notify`` that it is for."""

    def __init__(
        self, by: str, message: Mapping[str, Any], folder: str, env: Mapping[str, str]
    ) -> None:
        """Start its process. Raises OSError."""
        self.by = by
        self._answer = os.memfd_create("answer")
        # Not a pipe: it takes all of the message at once, whether or not that is read.
        order = os.memfd_create("message")
        try:
            os.write(order, json.dumps(message).encode())
            os.lseek(order, 0, os.SEEK_SET)
            argv = (sys.executable, "-I", MESSENGER)
            self._child = spawn(Program(argv, folder, env, lambda: _detach(order, self._answer)))
        except OSError:
            os.close(self._answer)
            raise
        finally:
            os.close(order)

    def problems(self) -> list[str] | None:
        """Return what went wrong, once; None while it is on its way."""
        status = self._child.poll()
        if status is None:
            return None
        with os.fdopen(self._answer, "rb") as answer:
            answer.seek(0)
            text = answer.read()
        if status == -signal.SIGALRM:
            return [f"took longer than {LIMIT} s and was ended"]
        try:
            return msgspec.json.decode(text, type=list[str])
        except msgspec.DecodeError:
            return [f"its process ended by itself ({status})"]


def _detach(message: int, answer: int) -> None:
    """Leave the terminal: what holds it keeps the window open, and Ctrl-C is not for this."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number, descriptor in enumerate((message, answer, nothing)):
        os.dup2(descriptor, number)
    # Both outlast exec: whatever happens there, the kernel ends it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIMIT)


def dispatch(
    notify: Notify, notice: Notice, folder: str, env: Mapping[str, str]
) -> Iterator[Messenger]:
    """Start what tells this notice. Raises OSError."""
    values = notice.values()
    named = {f"TMUXEVOLVE_{name.upper()}": value for name, value in values.items()}
    # Without the worker's mark: it is none of the processes that end with it.
    env = {name: value for name, value in env.items() if name != MARK} | named | {"PWD": folder}
    if notify.command:
        argv = [fill(word, WORD, values.__getitem__) for word in notify.command]
        yield Messenger("command", {"argv": argv}, folder, env)
    if notify.urls:
        message = {"urls": notify.urls, "title": notice.title, "body": notice.message}
        kind = _KINDS.get(notice.event, "info")
        yield Messenger("urls", {**message, "kind": kind}, folder, env)


class Outbox:
    """What a worker has to tell."""

    def __init__(self, order: Order, notify: Notify) -> None:
        """Begin with nothing."""
        self._order = order
        self._notify = notify
        self._waiting: list[Notice] = []
        self._sent: list[tuple[str, Messenger]] = []
        self._problems: list[str] = []

    @property
    def window(self) -> str:
        """Return the worker's window."""
        return self._order.window

    def wants(self, event: str) -> bool:
        """Say whether anybody is to be told of such an event."""
        return event in self._notify.on

    def post(
        self, event: str, message: str, fitness: float | None = None, generation: int | None = None
    ) -> None:
        """Take a notice; it is sent at the next ``send``."""
        if not self.wants(event):
            return
        notice = Notice(
            event=event,
            message=message.replace("\0", " "),
            session=self._order.session,
            window=self.window,
            results=self._order.results,
            fitness=fitness,
            generation=generation,
        )
        self._waiting.append(notice)

    def send(self) -> None:
        """Send what was posted, and do not wait for that."""
        order = self._order
        while self._waiting:
            notice = self._waiting.pop(0)
            try:
                for messenger in dispatch(self._notify, notice, order.workdir, order.env):
                    self._sent.append((f"{notice.event}: {messenger.by}", messenger))
            except OSError as error:
                self._problems.append(f"{notice.event}: cannot be sent: {error.strerror}")

    def collect(self) -> None:
        """Look which have ended, so that none stays a zombie."""
        for what, messenger in [*self._sent]:
            problems = messenger.problems()
            if problems is not None:
                self._sent.remove((what, messenger))
                self._problems += [f"{what}: {problem}" for problem in problems]

    def report(self) -> None:
        """Print what went wrong: while no trainer runs, for its output is read by others."""
        self.collect()
        for problem in self._problems:
            say(f"notify: {problem}")
        self._problems.clear()

    def close(self, interrupts: Interrupts) -> None:
        """Send the last, and wait a little to be able to print what goes wrong."""
        self.send()
        deadline = time.monotonic() + _PATIENCE
        self.collect()
        # Whoever ends this worker does not wait for that.
        while self._sent and not interrupts.seen - {DRAIN}:
            left = deadline - time.monotonic()
            if left <= 0:
                say(f"notify: {self._sent[0][0]}: no end after {_PATIENCE:.0f} s; it goes on alone")
                break
            interrupts.wait(left)
            self.collect()
        self.report()
