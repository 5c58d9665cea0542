"""attach as a person sees it: a second terminal, real keys, the screen."""

from __future__ import annotations

import re
import sys

import pytest
from support import Box, Viewer, poll

pytestmark = pytest.mark.either

BAR = """
import signal, time, tqdm
try:
    for _ in tqdm.trange(100000, desc="train"):
        time.sleep(0.02)
except KeyboardInterrupt:
    raise SystemExit(130)
"""


@pytest.fixture
def running(box: Box) -> Box:
    box.session(command=[sys.executable, "-c", BAR])
    assert box.cli("start").returncode == 0
    return box


def test_bar_is_drawn_on_one_line_and_detaching_leaves_it_running(box: Box) -> None:
    box.session(command=[sys.executable, "-c", BAR])
    viewer = Viewer(box)
    viewer.run("tmuxevolve start")
    viewer.see(r"^cpu1 .*running")
    viewer.run("tmuxevolve attach 1")
    viewer.see(r"^train: +\d+%\|.*\| [1-9]\d\d?/100000")
    screen = viewer.see(r"^train:.*\| [1-9]\d\d+/100000")
    assert screen.count("train:") == 1
    if box.multiplexer == "tmux":
        assert "[demo]" in screen
        assert "1:cpu1*" in screen
    viewer.type(*box.hands.detach)
    viewer.see("detached")
    assert box.status()["cpu1"]["state"] == "running"


def test_bar_adapts_to_a_narrower_terminal(running: Box) -> None:
    """Started without a terminal, 200 columns wide: what was drawn then may stay, nothing more."""
    poll(lambda: "%|" in running.status()["cpu1"]["progress"])
    viewer = Viewer(running)
    viewer.run("tmuxevolve attach 1")
    viewer.see(r"^train:.*\| \d+/100000 \[.*s\]$")

    def lines_after(refreshes: int) -> int:
        def drawn() -> int:
            return max(int(n) for n in re.findall(r"(\d+)/100000", viewer.screen()))

        target = drawn() + refreshes
        poll(lambda: drawn() > target)
        return viewer.screen().count("train:")

    settled = lines_after(30)
    # In screen a window without anybody looking is 80 columns wide: there it had wrapped more.
    assert lines_after(60) == settled <= {"tmux": 4, "screen": 10}[running.multiplexer]


def test_bar_is_wide_enough_without_a_client(running: Box) -> None:
    line = poll(lambda: running.status()["cpu0"]["progress"])
    assert "/100000 [" in line
    text = running.cli("status").stdout
    assert max(map(len, text.splitlines())) < 150


@pytest.mark.tmux_only  # a status line
def test_without_a_gpu_the_session_is_as_it_was_left(running: Box) -> None:
    viewer = Viewer(running)
    viewer.run("tmuxevolve attach 1")
    viewer.see(r"1:cpu1\*")
    viewer.type("C-b", "d")
    viewer.see("detached")
    viewer.run("tmuxevolve attach")
    viewer.see(r"1:cpu1\*")


def test_a_lost_connection_changes_nothing(running: Box) -> None:
    viewer = Viewer(running)
    viewer.run("tmuxevolve attach 0")
    viewer.see("train:")
    before = running.status()
    viewer.close()
    after = running.status()
    assert {n: (w["pid"], w["state"]) for n, w in after.items()} == {
        n: (w["pid"], "running") for n, w in before.items()
    }


def test_ctrl_c_reaches_the_trainer(running: Box) -> None:
    viewer = Viewer(running)
    viewer.run("tmuxevolve attach 0")
    viewer.see("train:")
    viewer.type("C-c")
    viewer.see(r"tmuxevolve: cpu0 failed \(exit 130\)")
    window = running.status()["cpu0"]
    assert (window["state"], window["exit_status"]) == ("failed", 130)
    assert running.status()["cpu1"]["state"] == "running"


@pytest.mark.tmux_only  # test_screen.py has its counterpart
def test_inside_the_same_tmux_attach_switches_the_client(box: Box) -> None:
    box.session(command=[sys.executable, "-c", BAR])
    person = Viewer(box, socket="default", is_tmux=True)
    outer = Viewer(box, socket="terminal")
    outer.run("tmux attach -t me")
    outer.see(r"\[me\]")
    person.type("tmuxevolve start && tmuxevolve attach 1", "Enter")
    outer.see(r"\[demo\].*1:cpu1\*")
    outer.type("C-b", "(")
    outer.see(r"\[me\]")


def test_start_attach(box: Box) -> None:
    box.session(command=[sys.executable, "-c", BAR])
    viewer = Viewer(box)
    viewer.run("tmuxevolve start --attach")
    viewer.see({"tmux": r"\[demo\] 0:cpu0\*", "screen": r"^train:.*\d+/100000"}[box.multiplexer])
