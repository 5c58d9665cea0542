"""The tmux adapter on a real server, with the settings people really have."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Box, poll

from tmuxevolve.errors import MissingError, NotRunningError, UsageError
from tmuxevolve.multiplexer import Ending, Facts, Opening, State, Window
from tmuxevolve.multiplexer.pane import record_ending
from tmuxevolve.multiplexer.tmux import Tmux

USERS_CONF = """
set -g base-index 1
setw -g pane-base-index 1
set -g renumber-windows on
set -g automatic-rename on
set -g destroy-unattached on
set -g default-shell /bin/false
set -g default-command "exec false"
set -g default-size 20x5
set -g remain-on-exit off
"""
# tmux 3.3a sometimes loses how a pane's process ended.
LOST = (None, State.GONE)


def facts(worker: str, **changes: object) -> Facts:
    values = {
        "worker": worker,
        "session": "demo",
        "slot": "0",
        "trainer": "command",
        "command": "sleep 1000",
        "results": "/tmp/results",
        "started": 1.5,
        "stop_signal": "SIGINT",
        "stop_grace": 30.0,
    }
    return Facts(**{**values, **changes})  # type: ignore[arg-type]


def opening(index: int, *argv: str, workdir: Path = Path("/tmp"), **changes: object) -> Opening:
    name = f"gpu{index}"
    return Opening(
        index=index,
        name=name,
        argv=argv or ("sleep", "1000"),
        workdir=workdir,
        facts=facts(f"{name}-w", slot=str(index), **changes),
    )


def by_index(tmux: Tmux) -> dict[int, Window]:
    return {window.index: window for window in tmux.windows()}


@pytest.fixture(params=["", USERS_CONF], ids=["plain", "users-conf"])
def tmux(own_tmux: Box, request: pytest.FixtureRequest) -> Tmux:
    (own_tmux.home / ".tmux.conf").write_text(request.param)
    return Tmux()


@pytest.mark.parametrize("first", [0, 1, 5])
def test_window_index_is_the_gpu_index(tmux: Tmux, own_tmux: Box, first: int) -> None:
    assert tmux.windows() == ()
    assert tmux.open("demo", [opening(first), opening(7), opening(3)]) == ()
    found = by_index(tmux)
    assert sorted(found) == sorted([first, 3, 7])
    assert all(w.name == f"gpu{i}" and w.facts.slot == str(i) for i, w in found.items())
    assert all(w.state is State.RUNNING and w.pid for w in found.values())
    own_tmux.tmux("select-window", "-t", "=demo:7")
    size = own_tmux.tmux("display-message", "-p", "-t", "=demo:3", "#{window_width}")
    assert int(size) == 200


def test_closing_a_window_renumbers_nothing(tmux: Tmux, own_tmux: Box) -> None:
    tmux.open("demo", [opening(2), opening(4), opening(6)])
    tmux.close([by_index(tmux)[2]])
    assert sorted(by_index(tmux)) == [4, 6]
    tmux.close(tmux.windows())
    assert tmux.windows() == ()


def test_exit_status_stays_readable(tmux: Tmux) -> None:
    argv = ("sh", "-c", "echo last words; exit 3")
    tmux.open("demo", [opening(1, *argv), opening(2)])
    window = poll(lambda: next((w for w in tmux.windows() if w.dead), None))
    assert window.index == 1
    assert (window.exit_status, window.state) in {(3, State.FAILED), LOST}
    # tmux may know of the end before it has shown all that was printed.
    poll(lambda: tmux.screens([window]) == {window.pane: ["last words"]})


def test_killed_process(tmux: Tmux) -> None:
    tmux.open("demo", [opening(1)])
    os.kill(tmux.windows()[0].pid, signal.SIGKILL)
    window = poll(lambda: next((w for w in tmux.windows() if w.dead), None))
    assert (window.exit_status, window.state) in {(137, State.FAILED), LOST}


def test_our_own_record_comes_first(tmux: Tmux, own_tmux: Box, tmp_path: Path) -> None:
    out = tmp_path / "env"
    script = f"env > {out}.tmp; mv {out}.tmp {out}; sleep 1000"
    tmux.open("demo", [opening(1, "sh", "-c", script)])
    poll(out.exists)
    environ = dict(line.partition("=")[::2] for line in out.read_text().splitlines())
    ending = Ending(status=7, reason="a reason; with 'quotes' and ünïcödé;", ended=2.5)
    record_ending(ending, "w", environ)
    os.kill(tmux.windows()[0].pid, signal.SIGTERM)
    window = poll(lambda: next((w for w in tmux.windows() if w.dead), None))
    assert window.ending == ending
    assert (window.exit_status, window.state) == (7, State.FAILED)


def test_an_ended_window_is_used_again(tmux: Tmux) -> None:
    tmux.open("demo", [opening(1, "sh", "-c", "exit 3"), opening(2)])
    dead = poll(lambda: next((w for w in tmux.windows() if w.dead), None))
    again = Opening(
        index=1,
        name="gpu1",
        argv=("sleep", "9"),
        workdir=Path("/"),
        facts=facts("new"),
        replaces=dead,
    )
    assert tmux.open("demo", [again]) == ()
    window = by_index(tmux)[1]
    assert (window.pane, window.dead, window.facts.worker) == (dead.pane, False, "new")


def test_taken_index_refuses_that_window_only(tmux: Tmux, own_tmux: Box) -> None:
    tmux.open("demo", [opening(1)])
    own_tmux.tmux("new-window", "-d", "-t", "=demo:3", "sleep", "1000")
    refused = tmux.open("demo", [opening(2), opening(3), opening(4)])
    assert refused == ("gpu3-w",)
    assert sorted(by_index(tmux)) == [1, 2, 4]


def test_what_the_user_added_stays(tmux: Tmux, own_tmux: Box) -> None:
    tmux.open("demo", [opening(1), opening(2)])
    own_tmux.tmux("split-window", "-d", "-t", "=demo:1", "sleep", "1000")
    own_tmux.tmux("new-window", "-d", "-t", "=demo:9", "sleep", "1000")
    assert len(tmux.windows()) == 2
    tmux.close(tmux.windows())
    left = own_tmux.tmux("list-panes", "-s", "-t", "=demo:", "-F", "#{window_index}").split()
    assert left == ["1", "9"]


def test_moved_and_grouped_panes_are_still_ours_once(tmux: Tmux, own_tmux: Box) -> None:
    tmux.open("demo", [opening(1), opening(2)])
    own_tmux.tmux("join-pane", "-d", "-s", "=demo:2", "-t", "=demo:1")
    own_tmux.tmux("new-session", "-d", "-t", "=demo", "-s", "second")
    assert [w.facts.slot for w in tmux.windows()] == ["1", "2"]


def test_somebody_elses_session_is_refused_not_joined(tmux: Tmux, own_tmux: Box) -> None:
    own_tmux.tmux("-f", "/dev/null", "new-session", "-d", "-s", "demo", "sleep", "1000")
    with pytest.raises(UsageError, match="not started by tmuxevolve"):
        tmux.open("demo", [opening(1)])
    assert tmux.windows() == ()


def test_prefix_of_a_session_name_is_not_that_session(tmux: Tmux, own_tmux: Box) -> None:
    tmux.open("demo-long", [opening(1, session="demo-long")])
    tmux.open("demo", [opening(1), opening(2)])
    assert sorted((w.facts.session, w.index) for w in tmux.windows()) == [
        ("demo", 1),
        ("demo", 2),
        ("demo-long", 1),
    ]


def test_sixty_four_windows_need_few_messages(
    own_tmux: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmux = Tmux()
    calls: list[int] = []
    send = tmux._send
    monkeypatch.setattr(tmux, "_send", lambda groups: calls.append(len(groups)) or send(groups))
    openings = [opening(i, results="/tmp/" + "long/" * 40) for i in range(64)]
    assert tmux.open("demo", openings) == ()
    assert len(tmux.windows()) == 64
    assert len(calls) <= 10


def test_opening_while_the_server_exits(own_tmux: Box) -> None:
    """Closing the last window ends the server, which still answers for a moment."""
    tmux = Tmux()
    for _ in range(30):
        assert tmux.open("demo", [opening(1), opening(2)]) == ()
        assert len(tmux.windows()) == 2
        tmux.close(tmux.windows())


HOSTILE = ["a b", "#{pane_id}", "x;", ";", "$(id)", "a\nb", "'\"`\\", "ünï→", "%1", "~", "{", "}"]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.sampled_from(HOSTILE)
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
        max_size=4,
    )
)
def test_argv_and_facts_arrive_word_for_word(own_tmux: Box, words: list[str]) -> None:
    tmux = Tmux("fuzz")
    out = own_tmux.root / f"argv-{time.monotonic_ns()}"
    script = (
        "import os, sys; p = sys.argv[1]; open(p + '.t', 'w').write('\\0'.join(sys.argv[2:]));"
        " os.rename(p + '.t', p)"
    )
    argv = (sys.executable, "-X", "utf8", "-c", script, str(out), *words)
    wanted = opening(1, *argv, command="\0".join(words), results=words[0] if words else "")
    assert tmux.open("demo", [wanted]) == ()
    try:
        poll(out.exists)
        # Not read_text(): it takes a carriage return for a line's end.
        assert out.read_bytes().decode().split("\0") == (words or [""])
        assert tmux.windows()[0].facts.command.split("\0") == (words or [""])
    finally:
        tmux.close(tmux.windows())


def test_hostile_workdir(own_tmux: Box) -> None:
    tmux = Tmux()
    workdir = own_tmux.root / "a b;#{pane_id} $(x) ü"
    workdir.mkdir()
    out = own_tmux.root / "pwd"
    tmux.open("demo", [opening(1, "sh", "-c", f"pwd > {out}.t; mv {out}.t {out}", workdir=workdir)])
    poll(out.exists)
    assert out.read_text().strip() == str(workdir)


def test_attach_argv(own_tmux: Box) -> None:
    tmux = Tmux("other")
    tmux.open("demo", [opening(1), opening(2)])
    window = by_index(tmux)[2]
    outside = tmux.attach(window, select=True, environ={})
    assert outside.argv == ("tmux", "-L", "other", "attach-session", "-t", window.pane)
    inside = {"TMUX": f"{own_tmux.sockets}/tmux-{os.getuid()}/other,1,0"}
    assert tmux.attach(window, select=True, environ=inside).argv[3] == "switch-client"
    elsewhere = {"TMUX": f"{own_tmux.sockets}/tmux-{os.getuid()}/default,1,0"}
    nested = tmux.attach(window, select=False, environ=elsewhere)
    assert nested.argv[3:] == ("attach-session", "-t", "$0")
    assert nested.unset == ("TMUX",)
    assert [a.switches for a in (outside, nested)] == [False, False]
    tmux.close([window])
    with pytest.raises(NotRunningError, match="gpu2 is not there any more"):
        tmux.attach(window, select=True, environ={})


@pytest.fixture
def unseen_tmux() -> Iterator[None]:
    """libtmux remembers the version that it has seen, in every test of this process."""
    from libtmux import common

    def forget() -> None:
        for function in vars(common).values():
            getattr(function, "cache_clear", bool)()

    forget()
    yield
    forget()


@pytest.mark.usefixtures("unseen_tmux")
def test_missing_tmux(own_tmux: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt install tmux"):
        Tmux().check()
    with pytest.raises(MissingError, match="apt install tmux"):
        Tmux().windows()


@pytest.mark.usefixtures("unseen_tmux")
def test_old_tmux(own_tmux: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "tmux"
    fake.write_text("#!/bin/sh\necho tmux 3.0a\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingError, match="too old"):
        Tmux().check()
