"""logs: real windows, a real recorder, and what may happen to it and to its files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support import Box, Viewer, command_line, poll, recorders

from tmuxevolve.multiplexer.tmux import Tmux
from tmuxevolve.recording import files
from tmuxevolve.recording.files import LOG, RAW, Kept
from tmuxevolve.session.hand import Hand

pytestmark = pytest.mark.either

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
# Prints what stands in the file `say`, whenever that is there.
TRAINER = """
import os, pathlib, sys, time
print("begin", os.environ["TMUXEVOLVE_WORKER"][:4], flush=True)
say = pathlib.Path(sys.argv[1] + os.environ["TMUXEVOLVE_WORKER"][:4])
while True:
    if say.exists():
        data = say.read_bytes()
        say.unlink()
        os.write(1, data)
    time.sleep(0.02)
"""


def session(box: Box, **keys: object) -> Path:
    """Write a session of that trainer; return where its logs are to be."""
    box.session(command=[sys.executable, "-c", TRAINER, f"{box.root}/say-"], **keys)
    return box.root / "results" / "logs" / os.uname().nodename


def say(box: Box, data: bytes, window: str = "cpu0") -> None:
    """Let a trainer print this."""
    part = box.root / "part"
    part.write_bytes(data)
    part.rename(f"{box.root}/say-{window}")


def cats(box: Box) -> list[psutil.Process]:
    server = int(box.tmux("display-message", "-p", "#{pid}"))
    return [p for p in psutil.Process(server).children() if p.name() == "cat"]


def has(path: Path, pattern: str) -> str | None:
    text = path.read_text() if path.exists() else ""
    return text if re.search(pattern, text, re.MULTILINE) else None


def test_the_windows_output_is_kept_and_shown(box: Box) -> None:
    logs = session(box)
    assert box.cli("start").stdout.count("note: ") == 1  # that there is no GPU
    bar = b"".join(b"\r\x1b[32m%d%%\x1b[0m" % n for n in range(101))
    say(box, bar + b"\r\nover 0\r\n")
    say(box, "über 1\r\n".encode(), "cpu1")
    poll(lambda: has(logs / "cpu0.log", "^.* over 0$") and has(logs / "cpu1.log", "über 1$"))
    assert re.fullmatch(
        rf"{STAMP} begin cpu0\n{STAMP} 100%\n{STAMP} over 0\n", (logs / "cpu0.log").read_text()
    )
    shown = box.cli("logs").stdout
    assert re.search(rf"^cpu0 \| {STAMP} 100%$", shown, re.MULTILINE)
    assert re.search(rf"^cpu1 \| {STAMP} über 1$", shown, re.MULTILINE)
    stamps = [line[7:26] for line in shown.splitlines()]
    assert stamps == sorted(stamps)
    assert box.cli("logs", "0", "-n", "1").stdout == (logs / "cpu0.log").read_text()[-27:]
    assert box.cli("logs", "cpu0", "--raw").stdout.encode().count(b"\x1b[32m") == 101
    assert (logs / "cpu0.raw").read_bytes() == b"begin cpu0\r\n" + bar + b"\r\r\nover 0\r\r\n"


def test_nothing_is_left_after_stop_and_the_log_is_still_read(box: Box) -> None:
    logs = session(box)
    box.cli("start")
    (recorder,) = recorders(box)
    assert recorder.environ().keys() <= {"PATH", "TZ", "PWD", "OLDPWD", "SHLVL", "_"}
    assert recorder.cwd() == str(box.root / "results")
    assert recorder.ppid() not in {os.getpid(), psutil.Process().ppid()}
    assert os.getsid(recorder.pid) != os.getsid(0)
    poll(lambda: not Path(fifo_folder(recorder)).exists())
    opened = {str(path.readlink()) for path in Path(f"/proc/{recorder.pid}/fd").iterdir()}
    assert {name for name in opened if "tmuxevolve-" not in name} == {"/dev/null"}
    if box.multiplexer == "tmux":
        assert len(cats(box)) == 2
    say(box, b"last words\r\n")
    poll(lambda: has(logs / "cpu0.raw", "last words"))
    assert box.cli("stop").returncode == 0
    poll(lambda: not recorders(box), 10)
    # Also what the trainer said as it was interrupted.
    assert " last words\n" in box.cli("logs", "0").stdout
    assert box.cli("logs", "0").stdout.endswith(" KeyboardInterrupt\n")
    # A tmux that is not even there is not needed.
    gone = box.cli("logs", "cpu0", env={"PATH": "/nowhere"})
    assert gone.stdout.endswith(" KeyboardInterrupt\n")
    by_name = box.cli("logs", "0", "--results", str(box.root / "results"), cwd="/")
    assert by_name.stdout == gone.stdout


def fifo_folder(recorder: psutil.Process) -> str:
    return next(word for word in command_line(recorder) if "/tmuxevolve-" in word)


def test_a_killed_recorder_harms_nobody_and_the_next_start_records_again(box: Box) -> None:
    logs = session(box)
    box.cli("start")
    poll(lambda: has(logs / "cpu1.log", "begin"))
    before = box.status()
    for recorder in recorders(box):
        recorder.kill()
    say(box, b"nobody reads this\r\n" * 9999)
    poll(lambda: not next(w.recorded for w in box.windows() if w.name == "cpu0"))
    assert "left alone: cpu0, cpu1" in box.cli("start").stdout
    assert {n: w["pid"] for n, w in box.status().items()} == {
        n: w["pid"] for n, w in before.items()
    }
    say(box, b"read again\r\n")
    poll(lambda: has(logs / "cpu0.log", "read again$"))
    box.cli("stop")
    poll(lambda: not recorders(box), 10)


def test_start_without_a_place_for_logs_goes_on_and_says_so(box: Box) -> None:
    session(box)
    (box.root / "results").mkdir()
    (box.root / "results" / "logs").write_text("")
    started = box.cli("start")
    assert started.returncode == 0
    assert "results/logs" in started.stdout
    assert "Not a directory: the windows' output is not kept" in started.stdout
    assert recorders(box) == []
    assert [w["state"] for w in box.status().values()] == ["running", "running"]
    assert box.cli("logs").returncode == 4


def test_a_deleted_folder_is_made_anew(box: Box) -> None:
    logs = session(box)
    box.cli("start")
    poll(lambda: has(logs / "cpu0.log", "begin"))
    shutil.rmtree(logs.parent)
    say(box, b"after\r\n")
    poll(lambda: has(logs / "cpu0.log", "after$"))


def test_an_ended_window_used_again_goes_on_in_the_same_file(box: Box) -> None:
    logs = session(box, cpu_slots=1)
    box.cli("start")
    poll(lambda: has(logs / "cpu0.log", "begin"))
    follower = subprocess.Popen(
        [sys.executable, "-m", "tmuxevolve", "logs", "-f"],
        env=box.env,
        cwd=box.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "begin" in follower.stdout.readline()
        os.kill(box.status()["cpu0"]["pid"], signal.SIGKILL)
        poll(lambda: box.status()["cpu0"]["state"] == "failed")
        box.cli("start")
        poll(lambda: (t := has(logs / "cpu0.log", "begin")) and t.count("begin") == 2)
        while "begin" not in follower.stdout.readline():
            pass
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 130
        assert follower.stderr.read() == "tmuxevolve: interrupted\n"
    finally:
        follower.kill()
        follower.stdout.close()
        follower.stderr.close()
    # The first start's recorder has nothing left to read.
    poll(lambda: len(recorders(box)) == 1)


def test_following_ends_when_the_readers_pipe_is_closed(box: Box) -> None:
    session(box)
    box.cli("start")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m tmuxevolve logs -f | sed -n q"],
        env=box.env,
        cwd=box.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_who_follows_sees_every_line_across_rotation(tmp_path: Path) -> None:
    from tmuxevolve.session import logs

    where = f"{tmp_path}/{files.folder('host')}"
    (tmp_path / "logs").mkdir()
    kept = Kept(where, "gpu2", LOG)
    kept._bound = 2_000
    number = 0

    def write(seconds: float) -> None:
        nonlocal number
        for _ in range(40):
            kept.append(f"2026-11-25 03:04:05 line {number}\n".encode())
            number += 1

    write(0)
    follow = logs.lines(tmp_path, "2", 10, write)
    seen = [line.text for _ in range(20) for line in next(follow).lines]
    assert seen == [f"2026-11-25 03:04:05 line {n}" for n in range(30, number)]
    assert sorted(p.name for p in Path(where).iterdir()) == [
        "gpu2.log",
        "gpu2.log.1",
        "gpu2.log.2",
        "gpu2.log.3",
    ]
    assert all(path.stat().st_size <= 2_000 for path in Path(where).iterdir())
    last = next(logs.lines(tmp_path, "2", 100, None)).lines
    assert [line.text for line in last] == [
        f"2026-11-25 03:04:05 line {n}" for n in range(number - 100, number)
    ]


def test_hosts_that_share_a_directory_are_told_apart(box: Box) -> None:
    box.session()
    for host, when in (("one", "05"), ("two", "04")):
        for window in ("gpu10", "gpu2", "gpu2-w1"):
            path = box.root / "results" / "logs" / host / f"{window}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"2026-11-25 03:04:{when} {window}\n")
    assert box.cli("logs", "2").stdout.splitlines() == [
        "two/gpu2    | 2026-11-25 03:04:04 gpu2",
        "two/gpu2-w1 | 2026-11-25 03:04:04 gpu2-w1",
        "one/gpu2    | 2026-11-25 03:04:05 gpu2",
        "one/gpu2-w1 | 2026-11-25 03:04:05 gpu2-w1",
    ]
    assert box.cli("logs", "2/1").stdout.count("\n") == 2
    assert box.cli("logs", "one/gpu2").stdout == "2026-11-25 03:04:05 gpu2\n"
    several = box.cli("logs", "--raw", "2")
    assert (several.returncode, several.stderr.count("\n")) == (2, 1)
    missing = box.cli("logs", "7")
    assert missing.returncode == 4
    assert "GPU 7 has no log in" in missing.stderr
    assert "two/gpu10" in missing.stderr


def test_a_full_disk_is_survived_and_what_was_lost_is_said(tmp_path: Path) -> None:
    from tmuxevolve.recording.recorder import Window

    (tmp_path / "logs").mkdir()
    window = Window(f"{tmp_path}/{files.folder('host')}", "gpu2", -1)
    log = tmp_path / "logs" / "host" / "gpu2.log"
    full = log.with_name("full")
    full.parent.mkdir()
    log.symlink_to("/dev/full")
    log.with_suffix(RAW).symlink_to("/dev/full")
    window.put(b"lost\r\n" * 200)
    window.keep(0.0)
    window.keep(5.0)
    log.unlink()
    window.put(b"kept\r\n")
    window.keep(6.0)
    window.keep(10.0)
    assert re.search(rf"^{STAMP} tmuxevolve: \d+ bytes are missing here: ", log.read_text())
    assert log.read_text().endswith(" kept\n")


def test_a_slow_disk_costs_little_memory(tmp_path: Path) -> None:
    from tmuxevolve.recording.recorder import Window

    (tmp_path / "logs").mkdir()
    window = Window(f"{tmp_path}/{files.folder('host')}", "gpu2", -1)
    for _ in range(100):
        window.put(b"x" * 65_000 + b"\r\n")
    window.ended = True
    window.keep(1.0)
    log = tmp_path / "logs" / "host" / "gpu2.log"
    assert "bytes are missing here: it came faster than it could be written" in log.read_text()
    assert log.with_suffix(RAW).stat().st_size < 2 << 20


def test_raw_output_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    where = f"{tmp_path}/{files.folder('host')}"
    kept = Kept(where, "gpu2", RAW)
    for _ in range(20):
        kept.append(b"x" * (1 << 20))
    assert {p.name: p.stat().st_size for p in Path(where).iterdir()} == {
        "gpu2.raw": 4 << 20,
        "gpu2.raw.1": 4 << 20,
    }


@pytest.mark.parametrize("folder", ["plain", "a b;#{pane_id} %Y '$(x)\" ü"])
def test_whatever_the_temporary_folder_is_called(box: Box, folder: str) -> None:
    logs = session(box, cpu_slots=1)
    (box.root / folder).mkdir()
    box.cli("start", env={"TMPDIR": str(box.root / folder)})
    poll(lambda: has(logs / "cpu0.log", "begin"))
    poll(lambda: not list((box.root / folder).iterdir()))


@pytest.mark.tmux_only  # screen takes another number
def test_a_window_that_is_refused_is_not_waited_for(box: Box) -> None:
    session(box)
    box.cli("start")
    box.cli("stop", "1")
    box.tmux("new-window", "-d", "-t", "=demo:1", "sleep", "1000")
    before = {p.pid for p in recorders(box)}
    folder = box.root / "temporary"
    folder.mkdir()
    assert box.cli("start", env={"TMPDIR": str(folder)}).returncode == 1
    poll(lambda: {p.pid for p in recorders(box)} <= before, 10)
    assert list(folder.iterdir()) == []


@pytest.mark.tmux_only  # it looks at tmux itself
def test_the_live_view_shows_the_log_of_a_window_that_is_gone(own_tmux: Box) -> None:
    logs = session(own_tmux)
    own_tmux.cli("start")
    poll(lambda: has(logs / "cpu0.log", "begin cpu0"))
    hand, (window, _) = Hand(Tmux(), own_tmux.env), Tmux().windows()
    assert "begin cpu0" in hand.printed(window)
    own_tmux.cli("stop")
    poll(lambda: not recorders(own_tmux))
    assert any(line.endswith("begin cpu0") for line in hand.printed(window))
    shutil.rmtree(logs)
    assert hand.printed(window) == ()


def test_in_a_real_terminal(box: Box) -> None:
    session(box)
    box.cli("start")
    viewer = Viewer(box)
    viewer.run(f"{sys.executable} -m tmuxevolve logs -f; echo ended $?")
    viewer.see(rf"cpu1 \| {STAMP} begin cpu1")
    say(box, b"\x1b[2J\x1b[31mgreetings\r\n")
    viewer.see(rf"^cpu0 \| {STAMP} greetings$")
    viewer.type("C-c")
    viewer.see("ended 130")
