"""What is GNU screen's own: odd ~/.screenrc files, numbers, names, sessions inside sessions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hands import ScreenHands
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Box, Viewer, box_processes, command_line, new_box, poll

from tmuxevolve import console
from tmuxevolve.multiplexer.screen_client import literal

COUNT = """
import itertools, time
for n in itertools.count():
    print(f"\\rcount {n}", end="", flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def multiplexer() -> str:
    return "screen"


@pytest.fixture
def hands(box: Box) -> ScreenHands:
    assert isinstance(box.hands, ScreenHands)
    return box.hands


@pytest.fixture
def running(box: Box) -> Box:
    box.session(command=[sys.executable, "-c", COUNT])
    done = box.cli("start")
    assert done.returncode == 0, done
    return box


HOSTILE = """
startup_message on
defscrollback 0
zombie kr onerror
escape ^Oo
defutf8 off
autodetach off
hardstatus alwayslastline "%w"
caption always "%n %t"
sessionname funny
screen -t extra 0 sh
screen -t other 1 sh
logfile /dev/full
deflog on
shell /bin/false
chdir /nonexistent
setenv PYTHONHOME /nonexistent
deflogin off
"""


def test_a_screenrc_full_of_surprises(box: Box, hands: ScreenHands) -> None:
    (box.home / ".screenrc").write_text(HOSTILE)
    box.session(command=[sys.executable, "-c", COUNT])
    assert box.cli("start").returncode == 0
    assert [*hands.sessions()] == ["demo"]
    windows = box.status()
    assert {name: w["state"] for name, w in windows.items()} == {
        "cpu0": "running",
        "cpu1": "running",
    }
    # The user's own have these numbers already.
    assert [name for _, name in hands.windows()] == ["extra", "other", "cpu0", "cpu1"]
    viewer = Viewer(box)
    viewer.run("tmuxevolve attach cpu1")
    viewer.see(r"count \d+")
    viewer.type("C-o", "d")
    viewer.see("detached")
    os.kill(windows["cpu1"]["pid"], signal.SIGTERM)
    poll(lambda: box.status()["cpu1"]["exit_status"] == 143)
    # Keys of `zombie` and others do nothing in a window that is over.
    hands.press(3, "k", "r", "q", "Enter")
    assert box.status()["cpu1"]["state"] == "failed"
    assert box.cli("start").returncode == 0
    assert box.status()["cpu1"]["index"] == 3
    assert box.cli("stop").returncode == 0
    poll(lambda: [name for _, name in hands.windows()] == ["extra", "other"])


def test_a_finished_window_stays_with_its_last_words(box: Box, hands: ScreenHands) -> None:
    box.session(command=["sh", "-c", "echo last words; exit 5"])
    box.cli("start")
    window = poll(lambda: (w := box.status()["cpu0"]) and w["exit_status"] is not None and w)
    assert (window["exit_status"], window["progress"]) == (5, "last words")
    poll(lambda: "tmuxevolve: cpu0 failed (exit 5)" in hands.text(0))
    viewer = Viewer(box)
    viewer.run("tmuxevolve attach 0")
    viewer.see("last words")
    viewer.type("x", "C-c", "C-d", "Enter")
    assert box.status()["cpu0"]["exit_status"] == 5
    assert "0 cpu0" in " ".join(f"{n} {name}" for n, name in hands.windows())


def test_inside_the_same_session_attach_selects_the_window(running: Box) -> None:
    viewer = Viewer(running)
    viewer.run(f"SCREENDIR={running.env['SCREENDIR']} screen -x demo -p 0")
    viewer.see(r"count \d+")
    running.hands.new_window(5, "bash", "--norc", "--noprofile")
    poll(lambda: (5, "bash") in running.hands.windows())
    viewer.type("C-a", "5")
    poll(lambda: running.hands.run("-S", "demo", "-Q", "number").startswith("5 "))
    viewer.see(r"[#$] *$")
    viewer.type("tmuxevolve attach 1; echo done $?", "Enter")
    poll(lambda: running.hands.run("-S", "demo", "-Q", "number").startswith("1 "))


def test_inside_another_session_attach_nests(running: Box) -> None:
    running.hands.new_session("mine", "bash", "--norc", "--noprofile")
    viewer = Viewer(running)
    viewer.run("screen -x mine")
    viewer.run("tmuxevolve attach 1")
    viewer.see(r"count \d+")
    assert running.cli("stop").returncode == 0
    assert [*running.hands.sessions()] == ["mine"]  # type: ignore[attr-defined]


def test_two_people_look_at_two_windows(running: Box) -> None:
    first, second = Viewer(running, "one"), Viewer(running, "two")
    first.run("tmuxevolve attach 0")
    first.see(r"count \d+")
    second.run("tmuxevolve attach 1")
    second.see(r"count \d+")
    first.type("C-c")
    first.see(r"cpu0 failed \(signal SIGINT\)")
    assert "failed" not in second.screen()
    assert running.status()["cpu1"]["state"] == "running"


def test_a_screen_that_is_killed_takes_the_trainings_along(running: Box) -> None:
    os.kill(running.hands.server(), signal.SIGKILL)
    poll(lambda: not [p for p in box_processes(running) if "screen" not in p.name()])
    assert running.cli("status").stdout == "no session is running\n"
    assert running.cli("start").returncode == 0
    assert sorted(running.status()) == ["cpu0", "cpu1"]


def test_a_console_that_is_killed_takes_its_window_along(running: Box) -> None:
    pid = running.status()["cpu0"]["pid"]
    consoles = [p for p in box_processes(running) if "screen_entry.py" in str(command_line(p))]
    # screen itself has the words of its first window.
    mine = [p for p in consoles if "cpu0-" in command_line(p)[-1] and p.name() != "screen"]
    mine[0].kill()
    poll(lambda: not psutil.pid_exists(pid))
    assert sorted(running.status()) == ["cpu1"]


def test_a_renamed_session_and_a_moved_window_are_found(running: Box, hands: ScreenHands) -> None:
    hands.command("demo", "sessionname", "other")
    hands.command("other", "title", "mine", window=1)
    assert sorted(running.status()) == ["cpu0", "cpu1"]
    viewer = Viewer(running)
    viewer.run("tmuxevolve attach 1")
    viewer.see(r"count \d+")
    assert running.cli("stop").returncode == 0
    poll(lambda: not hands.sessions())


@pytest.mark.parametrize("name", ["it's 5", 'say "hi"', "größe/2", "100% a^b", "a (b) [c]"])
def test_names_that_need_quoting(box: Box, name: str, hands: ScreenHands) -> None:
    box.session(name, cpu_slots=2)
    done = box.cli("start")
    assert done.returncode == 0, done
    assert [s["session"] for s in box.json("status")] == [name]
    assert "already running" in box.cli("start").stdout
    assert [n for n, _ in hands.windows(name.replace("/", "_"))] == [0, 1]
    assert box.cli("stop").returncode == 0
    assert box_processes(box) == []


def test_a_prefix_of_another_sessions_name(box: Box, hands: ScreenHands) -> None:
    hands.new_session("demo2", "sleep", "1000")
    box.session()
    assert box.cli("start").returncode == 0
    assert box.cli("stop").returncode == 0
    poll(lambda: [*hands.sessions()] == ["demo2"])


@pytest.mark.stress
def test_more_windows_than_screen_has_numbers(box: Box) -> None:
    box.session(cpu_slots=103)
    done = box.cli("start", timeout=170)
    assert done.returncode == 1
    assert done.stdout.count("its window index is in use") == 3
    assert len(box.status()) == 100
    assert box.cli("stop", "--now").returncode == 0


def test_commands_find_windows_in_either(box: Box) -> None:
    native = {"evolve": {"mode": "native"}}
    common = {"trainer": "command", "cpu_slots": 1, "gpus": {"use": "none"}, **native}
    entry = {**common, "restart": {"on": "never"}}
    sessions = {
        name: {**entry, "command": ["sleep", "1000"], "results": name, "multiplexer": name}
        for name in ("tmux", "screen")
    }
    box.write(json.dumps({"sessions": sessions}))
    del box.env["TMUXEVOLVE_MULTIPLEXER"]
    for name in sessions:
        started = box.cli("start", name)
        assert started.returncode == 0, started
        key = {"tmux": "Ctrl-b d", "screen": "Ctrl-a d"}[name]
        assert f"({key} leaves it running)" in started.stdout
    assert [s["session"] for s in box.json("status")] == ["screen", "tmux"]
    # What runs in screen stays there, whatever is said now.
    assert "left alone" in box.cli("start", "screen", env={"TMUXEVOLVE_MULTIPLEXER": "tmux"}).stdout
    os.kill(box.status()["cpu0"]["pid"], signal.SIGTERM)
    poll(lambda: {w.state.value for w in box.windows()} == {"running", "failed"})
    for name in sessions:
        box.cli("start", name, env={"TMUXEVOLVE_MULTIPLEXER": "tmux"})
    panes = {w.facts.session: w.pane[0] for w in box.windows()}
    assert panes == {"tmux": "%", "screen": "s"}
    assert box.cli("stop", "-s", "screen").returncode == 0
    assert [s["session"] for s in box.json("status")] == ["tmux"]
    assert box.cli("stop").returncode == 0


def test_which_multiplexer_is_taken(box: Box, tmp_path: Path) -> None:
    box.session()
    del box.env["TMUXEVOLVE_MULTIPLEXER"]
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("screen", "sh", "cat", "nice", "sleep"):
        found = next(p for f in os.get_exec_path() if (p := Path(f) / name).exists())
        (programs / name).symlink_to(found)
    env = {"PATH": str(programs)}
    assert "pass  screen   4." in box.cli("check", env=env).stdout
    assert box.cli("start", env=env).returncode == 0
    assert sorted(box.status()) == ["cpu0", "cpu1"]
    assert box.cli("stop", env=env).returncode == 0
    (programs / "screen").unlink()
    missing = box.cli("start", env=env)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (5, 1)
    wanted = box.cli("start", env={**env, "TMUXEVOLVE_MULTIPLEXER": "screen"})
    assert wanted.returncode == 5
    assert "screen is not on the PATH" in wanted.stderr
    odd = box.cli("start", env={"TMUXEVOLVE_MULTIPLEXER": "byobu"})
    assert odd.returncode == 2
    assert "$TMUXEVOLVE_MULTIPLEXER: 'byobu': expected tmux or screen" in odd.stderr
    named = box.cli("start", "-L", "x", env={"TMUXEVOLVE_MULTIPLEXER": "screen"})
    assert named.returncode == 2
    (programs / "screen").write_text("#!/bin/sh\necho 'Screen version 4.06.02 (GNU) 23-Oct-17'\n")
    (programs / "screen").chmod(0o755)
    old = box.cli("start", env={**env, "TMUXEVOLVE_MULTIPLEXER": "screen"})
    assert old.returncode == 5
    assert "screen 4.6.2 is too old: 4.9 or newer" in old.stderr


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with new_box(tmp_path_factory.mktemp("words"), "screen") as made:
        made.hands.new_session("words", "sleep", "1000")
        yield made


WORDS = st.text(st.sampled_from("aZ $^\\\"'{}~#%;&|()é\t-"), min_size=1, max_size=20)


@settings(deadline=None, max_examples=60)
@given(words=st.lists(WORDS, min_size=1, max_size=3))
def test_words_reach_a_program_as_they_are(shared: Box, words: list[str]) -> None:
    said = shared.root / "said"
    said.unlink(missing_ok=True)
    code = (
        "import json, os, sys; p = sys.argv[1];"
        "open(p + '.t', 'w').write(json.dumps(sys.argv[2:])); os.rename(p + '.t', p)"
    )
    script = shared.root / "say.py"
    script.write_text(code)
    argv = [sys.executable, "-I", "-S", str(script), str(said), *words]
    shared.hands.command("words", "screen", *map(literal, argv))  # type: ignore[attr-defined]
    poll(said.exists)
    assert json.loads(said.read_text()) == words


def test_an_unprivileged_user(box: Box) -> None:
    if os.getuid():
        pytest.skip("only root can become somebody else")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "screen", "-ls"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": box.env["PATH"], "HOME": "/nonexistent"},
    )
    assert re.search("No Sockets found", done.stdout + done.stderr)


