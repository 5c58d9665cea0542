"""launcher: slurm, on a real Slurm: two nodes of two pretended GPUs each, on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from slurm_testbed import Cluster
from support import Box, Viewer, command_line, poll

from tmuxevolve.study import history
from tmuxevolve.study.rows import Layout

pytestmark = pytest.mark.timeout(240)

LAYOUT = Layout(metrics=("fitness",), weights=(1.0,))

# Draws a bar until the file "go" says for how long it is to train; on SIGINT it tidies up.
TRAINER = """
import json, os, pathlib, sys, time
lr, output, generation = sys.argv[1:]
here = pathlib.Path(os.environ["TRIAL"])
(here / f"{generation}.gpu").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
print("job", os.environ["SLURM_JOB_ID"], "trains", generation, flush=True)
began = time.monotonic()
try:
    for n in range(10**9):
        done = time.monotonic() - began
        print(f"\\rgeneration {generation}: {n:6}", end="", flush=True)
        if done >= float((here / "seconds").read_text() or 0):
            break
        time.sleep(0.05)
except KeyboardInterrupt:
    (here / f"{generation}.interrupted").touch()
    sys.exit(130)
print()
(pathlib.Path(output) / "r.json").write_text(json.dumps({"map": 1 - abs(float(lr) - 0.03)}))
"""


class Trial:
    """A session whose jobs run on the cluster."""

    def __init__(self, box: Box, cluster: Cluster) -> None:
        self.box, self.cluster = box, cluster
        self.results = box.root / "results"
        box.env |= cluster.env
        (box.root / "trainer.py").write_text(TRAINER)
        self.train_for(1000)

    def train_for(self, seconds: float) -> None:
        """Say how long a training takes, those that are running too."""
        (self.box.root / "seconds.tmp").write_text(str(seconds))
        (self.box.root / "seconds.tmp").replace(self.box.root / "seconds")

    def write(self, workers: int = 2, generations: int = 8, **keys: Any) -> None:
        jobs = {"workers": workers, "gres": "gpu:1", "time": 60, **keys.pop("slurm", {})}
        program = (sys.executable, str(self.box.root / "trainer.py"))
        self.box.session(
            evolve={
                "generations": generations,
                "hyp": {"lr": 0.01},
                "space": {"lr": {"min": 0.001, "max": 0.1}},
                "fitness": {"file": "r.json", "key": "map"},
            },
            **{
                "command": [*program, "{hyp.lr}", "{output}", "{generation}"],
                "launcher": "slurm",
                "slurm": jobs,
                "gpus": {},
                "cpu_slots": 0,
                "env": {"TRIAL": str(self.box.root)},
                "restart": {"backoff": 0},
                "stop": {"grace": "5s"},
                **keys,
            },
        )

    def start(self, *args: str) -> str:
        done = self.box.cli("start", *args)
        assert done.returncode == 0, done
        return done.stdout

    def windows(self) -> dict[str, Any]:
        return self.box.status()

    def running(self, count: int) -> dict[str, Any]:
        """Wait until so many jobs train; return the windows."""

        def trains() -> dict[str, Any]:
            windows = self.windows()
            working = [w for w in windows.values() if w["generation"] is not None]
            return windows if len(working) == count else {}

        return poll(trains, 60)

    def rows(self) -> list[history.Generation]:
        return list(history.read(self.results / "evolve.csv", LAYOUT).generations)

    def journal(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.results / "study" / "journal.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["type"] == kind]

    def slurm(self, *argv: str) -> str:
        done = subprocess.run(
            argv, env=self.box.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return what squeue says of each job that has not ended."""
        lines = self.slurm("squeue", "-h", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def finish(self, seconds: float = 0.2) -> None:
        """Let the budget be spent, and wait for the end of all jobs."""
        self.train_for(seconds)
        poll(lambda: not self.states(), 120)


@pytest.fixture
def trial(box: Box, cluster: Cluster) -> Iterator[Trial]:
    made = Trial(box, cluster)
    try:
        yield made
    finally:
        ids = [*made.states()]
        if ids:
            # One may end at this moment.
            with suppress(AssertionError):
                made.slurm("scancel", "--full", "--signal=KILL", *ids)
            poll(lambda: not made.states(), 60)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TRIAL") == str(box.root):
                    process.kill()
        cluster.wait_idle()


def exactly(trial: Trial, budget: int) -> None:
    """The budget is spent, nothing was trained twice, nothing was lost, nothing failed."""
    found = trial.rows()
    assert len(found) == budget
    assert len({g.hyp["lr"] for g in found}) == budget
    tells = [event["number"] for event in trial.journal("tell")]
    assert len(tells) == len({*tells}) == budget
    assert trial.journal("fail") == []


def test_jobs_share_a_study_and_status_says_what_slurm_does(trial: Trial) -> None:
    trial.write(workers=5, generations=9)
    said = trial.start()
    assert re.search(r"^WINDOW +JOB +STATE\njob0 +\d+ +waiting$", said, re.MULTILINE)
    windows = trial.running(4)
    assert [*windows] == [f"job{n}" for n in range(5)]
    jobs = [window["job"] for window in windows.values()]
    assert [job["state"] for job in jobs] == [*4 * ["RUNNING"], "PENDING"]
    assert sorted(job["node"] for job in jobs) == ["", "node0", "node0", "node1", "node1"]
    # Slurm gives a reason once it has looked for a place.
    poll(lambda: trial.windows()["job4"]["job"]["reason"] in {"Resources", "Priority"})
    assert windows["job4"]["state"] == "waiting"
    poll(lambda: all("generation" in w["progress"] for w in [*trial.windows().values()][:4]))
    text = trial.box.cli("status").stdout
    assert re.search(r"^job4 +\d+ +- +PENDING \((Resources|Priority)\) +waiting +-", text, re.M)
    assert re.search(r"^job0 +\d+ +node\d +RUNNING +running +\d", text, re.M)
    # Slurm chose the GPUs: on each node both.
    assert sorted(path.read_text() for path in trial.box.root.glob("*.gpu")) == ["0", "0", "1", "1"]
    again = trial.start()
    assert "already running, left alone: job0, job1, job2, job3, job4" in again
    trial.finish()
    exactly(trial, 9)
    assert "the budget is spent" in trial.start()
    windows = poll(lambda: all(w["state"] == "finished" for w in trial.windows().values()))
    for name in ("job0", "job4"):
        log = trial.box.cli("logs", name).stdout
        assert "nothing is left of the budget" in log


def test_windows_and_tmux_come_and_go_and_jobs_stay(trial: Trial) -> None:
    trial.write(workers=2)
    trial.start()
    before = trial.running(2)
    trial.box.tmux("kill-window", "-t", "=demo:1")
    windows = trial.windows()
    assert {name: w["job"]["state"] for name, w in windows.items()} == {
        "job0": "RUNNING",
        "job1": "RUNNING",
    }
    gone = trial.box.cli("attach", "job1")
    assert gone.returncode == 4
    assert "job1 of session demo has no window here: tmuxevolve start demo" in gone.stderr
    trial.start()
    trial.box.tmux("kill-server")
    # Nothing here knows of it but Slurm.
    windows = trial.windows()
    assert {n: w["job"]["id"] for n, w in windows.items()} == {
        n: w["job"]["id"] for n, w in before.items()
    }
    assert {w["generation"] for w in windows.values()} == {0, 1}
    trial.start()
    viewer = Viewer(trial.box)
    viewer.run("tmuxevolve attach job1")
    viewer.see(r"generation \d: +\d+")
    trial.finish()
    exactly(trial, 8)


def test_a_bar_is_drawn_at_the_width_of_the_window_and_ctrl_c_reaches_the_training(
    trial: Trial,
) -> None:
    trial.write(workers=1)
    trial.start()
    trial.running(1)
    viewer = Viewer(trial.box)
    viewer.run("tmuxevolve attach job0")
    screen = viewer.see(r"generation 0: +\d+")
    assert len(re.findall(r"generation 0: +\d+", screen)) == 1
    viewer.type("C-c")
    poll((trial.box.root / "0.interrupted").exists)
    viewer.see(r"job0 failed: ended by Ctrl-C")
    windows = poll(lambda: (w := trial.windows()) and w["job0"]["exit_status"] is not None and w)
    assert (windows["job0"]["state"], windows["job0"]["exit_status"]) == ("failed", 130)
    assert [event["number"] for event in trial.journal("back")] == [0]
    trial.start()
    trial.finish()
    exactly(trial, 8)


def test_stop_cancels_exactly_our_jobs_gracefully_first(trial: Trial) -> None:
    script = trial.box.root / "other.sh"
    script.write_text("#!/bin/sh\nsleep 1000\n")
    other = trial.slurm("sbatch", "--parsable", f"--chdir={trial.box.root}", str(script)).strip()
    mine = trial.slurm(
        "sbatch", "--parsable", "--comment=tmuxevolve:{}", f"--chdir={trial.box.root}", str(script)
    ).strip()
    trial.write(workers=5)
    trial.start()
    windows = trial.running(4)
    done = trial.box.cli("stop", "job0", "job4")
    assert done.returncode == 0
    first, last = (windows[name]["job"]["id"] for name in ("job0", "job4"))
    assert f"demo: job0 ended by SIGINT (Slurm job {first})" in done.stdout
    assert f"demo: job4 cancelled (Slurm job {last})" in done.stdout
    assert [*trial.windows()] == ["job1", "job2", "job3"]
    ended = trial.box.json("stop")
    assert [(e["window"], e["signal"], e["left"]) for e in ended] == [
        (f"job{n}", "SIGINT", []) for n in (1, 2, 3)
    ]
    assert len([*trial.box.root.glob("*.interrupted")]) == 4
    assert sorted(event["number"] for event in trial.journal("back")) == [0, 1, 2, 3]
    assert {*trial.states()} == {other, mine}
    assert trial.windows() == {}
    trial.start()
    trial.slurm("scancel", other, mine)
    trial.finish()
    exactly(trial, 8)


def test_drain_lets_generations_finish_and_now_does_not(trial: Trial) -> None:
    trial.write(workers=3, generations=30)
    trial.start()
    trial.running(3)
    drain = subprocess.Popen(
        [sys.executable, "-m", "tmuxevolve", "stop", "--drain"],
        env=trial.box.env,
        cwd=trial.box.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert drain.stderr
    assert "3 windows end after the generation" in drain.stderr.readline()
    trial.train_for(0)
    drain.communicate(timeout=60)
    assert drain.returncode == 0
    assert len(trial.rows()) == 3
    assert trial.journal("back") == []
    trial.train_for(1000)
    trial.start()
    trial.running(3)
    ended = trial.box.json("stop", "--now")
    assert {e["signal"] for e in ended} == {"SIGKILL"}
    assert trial.states() == {}
    assert not [*trial.box.root.glob("*.interrupted")]
    # Nobody gave anything back: whoever comes next takes it over.
    trial.write(workers=3, generations=6)
    trial.start("--generations", "6")
    trial.finish()
    exactly(trial, 6)


def test_a_job_that_is_cancelled_gives_its_generation_back(trial: Trial) -> None:
    trial.write(workers=2)
    trial.start()
    windows = trial.running(2)
    trial.slurm("scancel", windows["job0"]["job"]["id"])
    back = poll(lambda: trial.journal("back"))
    assert [event["number"] for event in back] == [windows["job0"]["generation"]]
    windows = poll(lambda: (w := trial.windows()) and w["job0"]["state"] == "failed" and w)
    assert windows["job0"]["job"]["state"] in {"CANCELLED", "COMPLETING"}
    said = trial.start()
    assert "already running, left alone: job1" in said
    assert re.search(r"^job0 +\d+", said, re.MULTILINE)
    trial.finish()
    exactly(trial, 8)


def test_before_its_time_limit_a_job_gives_back_and_is_queued_again(trial: Trial) -> None:
    trial.write(workers=1, generations=4)
    trial.train_for(0.1)
    (trial.box.root / "seconds").write_text("0.1")
    trial.start()
    poll(lambda: trial.results.exists() and len(trial.rows()) >= 1)
    trial.train_for(1000)
    windows = trial.running(1)
    number = windows["job0"]["generation"]
    # Slurm itself is as exact as a minute: see the test with a real limit.
    trial.slurm("scancel", "--batch", "--signal=HUP", windows["job0"]["job"]["id"])
    poll((trial.box.root / f"{number}.interrupted").exists)
    poll(lambda: [event["number"] for event in trial.journal("back")] == [number])
    waiting = poll(lambda: (w := trial.windows()) and w["job0"]["state"] == "waiting" and w, 60)
    assert waiting["job0"]["job"]["id"] == windows["job0"]["job"]["id"]
    assert "already running, left alone: job0" in trial.start()
    trial.running(1)
    workers = {event["worker"] for event in trial.journal("ask")}
    assert len(workers) == 2
    trial.finish()
    exactly(trial, 4)


def test_a_limit_that_no_generation_fits_into_ends_the_job_with_the_reason(trial: Trial) -> None:
    trial.write(workers=1)
    trial.start()
    windows = trial.running(1)
    trial.slurm("scancel", "--batch", "--signal=HUP", windows["job0"]["job"]["id"])
    poll(lambda: not trial.states(), 60)
    viewer = Viewer(trial.box)
    viewer.run("tmuxevolve attach job0")
    viewer.see("no generation was finished before the job's time limit: raise slurm.time")
    assert [event["number"] for event in trial.journal("back")] == [0]


def test_a_real_time_limit(trial: Trial) -> None:
    # The warning comes 95 s before the limit, or up to a minute earlier.
    trial.write(workers=1, generations=400, slurm={"time": 2})
    trial.train_for(1)
    trial.start()
    poll(lambda: trial.results.exists() and len(trial.rows()) >= 1, 60)
    poll(lambda: trial.journal("back"), 90)
    poll(lambda: trial.windows()["job0"]["state"] == "waiting", 30)
    assert trial.journal("fail") == []
    budget = len(trial.rows()) + 2
    trial.start("--generations", str(budget))
    trial.finish()
    exactly(trial, budget)


def test_slurmd_restarts_under_its_jobs(trial: Trial) -> None:
    trial.write(workers=4, generations=8)
    trial.start()
    windows = trial.running(4)
    trial.cluster.kill_slurmd("node0")
    trial.cluster.start_slurmd("node0")
    trial.cluster.wait_answering()
    trial.train_for(0.1)
    trial.finish()
    exactly(trial, 8)
    assert trial.journal("back") == []
    assert {event["worker"].partition("-")[0] for event in trial.journal("tell")} == {*windows}


def test_a_dead_node_s_jobs_run_again_beside_their_own_orphans(trial: Trial) -> None:
    trial.write(workers=2, generations=10)
    trial.start()
    windows = trial.running(2)
    node = windows["job0"]["job"]["node"]
    other = "node1" if node == "node0" else "node0"
    mine = {name for name, w in windows.items() if w["job"]["node"] == node}
    try:
        trial.cluster.kill_slurmd(node)
        # Until Slurm has given it up, queued its jobs again, and found them a place.
        poll(lambda: all(_node(trial, name) == other for name in mine), 120)
        poll(lambda: len(trial.journal("ask")) >= 2 + len(mine), 60)
        # The orphans still train; each of their reservations takes one tell, and so does each of
        # the new ones.
        trial.train_for(0.1)
        poll(lambda: len(trial.rows()) == 10, 60)
        tellers = {event["worker"] for event in trial.journal("tell")}
        assert len(tellers) >= 2 + len(mine)
        exactly(trial, 10)
    finally:
        trial.cluster.start_slurmd(node)
        trial.cluster.wait_answering()


def _node(trial: Trial, name: str) -> str | None:
    job = trial.windows()[name]["job"]
    return str(job["node"]) if job["state"] == "RUNNING" else None


def test_forty_generations_through_everything_at_once(trial: Trial) -> None:
    """Four workers on two nodes; a job cancelled, a window closed, tmux and slurmd killed."""
    trial.write(workers=4, generations=40)
    trial.train_for(0.3)
    trial.start()
    reached(trial, 5)
    running = [job for job, state in trial.states().items() if state == "RUNNING"]
    trial.slurm("scancel", running[0])
    reached(trial, 9)
    trial.box.tmux("kill-window", "-t", "=demo:1")
    trial.start()
    reached(trial, 13)
    trial.box.tmux("kill-server")
    reached(trial, 17)
    trial.cluster.kill_slurmd("node1")
    reached(trial, 20)
    trial.cluster.start_slurmd("node1")
    trial.start()
    trial.cluster.wait_answering()
    reached(trial, 24)
    trial.train_for(1)
    running = [job for job, state in trial.states().items() if state == "RUNNING"]
    trial.slurm("scancel", "--batch", "--signal=HUP", running[-1])
    reached(trial, 28)
    trial.train_for(1000)
    victim = some_worker(trial)
    os.kill(victim, signal.SIGKILL)
    trial.start()
    trial.train_for(0.1)
    poll(lambda: len(trial.rows()) == 40, 120)
    trial.finish(0)
    exactly(trial, 40)


def reached(trial: Trial, count: int) -> None:
    poll(lambda: trial.results.exists() and len(trial.rows()) >= count, 90)


def some_worker(trial: Trial) -> int:
    """Return the pid of a process of a worker, in whichever job."""

    def find() -> int | None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environ = process.environ()
                staff = "worker_entry.py" in " ".join(command_line(process))
                if staff and environ.get("TRIAL") == str(trial.box.root):
                    return process.pid
        return None

    return int(poll(find) or 0)


def test_two_starts_at_once_submit_each_job_once(trial: Trial) -> None:
    trial.write(workers=4)
    argv = [sys.executable, "-m", "tmuxevolve", "start"]
    starts = [
        subprocess.Popen(
            argv,
            env=trial.box.env,
            cwd=trial.box.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(3)
    ]
    assert [process.wait(60) for process in starts] == [0, 0, 0]
    for process in starts:
        assert process.stdout
        process.stdout.close()
    assert len(trial.states()) == 4
    assert len(trial.running(4)) == 4


def test_the_caller_s_environment_reaches_the_training_and_no_secret_is_shown(
    trial: Trial,
) -> None:
    code = (
        "import os, sys, pathlib, json; out = pathlib.Path(sys.argv[1]);"
        "(out / 'env').write_text(json.dumps(dict(os.environ)));"
        "(out / 'r.json').write_text(json.dumps({'map': float(sys.argv[2])}))"
    )
    trial.write(
        workers=1,
        generations=1,
        command=[sys.executable, "-c", code, "{output}", "{hyp.lr}"],
        env={"TOKEN": "s3cr3t", "TRIAL": str(trial.box.root)},
    )
    trial.box.env |= {"MINE": "a 'b' \"c\"\nd", "SLURM_CPUS_ON_NODE": "99"}
    # From a shell inside tmux.
    trial.box.tmux("new-session", "-d", "-s", "other", "sleep 1000")
    trial.box.env["TMUX"] = trial.box.tmux(
        "display-message", "-p", "-t", "other", "#{socket_path},1,0"
    ).strip()
    trial.start()
    poll(lambda: trial.results.exists() and len(trial.rows()) == 1, 60)
    (path,) = trial.results.glob("generations/*/env")
    env = json.loads(path.read_text())
    assert (env["TOKEN"], env["MINE"]) == ("s3cr3t", "a 'b' \"c\"\nd")
    assert env["SLURM_CPUS_ON_NODE"] != "99"
    assert not {"TMUX", "TMUXEVOLVE_ORDER", "TMUXEVOLVE_CONSOLE"} & {*env}
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    shown = trial.slurm("scontrol", "show", "job")
    shown += "".join(path.read_text() for path in trial.results.rglob("*.out"))
    assert "s3cr3t" not in shown


def test_names_and_paths_that_need_quoting(box: Box, cluster: Cluster) -> None:
    root = box.root / 'it\'s 100%j a "path" ü'
    root.mkdir()
    box.root, box.config = root, root / "sessions.yaml"
    trial = Trial(box, cluster)
    trial.write(workers=1, generations=1)
    trial.train_for(0)
    text = json.loads(box.config.read_text())
    text["sessions"] = {"größe 'x' 2": text["sessions"].pop("demo")}
    box.config.write_text(json.dumps({"sessions": text["sessions"]}))
    trial.start()
    poll(lambda: trial.results.exists() and len(trial.rows()) == 1, 60)
    (path,) = (trial.results / "slurm").glob("*.out")
    assert path.stem.isdecimal()
    assert [s["session"] for s in box.json("status")] == ["größe 'x' 2"]
    poll(lambda: not trial.states())
    assert box.cli("stop").returncode == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"slurm": {"partition": "nowhere"}}, r"sessions\.demo\.slurm: sbatch: .*partition"),
        ({"slurm": {"gres": "gpu:99"}}, r"sessions\.demo\.slurm: sbatch: .*node configuration"),
        ({"slurm": {"extra": ["--no-such-option"]}}, r"slurm: sbatch: unrecognized option"),
    ],
)
def test_what_slurm_refuses_is_one_line(trial: Trial, keys: Any, message: str) -> None:
    trial.write(**keys)
    done = trial.box.cli("start")
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert trial.states() == {}
    checked = trial.box.cli("check")
    assert checked.returncode == 1
    assert re.search(r"^fail +Slurm +sbatch: ", checked.stdout, re.MULTILINE)


