"""attach, and the choice of windows by what people type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tmuxevolve.errors import MissingError, NotRunningError, UsageError
from tmuxevolve.multiplexer import Attach, Multiplexer, Window


def attach(
    mux: Multiplexer, name: str | None, slot: str | None, environ: Mapping[str, str]
) -> Attach:
    """Return the process that shows a session, at the window of ``slot`` if one is named."""
    wanted = [slot] if slot else []
    try:
        windows = select(mux.all_windows(), name, wanted)
    except NotRunningError:
        from tmuxevolve.session import jobs

        windows = select(jobs.all_windows(mux), name, wanted)
    refuse_several(windows, "name one with -s")
    exact = [window for window in windows if window.facts.slot == slot]
    chosen = next((window for window in exact or windows if window.pane), None)
    if chosen is None:
        facts = windows[0].facts
        raise NotRunningError(
            f"{facts.slot} of session {facts.session} has no window here:"
            f" tmuxevolve start {facts.session} opens one"
        )
    return mux.attach(chosen, select=slot is not None, environ=environ)


def windows_if_any(mux: Multiplexer) -> Sequence[Window]:
    """Return our workers' windows; none where tmux is missing."""
    try:
        return mux.windows()
    except MissingError:
        return ()


def select(windows: Sequence[Window], name: str | None, wanted: Iterable[str]) -> list[Window]:
    """Return the windows of a session (all sessions when None), or those of the named slots.

    Raises NotRunningError, which says what is running.
    """
    mine = [window for window in windows if name in {None, window.facts.session}]
    if not mine:
        what = f"session {name} is not running" if name else "no session is running"
        raise NotRunningError(f"{what}; {_overview(windows)}" if windows else what)
    chosen: dict[str, Window] = {}
    for slot in wanted:
        found = [window for window in mine if _is_named(window, slot)]
        # In screen a window may have another GPU's index: where its own is taken.
        found = found or [window for window in mine if str(window.index) == slot]
        if not found:
            raise NotRunningError(f"GPU {slot} has no window; {_overview(mine)}")
        chosen.update({window.pane: window for window in found})
    return list(chosen.values()) or mine


def refuse_several(windows: Sequence[Window], mend: str) -> None:
    """Raise UsageError, which says what to do, when the windows are of several sessions."""
    sessions = sorted({window.facts.session for window in windows})
    if len(sessions) > 1:
        raise UsageError(f"several sessions are running: {', '.join(sessions)}; {mend}")


def _overview(windows: Sequence[Window]) -> str:
    sessions = dict.fromkeys(window.facts.session for window in windows)
    texts = (
        f"{session}: {' '.join(w.name for w in windows if w.facts.session == session)}"
        for session in sessions
    )
    return f"running: {', '.join(texts)}"


def _is_named(window: Window, slot: str) -> bool:
    facts = window.facts
    return slot in {facts.slot, facts.slot.partition("/")[0], window.name, facts.uuid}
