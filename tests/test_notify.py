"""Notifications: who is told of what, how often, and what a notifier cannot do to a session."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Box, box_processes, command_line, is_alive, poll

from tmuxevolve import census, configfile, messenger, notify, placeholders
from tmuxevolve.config import NOTICE, Notify
from tmuxevolve.errors import MissingError
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.memory import watchdog
from tmuxevolve.notify import Messenger, Notice, Outbox, dispatch
from tmuxevolve.session import notify as before_start
from tmuxevolve.study.definition import Definition, agree
from tmuxevolve.study.files import Files

SECRET = "s3cr3t-t0ken"
# Each generation is better than the one before.
TRAINER = "while [ -e wait ]; do sleep 0.05; done; echo fit={generation} {hyp.lr}; exit $(cat code)"
HOOK = """
import json, os, pathlib, sys, time
env = {name: value for name, value in os.environ.items() if name.startswith("TMUXEVOLVE_")}
line = json.dumps({"words": sys.argv[1:], "env": env}) + "\\n"
with open("told", "a") as file:
    file.write(line)
how = pathlib.Path("hook").read_text()
if how == "hang":
    time.sleep(1000)
if how == "fail":
    sys.exit("no such topic")
"""


@pytest.fixture
def session(box: Box) -> Any:
    """Return a function that writes a session whose windows tell a program of what happens."""

    def write(on: tuple[str, ...] = ("finished", "failed", "best"), **keys: Any) -> None:
        (box.root / "hook.py").write_text(HOOK)
        (box.root / "hook").touch()
        (box.root / "code").write_text("0")
        words = ("{event}", "{generation}", "{fitness}", "{window}", "{message}", "{{event}} {")
        search = {
            "generations": 4,
            "hyp": {"lr": 0.01},
            "space": {"lr": {"min": 0.001, "max": 0.1}},
            "fitness": {"pattern": r"fit=(\d+)"},
        }
        told = {"command": [sys.executable, "hook.py", *words], "on": on, **keys.pop("notify", {})}
        box.session(
            **{
                "command": ["sh", "-c", TRAINER],
                "cpu_slots": 1,
                "restart": {"backoff": 0},
                "evolve": {**search, **keys.pop("evolve", {})},
                "notify": {key: value for key, value in told.items() if value},
                **keys,
            }
        )

    return write


def told(box: Box) -> list[dict[str, Any]]:
    """Return what the program was run with, as often as it was."""
    path = box.root / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events(box: Box) -> list[str]:
    return sorted(call["words"][0] for call in told(box))


def over(box: Box) -> None:
    """Wait until every window has come to its end, and its last word."""
    flags = ("list-panes", "-a", "-F", "#{pane_dead}")
    poll(lambda: {*box.tmux(*flags).split()} == {"1"}, 60)


def printed(box: Box) -> str:
    return box.tmux("capture-pane", "-pJS", "-", "-t", "=demo:0")


def test_a_study_tells_of_better_generations_and_once_of_its_end(box: Box, session: Any) -> None:
    session()
    assert box.cli("start").returncode == 0
    over(box)
    poll(lambda: len(told(box)) == 4)
    found = {tuple(call["words"][:4]) for call in told(box)}
    # Not of the first: it has nothing to be better than.
    better = {("best", str(n), str(n), "cpu0") for n in (1, 2, 3)}
    assert found == {*better, ("finished", "", "3", "cpu0")}
    (end,) = (call for call in told(box) if call["words"][0] == "finished")
    assert end["words"][4].startswith("4 of 4 generations are finished; best fitness 3")
    assert end["words"][5] == "{event} {"
    assert end["env"]["TMUXEVOLVE_MESSAGE"] == end["words"][4]
    assert end["env"]["TMUXEVOLVE_TITLE"] == "demo: finished"
    assert end["env"]["TMUXEVOLVE_RESULTS"] == str(box.root / "results")
    assert census.MARK not in end["env"]
    box.cli("start")
    assert box.cli("start", "--generations", "5").returncode == 0
    over(box)
    poll(lambda: len(told(box)) == 6)
    assert events(box) == ["best"] * 4 + ["finished"] * 2


def test_many_workers_tell_of_the_end_once(box: Box, session: Any) -> None:
    session(("finished",), cpu_slots=4, evolve={"generations": 12})
    box.cli("start")
    over(box)
    poll(lambda: told(box))
    assert events(box) == ["finished"]


ANNOUNCE = """
import sys
from pathlib import Path
from tmuxevolve.study.announced import spent
from tmuxevolve.study.files import Files
results, name = sys.argv[1:]
(Path(results) / name).touch()
while True:
    if spent(Files(Path(results))):
        print(name, flush=True)