def test_copy_mode_hides_nothing_and_holds_up_nothing(box: Box) -> None:
    flood = "import itertools\nfor n in itertools.count(): print('line', n, 'x' * 60)"
    box.session(command=[sys.executable, "-c", flood], cpu_slots=1)
    assert box.cli("start").returncode == 0
    viewer = Viewer(box)
    viewer.run("tmuxevolve attach 0")
    viewer.see("line")
    viewer.type("C-a", "[")

    def line() -> int:
        return int((re.findall(r"line (\d+)", box.status()["cpu0"]["progress"]) or [0])[-1])

    before = line()
    poll(lambda: line() > before)
    assert "ended by SIGKILL" in box.cli("stop", "--now").stdout


def test_a_window_given_another_number_is_shown(running: Box, hands: ScreenHands) -> None:
    hands.command("demo", "number", "7", window=1)
    poll(lambda: (7, "cpu1") in hands.windows())
    argv = [w for w in running.windows() if w.name == "cpu1"]
    viewer = Viewer(running)
    viewer.run("tmuxevolve attach cpu1")
    viewer.see(r"count \d+")
    assert len(argv) == 1


@pytest.mark.parametrize("name", ["\u00fc" * 64, "a" * 64])
def test_long_names(box: Box, name: str) -> None:
    box.session(name, cpu_slots=1)
    done = box.cli("start")
    assert done.returncode == 0, done
    assert [s["session"] for s in box.json("status")] == [name]
    assert box.cli("stop").returncode == 0