def test_check_and_dry_run_submit_nothing(trial: Trial) -> None:
    trial.write(workers=2, memory="1G")
    checked = trial.box.cli("check")
    assert re.search(r"^pass +Slurm +would take 2 jobs", checked.stdout, re.MULTILINE)
    done = trial.box.cli("start", "--dry-run")
    assert done.returncode == 0
    assert "# job1: sbatch --job-name=demo-job1" in done.stdout
    assert "--mem=1024M --" not in done.stdout.replace("--gres", "")
    assert "--mem=1024M" in done.stdout
    assert "CUDA_VISIBLE_DEVICES" not in done.stdout
    assert trial.states() == {}


def test_top_shows_jobs(trial: Trial) -> None:
    trial.write(workers=2)
    trial.start()
    trial.running(2)
    viewer = Viewer(trial.box)
    viewer.run("tmuxevolve top")
    viewer.see(r"job0 .*running")
    viewer.see(r"job1 .*running")
    viewer.type("q")


def test_a_controller_that_is_away_ends_no_window(trial: Trial) -> None:
    """A window that follows says what is wrong and goes on; nothing is taken for over."""
    trial.write(workers=1)
    trial.start()
    trial.running(1)
    viewer = Viewer(trial.box)
    viewer.run("tmuxevolve attach job0")
    viewer.see(r"generation 0: +\d+")
    with away(trial):
        done = trial.box.cli("status")
        assert done.returncode == 1
        assert "squeue: " in done.stderr
        assert trial.box.cli("stop").returncode == 1
    assert trial.running(1)
    trial.finish()
    exactly(trial, 8)


class away:
    """Slurm's commands find no controller meanwhile."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._conf = trial.box.env["SLURM_CONF"]

    def __enter__(self) -> None:
        conf = self._trial.box.root / "slurm.conf"
        text = Path(self._conf).read_text()
        text = re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", text)
        conf.write_text(f"{text}\nMessageTimeout=1\n")
        self._trial.box.env["SLURM_CONF"] = str(conf)

    def __exit__(self, *_: object) -> None:
        self._trial.box.env["SLURM_CONF"] = self._conf