"""


def test_killed_workers_tell_of_a_spent_budget_at_most_once(tmp_path: Path) -> None:
    layout = {"metrics": ["fitness"], "weights": [1.0]}
    wanted = {"generations": 2, "base": {"lr": 0.1}, "layout": layout}
    definition = msgspec.convert(wanted, Definition)
    agree(Files(tmp_path), definition, budget=None)
    said = tmp_path / "said"
    with said.open("wb") as out:
        argv = (sys.executable, "-c", ANNOUNCE, str(tmp_path))
        workers = [subprocess.Popen([*argv, f"w{n}"], stdout=out) for n in range(6)]
    poll(lambda: len([*tmp_path.glob("w*")]) == 6)
    # The budget is spent while all look, and some of them are killed.
    (tmp_path / "evolve.csv").write_text("fitness,lr\n1,0.1\n2,0.2\n")
    for worker in workers[:5]:
        worker.kill()
        worker.wait()
    poll(Files(tmp_path).announced.exists)
    first = said.read_text().split()
    agree(Files(tmp_path), definition, budget=3)
    with (tmp_path / "evolve.csv").open("a") as table:
        table.write("3,0.3\n")
    poll(lambda: "3" in Files(tmp_path).announced.read_text())
    poll(lambda: len(said.read_text().split()) > len(first))
    workers[5].kill()
    workers[5].wait()
    assert len(first) <= 1
    assert said.read_text().split() == [*first, "w5"]


def test_a_window_that_gives_up_has_failed_and_no_training_before(box: Box, session: Any) -> None:
    session()
    (box.root / "code").write_text("3")
    box.cli("start")
    over(box)
    poll(lambda: told(box))
    (call,) = told(box)
    assert call["words"][0] == "failed"
    assert "cpu0 failed: 3 trainings failed here one after another" in call["words"][4]


@pytest.mark.parametrize("restart", [{"on": "never"}, {"backoff": 0}])
def test_a_killed_worker_has_failed_when_none_follows(
    box: Box, session: Any, restart: dict[str, Any]
) -> None:
    session(restart=restart)
    (box.root / "wait").touch()
    box.cli("start")
    worker = box.worker("cpu0")
    worker.kill()
    if restart == {"on": "never"}:
        over(box)
        poll(lambda: told(box))
        assert told(box)[0]["words"][4] == "cpu0 failed: the worker was ended by SIGKILL"
    else:
        poll(lambda: "begins" in printed(box).partition("SIGKILL")[2])
    assert events(box) == ["failed"] * (restart == {"on": "never"})


def test_a_killed_keeper_is_a_failed_window(box: Box, session: Any) -> None:
    session()
    (box.root / "wait").touch()
    box.cli("start")
    box.worker("cpu0")
    box.keeper("cpu0").kill()
    poll(lambda: told(box))
    assert events(box) == ["failed"]


@pytest.mark.parametrize("how", ["stop", "Ctrl-C", "close"])
def test_what_somebody_ends_has_not_failed(box: Box, session: Any, how: str) -> None:
    session()
    (box.root / "wait").touch()
    box.cli("start")
    poll(lambda: "generation 0 begins" in printed(box))
    worker = box.worker("cpu0")
    if how == "stop":
        box.cli("stop")
    elif how == "close":
        box.tmux("kill-window", "-t", "=demo:0")
    else:
        box.tmux("send-keys", "-t", "=demo:0", "C-c")
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()
    assert told(box) == []
    assert not [p for p in box_processes(box) if census.MESSENGER in command_line(p)]


def test_in_native_mode_every_window_tells_of_its_own_end(box: Box, session: Any) -> None:
    native = {"mode": "native"}
    command = ["sh", "-c", "exit $(cat code)"]
    session(command=command, evolve=native, cpu_slots=2, restart={"on": "never"})
    box.cli("start")
    over(box)
    poll(lambda: len(told(box)) == 2)
    assert {tuple(call["words"][:4]) for call in told(box)} == {
        ("finished", "", "", "cpu0"),
        ("finished", "", "", "cpu1"),
    }
    (box.root / "told").unlink()
    session(command=["no-such-program"], evolve=native)
    box.cli("start")
    poll(lambda: told(box))
    assert told(box)[0]["words"][0] == "failed"
    assert "did not start: cannot run 'no-such-program'" in told(box)[0]["words"][4]


def test_a_notifier_that_hangs_holds_up_nothing(box: Box, session: Any) -> None:
    session(("best",), evolve={"generations": 100})
    (box.root / "hook").write_text("hang")
    box.cli("start")
    poll(lambda: told(box))
    (box.root / "wait").touch()
    poll(lambda: (w := box.status()["cpu0"])["pid"] and w["generation"])
    hanging = [p for p in box_processes(box) if "hook.py" in command_line(p)]
    senders = [p for p in box_processes(box) if census.MESSENGER in command_line(p)]
    assert hanging
    trainer = psutil.Process(box.status()["cpu0"]["pid"])
    assert "sh" in trainer.cmdline(), "status shows the trainer"
    (stopped,) = box.json("stop")
    assert stopped["signal"] == "SIGINT"
    assert all(p.is_running() for p in [*hanging, *senders])
    for sender in senders:
        sender.kill()
    _, alive = psutil.wait_procs(hanging, timeout=10)
    assert not alive, "its program goes with it"


def test_what_has_sent_is_no_zombie(box: Box, session: Any) -> None:
    session(("best",), evolve={"generations": 100})
    box.cli("start")
    poll(lambda: told(box))
    (box.root / "wait").touch()
    worker, keeper = box.worker("cpu0"), box.keeper("cpu0")

    def zombies() -> list[psutil.Process]:
        near = [*worker.children(), *keeper.children()]
        return [p for p in near if p.is_running() and not is_alive(p)]

    poll(lambda: not [p for p in worker.children() if census.MESSENGER in command_line(p)])
    poll(lambda: not zombies())


@pytest.mark.parametrize("how", ["fail", "missing"])
def test_a_notifier_that_fails_is_a_line_in_the_window(box: Box, session: Any, how: str) -> None:
    program = box.root / "python"
    program.symlink_to(sys.executable)
    session(("finished",), notify={"command": [str(program), "hook.py"]})
    (box.root / "hook").write_text("fail")
    (box.root / "wait").touch()
    assert box.cli("start").returncode == 0
    if how == "missing":
        program.unlink()
    (box.root / "wait").unlink()
    over(box)
    found = {
        "fail": f"notify: finished: command: {program}: exit 1: no such topic",
        "missing": f"notify: finished: command: cannot run '{program}': No such file or directory",
    }
    assert printed(box).count("notify: ") == 1
    assert f"tmuxevolve: {found[how]}" in printed(box)
    assert box.status()["cpu0"]["exit_status"] == 0


class Service:
    """An HTTP server that keeps what it is told; it answers when it may."""

    def __init__(self, status: int = 200) -> None:
        self.told: list[dict[str, Any]] = []
        self.may_answer = Event()
        told, may_answer = self.told, self.may_answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.append({"path": self.path, **json.loads(body)})
                may_answer.wait(60)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"json://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


def test_apprise_tells_a_service_and_nobody_sees_its_url(
    box: Box, session: Any, service: Service
) -> None:
    to = {"urls": [f"{service.url}/$TOKEN"], "command": None}
    session(("finished",), notify=to, env={"TOKEN": SECRET})
    started = box.cli("start", "--json")
    assert started.returncode == 0, started
    poll(lambda: service.told, 60)
    # While it is sent.
    command_lines = [word for p in psutil.process_iter() for word in command_line(p)]
    assert any("messenger.py" in word for word in command_lines)
    shown = [*command_lines, started.stdout, box.cli("status", "--json").stdout]
    shown += [box.tmux("show-options", "-As"), box.tmux("show-options", "-Ag")]
    for scope in ("-A", "-Aw", "-Ap"):
        shown.append(box.tmux("show-options", scope, "-t", "=demo:0"))
    shown += [box.tmux("show-environment", "-g"), printed(box)]
    shown += [p.read_text() for p in (box.root / "results").rglob("*") if p.is_file()]
    assert not [text for text in shown if SECRET in text]
    service.may_answer.set()
    over(box)
    (found,) = service.told
    assert found["path"] == f"/{SECRET}"
    assert found["title"] == "demo: finished"
    assert found["message"].startswith("4 of 4 generations are finished; best fitness 3")
    assert found["type"] == "success"
    assert "notify:" not in printed(box)


def test_a_service_that_refuses_is_named_by_its_place(service: Service, tmp_path: Path) -> None:
    service.may_answer.set()
    refusing = Service(status=500)
    refusing.may_answer.set()
    urls = (service.url, f"{refusing.url}/{SECRET}")
    problems = sent_by(dispatched(tmp_path, Notify(urls=urls))[0])
    refusing.close()
    assert problems == ["number 2 of 2 did not take it"]
    assert [told["title"] for told in service.told] == ["demo: test"]


def dispatched(folder: Path, to: Notify) -> list[Messenger]:
    notice = Notice(event="test", message="x", session="demo", window="w", results="/r")
    return [*dispatch(to, notice, str(folder), {"PATH": "/usr/bin:/bin"})]


def sent_by(one: Messenger) -> list[str]:
    found: list[list[str]] = []

    def ended() -> bool:
        problems = one.problems()
        found.extend([] if problems is None else [problems])
        return bool(found)

    poll(ended)
    return found[0]


def test_a_program_that_hangs_is_ended_with_all_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(notify, "LIMIT", 1)
    script = "trap '' TERM; sleep 1001 & echo $! > helper; sleep 1000"
    (one,) = dispatched(tmp_path, Notify(command=("sh", "-c", script)))
    assert sent_by(one) == ["sh took too long and was ended"]
    helper = int((tmp_path / "helper").read_text())
    poll(lambda: not psutil.pid_exists(helper) or psutil.Process(helper).status() == "zombie")


def test_a_service_that_does_not_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, service: Service, tmp_path: Path
) -> None:
    monkeypatch.setattr(notify, "LIMIT", 2)
    (one,) = dispatched(tmp_path, Notify(urls=(f"{service.url}/?rto=60&cto=60",)))
    assert sent_by(one) == ["took longer than 2 s and was ended"]


def test_a_worker_s_memory_is_counted_without_what_tells_of_it(tmp_path: Path) -> None:
    (one,) = dispatched(tmp_path, Notify(command=("sh", "-c", "touch there; sleep 1000")))
    poll((tmp_path / "there").exists)
    sender = one._child.pid
    (program,) = psutil.Process(sender).children()
    assert {sender, program.pid} <= {*watchdog.descendants(os.getpid())}
    assert not {sender, program.pid} & {*watchdog.descendants(os.getpid(), census.is_messenger)}
    os.kill(sender, signal.SIGKILL)
    assert sent_by(one) == ["its process ended by itself (-9)"]


def test_what_a_program_leaves_in_its_group_is_ended(tmp_path: Path) -> None:
    (one,) = dispatched(tmp_path, Notify(command=("sh", "-c", "sleep 1001 & echo $! > helper")))
    assert sent_by(one) == []
    helper = int((tmp_path / "helper").read_text())
    poll(lambda: not psutil.pid_exists(helper) or psutil.Process(helper).status() == "zombie")


def test_a_worker_waits_for_its_last_word_only_a_little(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
    monkeypatch.setattr(notify, "_PATIENCE", 0.3)
    monkeypatch.setattr(notify, "LIMIT", 2)

    class Order:
        session, window, results, workdir, env = (
            "demo",
            "cpu0",
            "/r",
            str(tmp_path),
            {"PATH": "/bin"},
        )

    outbox = Outbox(Order(), Notify(command=("sleep", "1000")))  # type: ignore[arg-type]
    try:
        interrupts = Interrupts()
        outbox.post("failed", "with a \0 in it")
        outbox.post("best", "nobody wants to know")
        began = time.monotonic()
        outbox.close(interrupts)
        assert 0.3 <= time.monotonic() - began < 2
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            if handler is not None and number not in {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, handler)
    assert "notify: failed: command: no end after 0 s; it goes on alone" in capfd.readouterr().err
    ((_, one),) = outbox._sent
    assert sent_by(one) == ["sleep took too long and was ended"]


def test_without_apprise_start_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, box: Box, session: Any, tmp_path: Path
) -> None:
    order = json.dumps({"urls": ["json://localhost"]})
    # Without `site` there are no installed packages.
    argv = [sys.executable, "-I", "-S", census.MESSENGER]
    done = subprocess.run(argv, input=order, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [messenger.MISSING]
    fake = tmp_path / "messenger.py"
    fake.write_text(f"print({done.stdout!r})")
    monkeypatch.setattr(notify, "MESSENGER", str(fake))
    session(notify={"urls": ["json://localhost"]})
    found = configfile.load(box.config).session(None, box.env)
    with pytest.raises(MissingError, match=r"pip install 'tmuxevolve.notify.', or pipx inject"):
        before_start.try_out(found, box.env)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"command": "mail {mesage}"}, "notify.command: {mesage} is none of {title} {message}"),
        ({"command": ["x", "a", "{a}"]}, "notify.command.2: {a} is none of"),
        ({"command": []}, "notify: say who is told"),
        ({"command": "a && b"}, "notify.command: found '&&'"),
        ({"command": ["no-such"]}, "notify.command: there is no program 'no-such'"),
        ({"command": ["./no-such"]}, "notify.command: there is no program './no-such'"),
        ({"urls": SECRET}, "notify.urls: expected array"),
        ({"urls": [f"a$b{SECRET}"]}, "notify.urls.0: a $NAME in it is not set"),
        ({"urls": ["json://a", f"{SECRET}://b"]}, "notify.urls: number 2 of 2 is no URL that"),
        ({"on": ["done"]}, "notify.on.0: 'done': invalid enum value"),
    ],
)
def test_mistakes(box: Box, session: Any, keys: dict[str, Any], message: str) -> None:
    session(notify=keys)
    done = box.cli("start", "--dry-run")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr


def test_a_test_notification(box: Box, session: Any) -> None:
    session(("failed",), notify={"urls": ["json://127.0.0.1:9"]})
    done = box.cli("notify")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == ("demo: command: sent\ndemo: urls: number 1 of 1 did not take it\n")
    assert events(box) == ["test"]
    session(("failed",))
    assert box.json("notify", "demo")["tried"] == [{"by": "command", "problems": []}]
    box.session()
    done = box.cli("notify")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_every_placeholder_has_a_value() -> None:
    notice = Notice(event="best", message="m", session="s", window="w", results="r")
    assert {*notice.values()} == {*NOTICE}


@given(st.text(alphabet="ab{}", max_size=12))
def test_placeholders_are_filled_in_once_and_other_braces_stay(word: str) -> None:
    filled = placeholders.fill(word, "a", lambda name: "{a}")
    if not [*placeholders.used(word, "a")]:
        assert filled == word.replace("{{a}}", "{a}")
    doubled = word.replace("{", "").replace("}", "")
    assert filled.replace("{", "").replace("}", "") == doubled