def test_a_folder_that_screen_cannot_use(box: Box) -> None:
    box.session(cpu_slots=1)
    done = box.cli("start", env={"SCREENDIR": "/nonexistent/x"})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "Cannot access /nonexistent/x" in done.stderr


def test_what_another_user_answers_is_not_listened_to(box: Box) -> None:
    if os.getuid():
        pytest.skip("only root can become somebody else")
    listen = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.bind('\\0tmuxevolve.console/' + sys.argv[1]); s.listen()\n"
        "print('ready', flush=True)\n"
        "while True: s.accept()[0].sendall(b'forged')"
    )
    place = f"test/{box.root.name}"
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    argv += ["/usr/bin/env", "python3", "-c", listen, place]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd="/") as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == b"ready\n"
        with pytest.raises(PermissionError):
            console.ask(*place.split("/"), b"look")
        stranger.kill()


def test_a_fifo_that_nobody_reads_holds_up_nothing(running: Box, tmp_path: Path) -> None:
    fifo = tmp_path / "nobody"
    os.mkfifo(fifo)
    code = (
        "import sys; from pathlib import Path; from tmuxevolve.multiplexer.screen import Screen;"
        "s = Screen(); s.record([(w, Path(sys.argv[1])) for w in s.windows()])"
    )
    argv = [sys.executable, "-c", code, str(fifo)]
    subprocess.run(argv, env=running.env, check=True, timeout=9)
    assert {w["state"] for w in running.status().values()} == {"running"}
