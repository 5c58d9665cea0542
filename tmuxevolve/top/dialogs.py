"""What opens over the view: a question, the help, what a window has printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
↑ ↓ j k   another window (PgUp, PgDn, Home, End: further)
Enter     attach to it; Ctrl-b d (screen: Ctrl-a d) comes back here
s         stop it, after y; its generation is given back
r         restart it, after y where it runs: as the sessions file says now,
          with the environment of this view
l         what it has printed
q Ctrl-C  quit; everything goes on running

MEMORY UTIL TEMP POWER   the window's GPU
EPOCH ETA                of its training, by its own bar; the first epoch is 1
FITNESS BEST             the last and the best of the worker there
FAILED                   trainings that failed there: in a row / in all

The plot: a point is a generation, the line the best so far.
Below it: the study's budget, the time until it is spent, what a generation
takes on the average of the last ones, and the workers on all machines."""


class Question(ModalScreen[bool]):
    """A question: y is yes, anything else is no."""

    # Transparent: what goes on is seen behind it.
    CSS = """
    Question { align: center middle; background: transparent; }
    Question Static {
        width: auto; max-width: 100%; height: auto; padding: 0 1;
        border: round ansi_default; background: ansi_default; color: ansi_default;
    }
    """
    BINDINGS = [
        Binding("y,Y", "answer(True)"),
        Binding("n,N,q,escape,enter,ctrl+c", "answer(False)"),
    ]

    def __init__(self, text: str) -> None:
        """Take the question."""
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Show it."""
        yield Static(Text(f"{self._text}  y/n"))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class Page(ModalScreen[None]):
    """Text that can be scrolled, at its end or its beginning."""

    CSS = """
    Page { background: ansi_default; }
    Page VerticalScroll { height: 1fr; background: ansi_default; scrollbar-size: 0 0; }
    Page Static { background: ansi_default; color: ansi_default; }
    Page #name { height: 1; text-style: bold reverse; }
    """
    BINDINGS = [
        Binding("q,escape,l,question_mark,ctrl+c", "dismiss"),
        Binding("j,down", "scroll(1)"),
        Binding("k,up", "scroll(-1)"),
        Binding("g,home", "edge(False)"),
        Binding("G,end", "edge(True)"),
        Binding("pagedown,space", "page(1)"),
        Binding("pageup,b", "page(-1)"),
    ]

    def __init__(self, name: str, lines: Sequence[str], *, at_end: bool = False) -> None:
        """Take the page's name and lines."""
        super().__init__()
        self._heading, self._text, self._at_end = name, lines, at_end

    def compose(self) -> ComposeResult:
        """Show its name, and the lines below."""
        yield Static(Text(f"{self._heading}  (q: back)"), id="name")
        with VerticalScroll(can_focus=False):
            yield Static(Text("\n".join(self._text)))

    def on_mount(self) -> None:
        """Begin where the news are."""
        if self._at_end:
            self.call_after_refresh(self.action_edge, end=True)

    def action_scroll(self, lines: int) -> None:
        """Move by lines."""
        self._pane.scroll_relative(y=lines, animate=False)

    def action_page(self, pages: int) -> None:
        """Move by screens."""
        self._pane.scroll_relative(y=pages * max(1, self._pane.size.height - 1), animate=False)

    def action_edge(self, end: bool) -> None:
        """Move to the end or the beginning."""
        (self._pane.scroll_end if end else self._pane.scroll_home)(animate=False)

    @property
    def _pane(self) -> VerticalScroll:
        return self.query_one(VerticalScroll)
