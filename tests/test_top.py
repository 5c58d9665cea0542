"""top as a person sees it: a terminal, real keys, the screen."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nvml_stub import NvmlStub
from support import Box, Viewer, poll

TRAINER = """
import json, os, pathlib, sys, time, tqdm
output, generation = sys.argv[1], int(sys.argv[2])
if "fail" in os.environ:
    sys.exit("no such dataset")
print("Epoch 3/8")
bar = tqdm.tqdm(total=10, initial=5, bar_format="{l_bar}{bar:10}{r_bar}")
bar.refresh()
if generation > 2:
    time.sleep(1000)
pathlib.Path(output, "r.json").write_text(json.dumps({"f": 0.1 * (generation + 1)}))
"""


def study(box: Box, generations: int = 8, **keys: Any) -> None:
    """Write a session whose workers finish three generations and are at the next ones then."""
    (box.root / "trainer.py").write_text(TRAINER)
    keys["evolve"] = {
        "generations": generations,
        "hyp": {"lr": 0.01},
        "space": {"lr": {"min": 0.001, "max": 0.1}},
        "fitness": {"file": "r.json", "key": "f"},
    }
    command = [sys.executable, str(box.root / "trainer.py"), "{output}", "{generation}", "{hyp.lr}"]
    box.session(command=command, stop={"grace": 5}, **keys)


@pytest.fixture
def running(box: Box) -> Box:
    study(box)
    assert box.cli("start").returncode == 0
    return box


@pytest.fixture
def viewer(box: Box) -> Viewer:
    return Viewer(box)


def resize(viewer: Viewer, columns: int, rows: int) -> None:
    size = ("-x", str(columns), "-y", str(rows))
    viewer.box.tmux("resize-window", "-t", "=me:", *size, socket=viewer.socket)


def test_look_attach_and_come_back(running: Box, viewer: Viewer) -> None:
    resize(viewer, 80, 24)
    viewer.run("tmuxevolve top -n 0.5; echo left $?")
    viewer.see(r"^cpu0 +running +[3-4] +\S+ 3/8")
    viewer.see(r"3/8 generations .* best 0.3 ")
    viewer.see(r"^0\.3000┤.*•")
    viewer.type("j")
    viewer.see(r"^cpu1  \S+.*5/10")
    viewer.type("Enter")
    viewer.see(r"^\[demo\] .*1:cpu1\*")
    viewer.type("C-b", "d")
    viewer.see(r"^WINDOW")
    viewer.type("?")
    viewer.see("another window")
    viewer.type("q")
    viewer.see(r"^WINDOW")
    viewer.type("l")
    viewer.see(r"^cpu1 +\(q: back\)")
    viewer.see(r"^tmuxevolve: generation [3-4] begins")
    viewer.type("q")
    viewer.see(r"^WINDOW")
    resize(viewer, 200, 50)
    viewer.see(r"^WINDOW .*LAST LINE")
    viewer.see(r"^cpu0 .* 5/10 \[")
    resize(viewer, 9, 3)
    viewer.see(r"^cpu1")
    resize(viewer, 80, 24)
    viewer.type("C-c")
    viewer.see(r"^left 0$")
    assert {w["state"] for w in running.status().values()} == {"running"}


def test_stop_and_restart(running: Box, viewer: Viewer) -> None:
    viewer.run("tmuxevolve top -n 0.5; echo left $?")
    viewer.see(r"^cpu1 +running +[3-4]")
    viewer.type("s")
    viewer.see(r"Stop cpu0\? +y/n")
    viewer.see("^WINDOW")
    viewer.type("n", "s", "y")
    viewer.see(r"^cpu0 +stopped")
    assert {*running.status()} == {"cpu1"}
    viewer.type("Enter")
    viewer.see("^cpu0 has no window any more: r starts it again")
    viewer.type("r")
    viewer.see(r"^cpu0 +running")
    before = poll(lambda: (w := running.status()).keys() == {"cpu0", "cpu1"} and w)
    # The last window's session stays when it is restarted: whoever is attached is not thrown out.
    assert running.cli("stop", "0").returncode == 0
    viewer.see(r"^cpu0 +stopped")
    server = running.tmux("display-message", "-p", "#{pid}")
    viewer.type("Down", "r")
    viewer.see(r"Restart cpu1\?")
    viewer.type("y")
    poll(lambda: running.status().get("cpu1", {}).get("pid") not in {None, before["cpu1"]["pid"]})
    viewer.see(r"^cpu1 +running")
    viewer.type("q")
    viewer.see("^left 0$")
    assert {*running.status()} == {"cpu1"}
    assert running.tmux("display-message", "-p", "#{pid}") == server


def test_a_spent_budget_is_not_started_again(box: Box, viewer: Viewer) -> None:
    study(box, generations=2)
    box.cli("start")
    viewer.run("tmuxevolve top -n 0.5")
    viewer.see(r"^cpu0 +finished")
    viewer.see(r"^cpu1 +finished")
    viewer.see("2/2 generations  best 0.2  .s each$")
    viewer.type("r")
    viewer.see("^nothing is left of the budget: start --generations N raises it")


def test_a_session_that_ends_is_shown_as_it_was_and_starts_again(
    running: Box, viewer: Viewer
) -> None:
    viewer.run("tmuxevolve top -n 0.5; echo left $?")
    viewer.see(r"^cpu0 +running")
    assert running.cli("stop", "--now").returncode == 0
    viewer.see("the session has ended")
    viewer.see(r"^cpu1 +stopped")
    viewer.type("l")
    viewer.see(r"^cpu0 +\(q: back\)")
    viewer.see(r"^[0-9: -]{19} tmuxevolve: generation [3-4] begins")
    viewer.type("q")
    viewer.see(r"^cpu1 +stopped")
    viewer.type("r")
    viewer.see(r"^cpu0 +running")
    viewer.type("q")
    viewer.see("^left 0$")
    assert {*running.status()} == {"cpu0"}


def test_a_failed_window_is_red(box: Box, viewer: Viewer) -> None:
    study(box, env={"fail": "1"}, cpu_slots=1, restart={"max_consecutive_failures": 1})
    box.cli("start")
    poll(lambda: box.status()["cpu0"]["state"] == "failed")
    viewer.run("tmuxevolve top; echo left")
    viewer.see(r"^cpu0 +failed .* 1/1")
    viewer.see(r"^cpu0  .*no such dataset")
    coloured = box.tmux("capture-pane", "-ept", "=me:", socket=viewer.socket)
    assert "\x1b[31m" in coloured.replace("\x1b[1;31m", "\x1b[31m")
    viewer.type("q")
    viewer.see("^left")
    viewer.run("NO_COLOR=1 tmuxevolve top")
    viewer.see(r"^cpu0 +failed")
    plain = box.tmux("capture-pane", "-ept", "=me:", socket=viewer.socket)
    assert "31m" not in plain
    assert "36m" not in plain


def test_gpus_are_shown_and_one_is_restarted(box: Box, viewer: Viewer) -> None:
    stub = NvmlStub(box.root)
    box.env |= stub.env
    uuids = [f"GPU-{os.getpid():08d}-{box.root.name[-12:]}-{n}" for n in range(2)]
    stub.write([f"gpu uuid={u} used=300 util=37 temp=54 power=212" for u in uuids])
    study(box, gpus={"use": "free"}, cpu_slots=0)
    assert box.cli("start").returncode == 0
    viewer.run(f"export {' '.join(f'{k}={v}' for k, v in stub.env.items())}; tmuxevolve top -n 0.5")
    viewer.see(r"^gpu0 +\S+ 0G +\S+ 37% +54°C 212/400W running")
    before = box.status()["gpu1"]["pid"]
    viewer.type("Down", "r", "y")
    poll(lambda: box.status().get("gpu1", {}).get("pid") not in {None, before})
    viewer.see(r"^gpu1 .*running")
    viewer.type("s", "y")
    viewer.see(r"^gpu1 .*stopped")
    stub.write([f"gpu uuid={u} used=9000" for u in uuids])
    viewer.type("r")
    viewer.see("^1: 8.8 GiB in use")


def test_as_a_window_of_the_session_itself(running: Box, viewer: Viewer) -> None:
    argv = (sys.executable, "-m", "tmuxevolve", "top", "demo", "-n", "0.5")
    env = ("-e", f"TMUX_TMPDIR={running.sockets}")
    running.tmux("new-window", "-t", "=demo:90", "-n", "overview", *env, *argv)
    viewer.run("tmuxevolve attach")
    viewer.see(r"^cpu1 +running")
    assert "overview " not in viewer.screen().partition("[demo]")[0]
    viewer.type("Down", "Enter")
    viewer.see(r"1:cpu1\*")
    viewer.type("C-b", "l")
    viewer.see(r"^WINDOW")
    viewer.type("q")
    poll(lambda: "overview" not in running.tmux("list-windows", "-t", "=demo"))


@pytest.mark.parametrize(
    ("words", "env", "code", "text"),
    [
        (["top"], {}, 4, "no session is running"),
        (["top", "other"], {"start": "1"}, 4, "session other is not running; running: demo: cpu0"),
        (["top"], {"start": "1"}, 4, "top needs a terminal"),
        (["top", "--interval", "0"], {}, 2, "0.2<=x<=3600"),
    ],
)
def test_what_cannot_be_shown(
    box: Box, words: list[str], env: dict[str, str], code: int, text: str
) -> None:
    box.session()
    if env:
        box.cli("start")
    done = box.cli(*words)
    assert done.returncode == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_asks_for_a_terminal_a_name_and_its_library(box: Box, viewer: Viewer) -> None:
    (box.root / "without").mkdir()
    missing = "raise ModuleNotFoundError('no', name='textual')"
    (box.root / "without" / "textual.py").write_text(missing)
    for name in ("demo", "other"):
        box.session(name, results=str(box.root / name))
        assert box.cli("start").returncode == 0
    viewer.run("tmuxevolve top; echo $?")
    viewer.see(r"several sessions are running: demo, other; name one: tmuxevolve top NAME\n2$")
    for term in ("", "dumb", "vt100"):
        viewer.run(f"TERM={term} tmuxevolve top demo; echo $?")
        viewer.see(rf"terminal \(TERM={term or 'unset'}\): use tmuxevolve status\n5$")
    viewer.run("PYTHONPATH=without tmuxevolve top demo; echo $?")
    viewer.see(r"^tmuxevolve: top needs Textual 8.*pip install \S+\n5$")


class Terminal:
    """A terminal of which every byte is counted."""

    def __init__(self, box: Box, *words: str) -> None:
        pid, self.descriptor = pty.fork()
        if not pid:
            argv = [sys.executable, "-m", "tmuxevolve", *words]
            os.execve(sys.executable, argv, {**box.env, "TERM": "xterm-256color"})
        self.pid = pid
        size = struct.pack("HHHH", 24, 80, 0, 0)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)

    def read(self, seconds: float) -> bytes:
        """Return what comes in this time."""
        end, found = time.monotonic() + seconds, b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self.descriptor], [], [], left)[0]:
                found += os.read(self.descriptor, 1 << 16)
        return found

    def quit(self) -> int:
        os.write(self.descriptor, b"q")
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def test_where_nothing_changes_nothing_is_sent(running: Box) -> None:
    poll(lambda: running.json("status")[0]["generations"] == 3)
    terminal = Terminal(running, "top", "-n", "0.2")
    poll(lambda: b"cpu1" in terminal.read(0.5))
    poll(lambda: len(terminal.read(1)) < 1000)
    # The estimates of trainings that make no progress grow for ever.
    sent = terminal.read(2)
    assert len(sent) < 10 * 200
    assert b"WINDOW" not in sent
    assert terminal.quit() == 0


@asynccontextmanager
async def limit(seconds: float) -> AsyncIterator[None]:
    """Fail when it takes longer: Python 3.10 has no asyncio.timeout."""
    task = asyncio.current_task()
    assert task
    timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        yield
    finally:
        timer.cancel()


async def see(app: Any, pilot: Any, text: str) -> None:
    """Wait until this is on the screen."""
    async with limit(20):
        while text not in "\n".join(strip.text for strip in app.query("Tile").first().strips):
            await pilot.pause(0.02)


def in_app(look: Callable[[], Any], steps: Callable[[Any, Any], Any], hand: Any = None) -> None:
    """Run the app without a terminal."""
    from tmuxevolve.top.app import Top

    async def run() -> None:
        app = Top(look, hand, interval=0.2)
        async with app.run_test(size=(80, 24)) as pilot:
            await steps(app, pilot)

    asyncio.run(run())


def test_keys_are_answered_while_a_look_takes_for_ever() -> None:
    from tmuxevolve.top.dialogs import Page

    stuck = threading.Event()

    async def steps(app: Any, pilot: Any) -> None:
        await see(app, pilot, "no worker is to be seen yet")
        await pilot.press("question_mark")
        assert isinstance(app.screen, Page)
        await pilot.press("q", "q")
        assert app.return_code == 0

    try:
        in_app(stuck.wait, steps)
    finally:
        stuck.set()


def test_leaving_while_something_is_stopped_asks_first() -> None:
    from test_top_frame import overview, row

    from tmuxevolve.top.dialogs import Question

    class Hand:
        def __init__(self) -> None:
            self.free = threading.Event()
            self.stopped: list[str] = []

        def stop(self, window: Any) -> str:
            self.free.wait()
            self.stopped.append(window.name)
            return f"{window.name} ended by SIGINT"

    hand = Hand()

    async def steps(app: Any, pilot: Any) -> None:
        await see(app, pilot, "gpu1")
        await pilot.press("j", "s", "y")
        await see(app, pilot, "stopping")
        # Once is enough, and other windows can be acted on meanwhile.
        await pilot.press("s", "r")
        assert not isinstance(app.screen, Question)
        await pilot.press("q")
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        hand.free.set()
        await see(app, pilot, "gpu1 ended by SIGINT")
        assert hand.stopped == ["gpu1"]
        await pilot.press("q")
        assert app.return_code == 0

    try:
        in_app(lambda: overview([row(0), row(1)]), steps, hand)
    finally:
        hand.free.set()


def test_what_goes_wrong_with_a_look_is_said_and_the_next_one_is_shown() -> None:
    from test_top_frame import overview, row

    from tmuxevolve.errors import TmuxEvolveError

    found: list[Any] = [None]

    def look() -> Any:
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    async def steps(app: Any, pilot: Any) -> None:
        for what, text in (
            (TmuxEvolveError("tmux: it is gone"), "tmux: it is gone"),
            (overview([row(0)]), "gpu0"),
            (TmuxEvolveError("tmux: gone again"), "tmux: gone again"),
            (overview([row(1)]), "gpu1"),
        ):
            found[0] = what
            await see(app, pilot, text)

    found[0] = TmuxEvolveError("not yet")
    in_app(look, steps)


def test_a_mistake_of_ours_ends_it_with_a_traceback() -> None:
    def look() -> Any:
        raise KeyError("a mistake")

    async def steps(app: Any, pilot: Any) -> None:
        while app.is_running:
            await pilot.pause(0.02)

    with pytest.raises(KeyError, match="a mistake"):
        in_app(look, steps)


def test_with_a_mistake_in_the_file_what_runs_goes_on(running: Box, viewer: Viewer) -> None:
    viewer.run("tmuxevolve top -n 0.5")
    viewer.see(r"^cpu0 +running +[3-4]")
    before = running.status()
    running.write(running.config.read_text().replace('"lr": 0.01', '"lx": 0.01'))
    viewer.type("r", "y")
    viewer.see(r"sessions.yaml: sessions.demo.command: .*hyp.lr")
    after = running.status()
    assert {n: w["pid"] for n, w in after.items()} == {n: w["pid"] for n, w in before.items()}
