"""What a person does by hand in tmux or in screen, so that one test can do it in either."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support import Box

_KEYS = {"C-c": "^C", "Enter": "^M"}


class TmuxHands:
    """Hands in the box's tmux server."""

    detach = ("C-b", "d")

    def __init__(self, box: Box) -> None:
        self._box = box

    def text(self, index: int, session: str = "demo") -> str:
        """Return what stands in a window, as far back as that is kept."""
        return self._box.tmux("capture-pane", "-pJS", "-", "-t", f"={session}:{index}")

    def press(self, index: int, *keys: str, session: str = "demo") -> None:
        self._box.tmux("send-keys", "-t", f"={session}:{index}", *keys)

    def close_window(self, index: int, session: str = "demo") -> None:
        self._box.tmux("kill-window", "-t", f"={session}:{index}")

    def quit(self) -> None:
        """End the server, and with it every window."""
        self._box.tmux("kill-server")

    def server(self) -> int:
        """Return the pid of the process that all windows' processes descend from."""
        return int(self._box.tmux("display-message", "-p", "#{pid}"))

    def new_session(self, name: str, *argv: str) -> None:
        self._box.tmux("-f", "/dev/null", "new-session", "-d", "-s", name, *argv)

    def new_window(self, index: int, *argv: str, session: str = "demo") -> None:
        self._box.tmux("new-window", "-d", "-t", f"={session}:{index}", *argv)

    def windows(self, session: str = "demo") -> list[tuple[int, str]]:
        """Return the number and the name of each window, ours or not."""
        lines = self._box.tmux("list-windows", "-t", f"={session}", "-F", "#I #W").splitlines()
        return [(int(line.partition(" ")[0]), line.partition(" ")[2]) for line in lines]

    def close(self) -> None:
        """End whatever runs."""
        for socket in self._box.sockets.glob("tmux-*/*"):
            argv = ["tmux", "-S", str(socket), "kill-server"]
            subprocess.run(argv, env=self._box.env, capture_output=True, timeout=30, check=False)


class ScreenHands:
    """Hands in the box's screen sessions."""

    detach = ("C-a", "d")

    def __init__(self, box: Box) -> None:
        self._box = box
        box.env |= {"SCREENDIR": str(box.sockets / "screen"), "TMUXEVOLVE_MULTIPLEXER": "screen"}
        Path(box.env["SCREENDIR"]).mkdir(mode=0o700)

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            ["screen", *argv],
            env=self._box.env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def sessions(self) -> dict[str, str]:
        """Return each session's whole name, by its name."""
        lines = self.run("-ls").splitlines()
        found = (re.match(r"^\t([0-9]+\.(.*?))\t", line) for line in lines)
        return {match[2]: match[1] for match in found if match}

    def command(self, session: str, *words: str, window: int | None = None) -> str:
        chosen = () if window is None else ("-p", str(window))
        return self.run("-S", self.sessions()[session], *chosen, "-X", *words)

    def text(self, index: int, session: str = "demo") -> str:
        path = self._box.root / "hardcopy"
        path.unlink(missing_ok=True)
        self.command(session, "hardcopy", "-h", str(path), window=index)
        return path.read_text(errors="replace") if path.exists() else ""

    def press(self, index: int, *keys: str, session: str = "demo") -> None:
        for key in keys:
            self.command(session, "stuff", _KEYS.get(key, key), window=index)

    def close_window(self, index: int, session: str = "demo") -> None:
        self.command(session, "kill", window=index)

    def quit(self) -> None:
        for name in self.sessions():
            self.command(name, "quit")

    def server(self) -> int:
        (session,) = self.sessions().values()
        return int(session.partition(".")[0])

    def new_session(self, name: str, *argv: str) -> None:
        self.run("-dmS", name, *argv)

    def new_window(self, index: int, *argv: str, session: str = "demo") -> None:
        self.command(session, "screen", str(index), *argv)

    def windows(self, session: str = "demo") -> list[tuple[int, str]]:
        text = self.run("-S", self.sessions()[session], "-Q", "windows")
        found = re.findall(r"(?:^|  )([0-9]+)[-*$!@()LZ]* (.*?)(?=  |$)", text)
        return [(int(number), name) for number, name in found]

    def close(self) -> None:
        self.quit()


HANDS = {"tmux": TmuxHands, "screen": ScreenHands}
