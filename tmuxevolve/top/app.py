"""The app: draws what it is given, and sends keys to the hand. Decides nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message

from tmuxevolve.errors import ExitStatus, TmuxEvolveError
from tmuxevolve.multiplexer import Attach
from tmuxevolve.session.hand import Hand
from tmuxevolve.session.overview import Overview, Row
from tmuxevolve.top.canvas import Canvas
from tmuxevolve.top.dialogs import HELP, Page, Question
from tmuxevolve.top.feed import Feed, in_background
from tmuxevolve.top.frame import Place, at, frame, heights, waiting

# How long a message stays where the keys are, and how long a look may take, in seconds.
_SAYS = 8.0
_PATIENCE = 10.0
_KEYBOARD = 0


class Seen(Message):
    """A look has ended; None when there was no worker to be seen yet."""

    def __init__(self, overview: Overview | None) -> None:
        super().__init__()
        self.overview = overview


class Failed(Message):
    """A look went wrong."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Done(Message):
    """What was done to a slot has come to its end."""

    def __init__(self, slot: str, said: str) -> None:
        super().__init__()
        self.slot, self.said = slot, said


class Top(App[None]):
    """The live view."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: ansi_default; color: ansi_default; }"
    BINDINGS = [
        Binding("down,j", "move(1)"),
        Binding("up,k", "move(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("pageup", "page(-1)"),
        Binding("home,g", "move(-1000000)"),
        Binding("end,G", "move(1000000)"),
        Binding("enter", "attach"),
        Binding("s", "stop"),
        Binding("r", "restart"),
        Binding("l", "log"),
        Binding("question_mark,h,f1", "help"),
        Binding("q,ctrl+c,ctrl+q", "leave"),
    ]

    def __init__(self, look: Callable[[], Overview | None], hand: Hand, interval: float) -> None:
        """Take what to look with, what to act with, and how often to look, in seconds."""
        super().__init__(ansi_color=True)
        self._feed = Feed(
            look,
            lambda seen: self.post_message(Seen(seen)),
            lambda error: self.post_message(Failed(error)),
        )
        self._hand = hand
        self._interval = interval
        self._overview: Overview | None = None
        self._place = Place()
        self._doing: dict[str, str] = {}
        self._said: tuple[str, float] = ("", 0.0)
        self._seen_at = time.monotonic()

    def compose(self) -> ComposeResult:
        """Fill the screen with one canvas."""
        yield Canvas()

    def on_mount(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        self._feed.start()
        self._feed.ask()
        self.set_interval(self._interval, self._tick)

    def on_resize(self, event: events.Resize) -> None:
        """Draw for the new size."""
        del event
        self.call_after_refresh(self._draw)

    def on_seen(self, message: Seen) -> None:
        """Show what was seen."""
        self._seen_at = time.monotonic()
        self._overview = message.overview or self._overview
        self._draw()

    def on_failed(self, message: Failed) -> None:
        """Say what is wrong, as long as it is; a mistake of ours ends the program."""
        if not isinstance(message.error, (TmuxEvolveError, OSError)):
            raise message.error
        self._say(str(message.error))

    def on_done(self, message: Done) -> None:
        """Say how an action went."""
        self._doing.pop(message.slot, None)
        self._say(message.said)
        self._feed.ask()

    def action_move(self, rows: int) -> None:
        """Select another window."""
        if self._overview:
            cursor = self._place.cursor + rows
            self._place = at(cursor, self._place, self._overview, self.size.height)
            self._draw()

    def action_page(self, pages: int) -> None:
        """Select a window one screen further."""
        if self._overview:
            self.action_move(pages * heights(self._overview, self.size.height).rows)

    def action_attach(self) -> None:
        """Show the selected window, and come back when it is left."""
        row = self._row()
        if row is None:
            return
        if row.stopped:
            self._say(f"{row.status.window} has no window any more: r starts it again")
            return
        try:
            self._show(self._hand.attach(row.window))
        except (TmuxEvolveError, OSError) as error:
            self._say(str(error))
        self._feed.ask()

    def _show(self, attached: Attach) -> None:
        env = {k: v for k, v in self._hand.environ.items() if k not in attached.unset}
        if attached.switches:
            done = subprocess.run(
                attached.argv, env=env, capture_output=True, text=True, check=False
            )
            if done.returncode:
                self._say(done.stderr.strip())
            return
        with self.suspend():
            subprocess.run(attached.argv, env=env, check=False)
        # Nobody has looked meanwhile.
        self._seen_at = time.monotonic()
        self.refresh()

    def action_stop(self) -> None:
        """Ask, then end the selected window's worker."""
        row = self._row()
        if row and row.stopped:
            self._say(f"{row.status.window} is stopped already")
        elif row:
            self._ask(f"Stop {row.status.window}?", row, "stopping", self._hand.stop)

    def action_restart(self) -> None:
        """Ask where something runs, then start the selected window's worker again."""
        row = self._row()
        if row and (row.stopped or row.status.state.is_over()):
            self._do(row, "starting", self._hand.restart)
        elif row:
            self._ask(f"Restart {row.status.window}?", row, "restarting", self._hand.restart)

    def action_log(self) -> None:
        """Show what the selected window has printed."""
        row = self._row()
        if row is None:
            return
        try:
            lines = self._hand.printed(row.window)
        except (TmuxEvolveError, OSError) as error:
            lines = (str(error),)
        shown = lines or ("nothing: the window is gone",)
        self.push_screen(Page(row.status.window, shown, at_end=True))

    def action_help(self) -> None:
        """Show the keys and the columns."""
        self.push_screen(Page("tmuxevolve top", HELP.splitlines()))

    def action_leave(self) -> None:
        """Quit; ask first while something is being stopped or started."""
        if not self._doing:
            self.exit()
            return
        text = f"{', '.join(self._doing.values())} {', '.join(self._doing)}: quit all the same?"
        self.push_screen(Question(text), lambda answer: self.exit() if answer else None)

    def _row(self) -> Row | None:
        """Return the selected row, unless something is being done to it."""
        if self._overview is None:
            return None
        row = self._overview.rows[self._place.cursor]
        return None if row.status.slot in self._doing else row

    def _ask(self, text: str, row: Row, doing: str, act: Callable[..., str]) -> None:
        def answered(answer: bool | None) -> None:
            if answer:
                self._do(row, doing, act)

        self.push_screen(Question(text), answered)

    def _do(self, row: Row, doing: str, act: Callable[..., str]) -> None:
        slot = row.status.slot
        self._doing[slot] = doing
        in_background(lambda: act(row.window), lambda said: self.post_message(Done(slot, said)))
        self._draw()

    def _say(self, text: str) -> None:
        self._said = (text, time.monotonic() + _SAYS)
        self._draw()

    def _signalled(self, number: signal.Signals) -> None:
        self.exit(return_code=ExitStatus.INTERRUPTED if number == signal.SIGINT else 128 + number)

    def _tick(self) -> None:
        self._feed.ask()
        self._notice_size()
        self._draw()

    def _notice_size(self) -> None:
        """Take up a size that no signal has told of: one may come while the terminal is lent."""
        with suppress(OSError):
            size = Size(*os.get_terminal_size(_KEYBOARD))
            if size != self.size and not self.is_headless:
                self.post_message(events.Resize(size, size))

    def _draw(self) -> None:
        said, until = self._said
        said = said if time.monotonic() < until else ""
        lines = self._lines(self._overview, said) if self._overview else waiting(said)
        self.screen_stack[0].query_one(Canvas).show(lines)

    def _lines(self, found: Overview, said: str) -> list[Text]:
        doing = self._doing
        rows = (msgspec.structs.replace(r, doing=doing.get(r.status.slot)) for r in found.rows)
        found = msgspec.structs.replace(found, rows=tuple(rows))
        height = self.size.height
        self._place = at(self._place.cursor, self._place, found, height)
        late = time.monotonic() - self._seen_at
        size = (self.size.width, height)
        return frame(
            found, self._place, size, said, late if late > _PATIENCE + self._interval else None
        )
