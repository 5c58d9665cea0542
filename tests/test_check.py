"""check: what would keep a session from running, and how it is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_trainer
import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvml_stub import NvmlStub
from support import Box, Viewer, poll, trainer_session

from tmuxevolve import trainers
from tmuxevolve.checkup import Check, Scene, interpreter, lock_trial, machine, storage, training
from tmuxevolve.checkup.storage import Mount
from tmuxevolve.config import GpuPolicy, Session
from tmuxevolve.gpus import Gpu, Snapshot
from tmuxevolve.multiplexer.tmux import Tmux
from tmuxevolve.session import check as core
from tmuxevolve.trainers import inspection

TWO = Snapshot((Gpu(0, uuid="GPU-a", name="A"), Gpu(1, uuid="GPU-b", name="A")), "550.54")
NONE = Snapshot((), problem="no NVIDIA driver on this machine")


def scene(session: Session, snapshot: Snapshot | None = TWO, **keys: Any) -> Scene:
    """Return what the checks look at, as `check` makes it."""
    environ = {"PATH": os.environ["PATH"], **keys.pop("environ", {})}
    trainer = trainers.find(session.trainer, session.command).name
    made = Scene(
        session=session,
        environ=environ,
        mux=Tmux("nobody"),
        trainer=trainer,
        snapshot=snapshot,
        on_gpu=core._on_gpu(session, snapshot),
        workers=2,
        inspection=core._inspection(session, trainer, environ),
    )
    return msgspec.structs.replace(made, **keys)


@pytest.fixture
def yolov5(tmp_path: Path) -> Path:
    return fake_trainer.checkout(tmp_path / "yolov5")


def session(folder: Path, *more: str, python: Path | str = "python") -> Session:
    words = (str(python), "train.py", "--data", "data/mine.yaml", "--weights", "yolov5n.pt", *more)
    return trainer_session(*words, workdir=folder, results=folder / "runs" / "search")


def pytorch(folder: Path, snapshot: Snapshot = TWO, **torch: Any) -> Check:
    python = fake_trainer.environment(folder / ".venv", torch)
    seen = scene(session(folder, python=python), snapshot, workers=2)
    ours, found = interpreter.check(seen)
    assert (ours.state, ours.name) == ("pass", "python")
    return found


@pytest.mark.parametrize(
    ("torch", "state", "found", "mend"),
    [
        ({"devices": 2}, "pass", "2.4.1 for CUDA 12.1, sees 2 GPUs", None),
        ({"devices": 1}, "warn", "2.4.1 for CUDA 12.1 sees 1 of 2 GPUs", "nvidia-smi says"),
        ({"devices": 0}, "fail", "2.4.1 for CUDA 12.1 sees no GPU", "a driver that is new enough"),
        ({"cuda": None}, "fail", "2.4.1 is built without CUDA", "install a build for CUDA"),
        ({"version": None}, "fail", "NoneType", None),
    ],
)
def test_pytorch_on_gpus(
    yolov5: Path, torch: dict[str, Any], state: str, found: str, mend: str | None
) -> None:
    if torch.get("version", "") is None:
        # A PyTorch that is there and cannot be imported.
        torch = {"sleep": None}
        found = "TypeError: "
        mend = "-m pip install torch"
    said = pytorch(yolov5, **torch)
    assert (said.state, said.name) == (state, "PyTorch")
    assert said.found.startswith(found)
    assert (mend or "") in (said.mend or "")


def test_pytorch_on_the_cpu_needs_no_cuda(yolov5: Path) -> None:
    config = msgspec.structs.replace(session(yolov5), cpu_slots=2)
    python = fake_trainer.environment(yolov5 / ".venv", {"cuda": None})
    words = (str(python), *config.command[1:])
    _, said = interpreter.check(scene(msgspec.structs.replace(config, command=words), NONE))
    assert (said.state, said.found) == ("pass", "2.4.1")


def test_no_pytorch(yolov5: Path) -> None:
    python = fake_trainer.environment(yolov5 / ".venv")
    _, said = interpreter.check(scene(session(yolov5, python=python)))
    assert (said.state, said.found) == ("fail", "ModuleNotFoundError: No module named 'torch'")
    assert said.mend
    assert said.mend.startswith(f"{python} -m pip install torch")


def test_the_trainers_folder_and_variables_are_its_own(yolov5: Path) -> None:
    fake_trainer.environment(yolov5 / ".venv", {"devices": 2})
    (yolov5 / "sitecustomize.py").write_text(
        "import os; open('seen', 'w').write(repr([os.environ.get(n) for n in"
        " ('A', 'CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER')]))"
    )
    env = {"A": "x", "PYTHONPATH": "."}
    config = msgspec.structs.replace(session(yolov5, python=".venv/bin/python"), env=env)
    python, torch = interpreter.check(scene(config, environ={"CUDA_VISIBLE_DEVICES": "7"}))
    assert (python.state, torch.state) == ("pass", "pass")
    assert (yolov5 / "seen").read_text() == "['x', None, 'PCI_BUS_ID']"


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (None, "No such file or directory"),
        ("#!/bin/sh\necho broken venv >&2; exit 3", "broken venv"),
        ("#!/bin/sh\nexit 3", "ended with 3, and said nothing"),
        ("#!/bin/sh\nsleep 1000 &\necho $! > pid; wait", "no answer within 2 s"),
    ],
)
def test_a_python_that_does_not_answer(yolov5: Path, program: str | None, found: str) -> None:
    python = yolov5 / "python3"
    if program:
        python.write_text(program)
        python.chmod(0o755)
    (said,) = interpreter.check(scene(session(yolov5, python=python)), timeout=2)
    assert said.state == "fail"
    assert said.found == f"{python}: {found}"
    pid = yolov5 / "pid"
    if "sleep" in (program or ""):
        # What it has started ends with it.
        number = int(poll(pid.read_text))
        poll(lambda: not psutil.pid_exists(number) or psutil.Process(number).status() == "zombie")


@pytest.mark.parametrize(
    ("command", "python"),
    [
        (["python", "x.py", "-u"], ("python",)),
        (
            ["/a b/python3.11", "-u", "-X", "utf8", "-m", "x"],
            ("/a b/python3.11", "-u", "-X", "utf8"),
        ),
        (["python", "-W", "error", "x.py"], ("python", "-W", "error")),
        (["python", "-c", "1"], ("python",)),
        (["bash", "-c", "python"], None),
        (["pythonic"], None),
    ],
)
def test_the_python_of_a_command(command: Sequence[str], python: tuple[str, ...] | None) -> None:
    assert inspection.python_of(command) == python


def test_a_launcher_in_front_of_python(yolov5: Path) -> None:
    config = msgspec.structs.replace(
        session(yolov5), command=("env", "A=1", sys.executable, "-u", "train.py")
    )
    seen = scene(config)
    assert seen.inspection
    assert seen.inspection.python == ("env", "A=1", sys.executable, "-u")
    python, torch = interpreter.check(seen)
    assert (python.state, torch.state) == ("pass", "fail")


def test_a_program_whose_python_is_unseen(tmp_path: Path) -> None:
    (said,) = interpreter.check(scene(trainer_session("./run.sh", workdir=tmp_path)))
    assert (said.state, said.found) == ("warn", "./run.sh runs it, unseen")


VERSIONS = {
    "v7.0": fake_trainer.V7,
    "v6.2": fake_trainer.V7.replace("TQDM_BAR_FORMAT", "x"),
    "v6.1": '"""YOLOv5"""\ndef parse_opt(): "--cos-lr"',
    "v6.0": '"""YOLOv5"""\ndef parse_opt(): "--linear-lr"',
    "master (since December 2023)": fake_trainer.V7.replace("--data", "--evolve_population"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_of_yolov5(yolov5: Path, version: str) -> None:
    (yolov5 / "train.py").write_text(VERSIONS[version])
    said = training.trainer(scene(session(yolov5)))
    assert (said.state, said.found) == ("pass", f"YOLOv5 {version}")


def test_train_py_of_somebody_else(yolov5: Path) -> None:
    (yolov5 / "train.py").write_text("import keras")
    seen = scene(session(yolov5))
    said = training.trainer(seen)
    assert said.state == "warn"
    assert "nothing in it says that it is YOLOv5's" in said.found
    assert training.data(seen) is None
    assert training.weights(seen) is None


def test_no_train_py(yolov5: Path) -> None:
    (yolov5 / "train.py").unlink()
    said = training.trainer(scene(session(yolov5)))
    assert (said.state, said.found) == (
        "fail",
        f"{yolov5}/train.py: no such file; workdir is where the command runs",
    )


def test_a_command_that_contradicts_itself(yolov5: Path) -> None:
    seen = scene(session(yolov5, "--project", "elsewhere"))
    assert seen.inspection is None
    for said in (training.trainer(seen), training.command(seen)):
        assert said.state == "fail"
        assert "results sets them" in said.found
    assert training.data(seen) is None


def test_the_command_and_its_notes(yolov5: Path) -> None:
    said = training.command(scene(session(yolov5)))
    assert (said.state, said.found) == ("pass", "cooperative, 300 generations, 3 hyps")
    said = training.command(scene(session(yolov5, "--device", "0")))
    assert said.state == "warn"
    assert "--device 0 is left out" in said.found
    said = training.command(scene(session(yolov5, "--hyp", "nope.yaml")))
    assert said.state == "fail"
    assert "--hyp nope.yaml: no such file" in said.found


@pytest.mark.parametrize(
    ("text", "state", "found"),
    [
        (
            "{path: ./images, train: train, val: val, names: [x]}",
            "pass",
            "train {root}/images/train",
        ),
        (
            "{path: ./images, train: [train, val], val: val}",
            "pass",
            "train {root}/images/train, val",
        ),
        ("{train: images/train, val: images/val}", "pass", "train {root}/images/train"),
        ("{path: images, train: ../train, val: ../val}", "pass", "train {root}/images/train"),
        ("{path: images, train: train, val: nope}", "fail", "val {root}/images/nope is not there"),
        ("{path: images, train: [train, x], val: val}", "fail", "train {root}/images/x is not"),
        ("{path: x, train: a, val: b, download: x}", "warn", "train {root}/x/a is not there and"),
        ("{path: images, train: train}", "fail", "no `val:` in it"),
        ("{path: images, train: 3, val: val}", "fail", "no `train:` in it"),
        ("[]", "fail", "no `train:` and `val:` in it"),
        ("{train: [", "fail", "not valid YAML"),
    ],
)
def test_data_is_looked_for_as_yolov5_does(yolov5: Path, text: str, state: str, found: str) -> None:
    (yolov5 / "data" / "mine.yaml").write_text(text)
    said = training.data(scene(session(yolov5)))
    assert said
    assert (said.state, found.format(root=yolov5) in said.found) == (state, True), said.found
    assert (said.mend is None) == (state == "pass")


@pytest.mark.parametrize(
    ("written", "state", "found"),
    [
        ("mine.yaml", "pass", "{root}/data/mine.yaml: train"),
        ("nope.yaml", "fail", "nope.yaml: no such file"),
        ("/nope.yaml", "fail", "/nope.yaml: no such file"),
        ("data/a[0].yaml", "pass", "{root}/data/a[0].yaml: train"),
        ("a[0].yaml", "pass", "{root}/data/a[0].yaml: train"),
        ("https://x/y.zip", "warn", "not looked into: an archive or an address"),
    ],
)
def test_data_files_are_found_as_yolov5_does(
    yolov5: Path, written: str, state: str, found: str
) -> None:
    (yolov5 / "data" / "a[0].yaml").write_text((yolov5 / "data" / "mine.yaml").read_text())
    said = training.data(scene(session(yolov5, "--data", written)))
    assert said
    assert (said.state, found.format(root=yolov5) in said.found) == (state, True), said.found


def test_yolov5s_own_data_is_in_the_checkout(yolov5: Path, tmp_path: Path) -> None:
    """Whichever folder the command runs in."""
    (tmp_path / "coco" / "a").mkdir(parents=True)
    words = ("python", str(yolov5 / "train.py"))
    said = training.data(scene(trainer_session(*words, workdir=tmp_path)))
    assert said
    assert (said.state, said.found.partition(": ")[0]) == ("pass", f"{yolov5}/data/coco128.yaml")


@pytest.mark.parametrize(
    ("written", "state"),
    [
        ("yolov5n.pt", "pass"),
        ("yolov5s6.pt", "warn"),
        ("https://x/y.pt", "warn"),
        ("best.pt", "fail"),
        ("", None),
    ],
)
def test_weights(yolov5: Path, written: str, state: str | None) -> None:
    said = training.weights(scene(session(yolov5, "--weights", written)))
    assert (said.state if said else None) == state


def ultralytics(folder: Path, *arguments: str, **torch: Any) -> Scene:
    fake_trainer.environment(folder / ".venv", {"devices": 2, **torch})
    program = fake_trainer.yolo(folder / ".venv")
    words = (str(program), "train", "optimizer=SGD", *arguments)
    made = trainer_session(*words, workdir=folder, results=folder / "runs")
    return scene(made, environ={"YOLO_CONFIG_DIR": str(folder / "settings"), "HOME": str(folder)})


def test_ultralytics(tmp_path: Path) -> None:
    (tmp_path / "data set" / "train").mkdir(parents=True)
    (tmp_path / "d.yaml").write_text("{path: 'data set', train: train, val: train, names: [x]}")
    (tmp_path / "yolo11n.pt").touch()
    seen = ultralytics(tmp_path, "data=d.yaml", "model=yolo11n.pt")
    found = [
        training.trainer(seen),
        *interpreter.check(seen),
        training.command(seen),
        training.data(seen),
        training.weights(seen),
    ]
    assert [check.state for check in found if check] == ["pass"] * 6
    assert found[0]
    assert found[0].found == "Ultralytics 8.3.200"


@pytest.mark.parametrize(
    ("path", "state", "found"),
    [
        ("here", "pass", "{root}/here/a"),
        ("elsewhere", "pass", "{root}/sets/elsewhere/a"),
        ("nowhere", "fail", "{root}/sets/nowhere/a is not there"),
        ("", "pass", "{root}/a"),
    ],
)
def test_data_is_looked_for_as_ultralytics_does(
    tmp_path: Path, path: str, state: str, found: str
) -> None:
    for folder in ("a", "here/a", "sets/elsewhere/a"):
        (tmp_path / folder).mkdir(parents=True)
    settings = tmp_path / "settings" / "Ultralytics" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_bytes(msgspec.json.encode({"datasets_dir": str(tmp_path / "sets")}))
    (tmp_path / "d.yaml").write_text(f"{{path: '{path}', train: a, val: a, names: [x]}}")
    said = training.data(ultralytics(tmp_path, "data=d.yaml", "model=x.yaml"))
    assert said
    assert (said.state, found.format(root=tmp_path) in said.found) == (state, True), said.found


def test_data_of_ultralytics_own_and_none(tmp_path: Path) -> None:
    seen = ultralytics(tmp_path, "data=coco8.yaml", "model=yolo11n.pt")
    said, weights = training.data(seen), training.weights(seen)
    assert said
    assert weights
    assert (said.state, weights.state) == ("warn", "warn")
    no_yolo = trainer_session("/nope/yolo", "train", workdir=tmp_path)
    said = training.trainer(scene(no_yolo))
    assert (said.state, said.found) == ("fail", "/nope/yolo: no such file")
    assert interpreter.check(scene(no_yolo)) == ()


def test_the_python_of_a_script_with_a_long_path(tmp_path: Path) -> None:
    from tmuxevolve.trainers.ultralytics_inspection import interpreter as of

    script = tmp_path / "yolo"
    script.write_text("#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\nimport x\n")
    assert of(script) == Path("/a b/bin/python")
    script.write_text("#!/usr/bin/perl\n")
    assert of(script) is None
    assert of(tmp_path / "nope") is None


def states(*checks: Check | None) -> list[tuple[str, str] | None]:
    return [(check.name, check.state) if check else None for check in checks]


def test_gpus_as_start_would_take_them(own_tmux: Box, tmp_path: Path) -> None:
    one = trainer_session("x", workdir=tmp_path)
    said = machine.gpus(scene(one))
    assert said
    assert (said.state, said.found) == ("pass", "free: 0, 1")
    busy = Gpu(1, uuid="GPU-b", memory_used=9 << 30)
    seen = scene(one, Snapshot((TWO.gpus[0], busy), "550"))
    said = machine.gpus(seen)
    assert said
    assert said.state == "pass"
    assert said.found.startswith("free: 0; not 1: 9.0 GiB in use by processes not visible")
    said = machine.gpus(scene(one, Snapshot((busy,), "550")))
    assert said
    assert (said.state, said.mend) == ("warn", "wait, or to use 1: gpus.max_memory_used: 9216MiB")
    polite = msgspec.structs.replace(one, gpus=GpuPolicy(leave_free=1))
    said = machine.gpus(scene(polite))
    assert said
    assert said.found == "free: 0; not 1: left free for others"
    named = msgspec.structs.replace(one, gpus=GpuPolicy(use=(7,)))
    said = machine.gpus(scene(named))
    assert said
    assert said.state == "fail"
    assert "there is no GPU 7; this machine has 0, 1" in said.found


def test_the_driver_as_start_takes_it(tmp_path: Path) -> None:
    gpu = trainer_session("x", workdir=tmp_path)
    cpu = msgspec.structs.replace(gpu, cpu_slots=2)
    no_gpu = msgspec.structs.replace(cpu, gpus=GpuPolicy(use="none"))
    broken = Snapshot((), problem="the NVIDIA driver does not answer", broken=True)
    assert states(*(machine.driver(scene(gpu, s)) for s in (TWO, NONE, broken))) == [
        ("driver", "pass"),
        ("driver", "fail"),
        ("driver", "fail"),
    ]
    assert states(*(machine.driver(scene(cpu, s)) for s in (NONE, broken))) == [
        ("driver", "warn"),
        ("driver", "fail"),
    ]
    assert states(machine.driver(scene(no_gpu, None)), machine.gpus(scene(no_gpu, None))) == [
        ("driver", "pass"),
        ("GPUs", "pass"),
    ]
    # Where there is neither, one line says so.
    assert machine.gpus(scene(gpu, NONE)) is None


def test_gpus_without_tmux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nope")
    seen = scene(trainer_session("x", workdir=tmp_path))
    assert states(machine.tmux(seen), machine.gpus(seen)) == [("tmux", "fail"), ("GPUs", "pass")]


def test_ram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tmuxevolve import memory

    monkeypatch.setattr(memory, "available", lambda: 10 << 30)
    one = trainer_session("x", workdir=tmp_path)
    small, large = (msgspec.structs.replace(one, min_free_memory=size << 30) for size in (5, 6))
    limit = msgspec.structs.replace(one, memory=6 << 30)
    found = [machine.ram(scene(s)) for s in (one, small, large, limit)]
    assert [check.state for check in found] == ["pass", "pass", "warn", "warn"]
    assert found[2].found == "10.0 GiB available for 2 workers of 6.0 GiB each"


def test_results(tmp_path: Path) -> None:
    there = trainer_session("x", workdir=tmp_path, results=tmp_path)
    new = trainer_session("x", workdir=tmp_path, results=tmp_path / "a" / "b")
    wrong = trainer_session("x", workdir=tmp_path, results=Path("/proc/x"))
    assert storage.results(scene(there)).found == str(tmp_path)
    assert storage.results(scene(new)).found == f"{tmp_path}/a/b, will be made in {tmp_path}"
    said = storage.results(scene(wrong))
    assert (said.state, said.found) == ("fail", "/proc: No such file or directory")
    assert storage.lock(scene(wrong)) is None
    # Nothing is made, and nothing stays.
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_tried_with_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = storage.lock(scene(trainer_session("x", workdir=tmp_path, results=tmp_path)))
    assert said
    assert said.state == "pass"
    assert said.found.startswith("works between two processes: ")
    assert storage.trial(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    # A lock that keeps nobody out, as on a file system that takes it for another one.
    from contextlib import nullcontext

    (tmp_path / "file").touch()
    assert lock_trial.problem(tmp_path / "file") is None
    monkeypatch.setattr(lock_trial, "locked", lambda path: nullcontext())
    assert lock_trial.problem(tmp_path / "file") == "two processes get the same lock"


def test_a_lock_that_never_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = "import time; time.sleep(1000)"
    monkeypatch.setattr(storage, "_TRIAL", ("-c", waits))
    assert storage.trial(tmp_path, timeout=0.2) == "no lock within 0.2 s"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "options", "state", "found"),
    [
        ("ext4", "rw", "pass", "works between two processes: ext4 (server:/x on "),
        ("nfs4", "rw,vers=4.2", "pass", "works between two processes, for all machines: nfs4"),
        ("nfs", "rw,nolock", "warn", "nfs (server:/x on "),
        ("nfs", "rw,local_lock=all", "warn", "its locks do not reach other machines"),
        ("fuse.sshfs", "rw", "warn", "its locks do not reach other machines"),
        ("ext4", "rw,nolock", "pass", "works"),
    ],
)
def test_file_systems(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: str,
    state: str,
    found: str,
) -> None:
    mount = Mount(str(tmp_path), kind, "server:/x", tuple(options.split(",")))
    monkeypatch.setattr(storage, "mount_of", lambda path: mount)
    said = storage.lock(scene(trainer_session("x", workdir=tmp_path, results=tmp_path)))
    assert said
    assert said.state == state
    assert found in said.found


def test_the_file_system_is_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self")
    shm, proc = storage.mount_of(Path("/dev/shm")), storage.mount_of(tmp_path / "link")
    assert shm
    assert (shm.point, shm.kind) == ("/dev/shm", "tmpfs")
    assert proc
    assert proc.kind == "proc"


def test_disk(tmp_path: Path, yolov5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    for free, state in ((20 << 20, "fail"), (1 << 30, "warn"), (4 << 30, "pass")):
        usage = shutil._ntuple_diskusage(1 << 40, 0, free)  # type: ignore[attr-defined]
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        assert storage.disk(scene(session(yolov5))).state == state


def test_a_check_that_breaks_is_a_finding(
    own_tmux: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Scene) -> Check:
        raise ZeroDivisionError("by \x1b[2J zero")

    monkeypatch.setitem(core.CHECKS, "tmux", broken)
    config = msgspec.structs.replace(
        trainer_session("x", workdir=tmp_path, results=tmp_path), cpu_slots=1
    )
    found = core.check(config, Tmux(), {})
    assert found.checks[1].state == "fail"
    assert found.checks[1].found.startswith("the check itself failed: ZeroDivisionError")
    assert found.exit_status == 1
    assert {check.name for check in found.checks} >= {"config", "tmux", "RAM"}


@pytest.mark.parametrize(("program", "state"), [("true", "pass"), ("no-such-program", "fail")])
def test_who_is_told(box: Box, program: str, state: str) -> None:
    box.session(notify={"command": [program]})
    checks = json.loads(box.cli("check", "--json").stdout)["checks"]
    (found,) = (check for check in checks if check["name"] == "notify")
    assert found["state"] == state
    assert (program in found["found"]) == (state == "fail")


def test_on_the_command_line(box: Box) -> None:
    box.session(command=[sys.executable, "-c", "1"], gpus={"use": "none"})
    done = box.cli("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "all 11 checks passed"
    found = box.json("check", "demo")
    assert (found["session"], found["source"]) == ("demo", str(box.config))
    assert {check["state"] for check in found["checks"]} == {"pass"}
    assert not (box.root / "results").exists()


def test_failures_and_exit_codes(box: Box) -> None:
    box.session(command=["/nope/python", "x.py"], cpu_slots=0, gpus={"use": "none"})
    done = box.cli("check", env={"NO_COLOR": "1"})
    assert done.returncode == 1
    assert "fail  driver" in done.stdout
    assert "-> say how many workers the CPU gets" in done.stdout
    assert "fail  python" in done.stdout
    box.write("sessions: {demo: {comand: x}}")
    done = box.cli("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert "comand: unknown key" in done.stderr
    box.session()
    done = box.cli("check", "nope")
    assert (done.returncode, done.stdout) == (2, "")
    done = box.cli("check", env={"PATH": "/nope"})
    assert done.returncode == 1
    assert "fail  tmux" in done.stdout
    assert "-> install it, e.g. apt install tmux" in done.stdout


def test_on_a_machine_with_gpus(box: Box) -> None:
    stub = NvmlStub(box.root)
    box.env |= stub.env
    uuids = [f"GPU-check-{os.getpid()}-{number}" for number in range(3)]
    process = subprocess.Popen(["sleep", "1000"])
    stub.write(
        [f"gpu uuid={uuid}" for uuid in uuids[:2]]
        + [f"gpu uuid={uuids[2]} procs={process.pid}:900"]
    )
    folder = fake_trainer.checkout(box.root / "it's a $folder")
    fake_trainer.environment(folder / ".venv", {"devices": 3})
    box.session(
        command=[".venv/bin/python", "train.py", "--data", "mine.yaml", "--weights", "yolov5n.pt"],
        workdir=str(folder).replace("$", "$$"),
        trainer="yolov5",
        cpu_slots=0,
        gpus={"use": "free"},
        evolve={},
    )
    found = {check["name"]: check for check in box.json("check")["checks"]}
    process.kill()
    process.wait()
    assert {name for name, check in found.items() if check["state"] != "pass"} <= {"RAM", "disk"}
    assert found["driver"]["found"] == "NVIDIA 550.54.15, NVML answers"
    assert found["GPUs"]["found"].startswith(f"free: 0, 1; not 2: pid {process.pid} (")
    assert found["PyTorch"]["found"] == "2.4.1 for CUDA 12.1, sees 3 GPUs"
    assert found["trainer"]["found"] == "YOLOv5 v7.0"


def test_on_a_screen(box: Box) -> None:
    box.session(gpus={"use": "none"})
    viewer = Viewer(box)
    viewer.run("tmuxevolve check; echo rc $?")
    screen = viewer.see(r"^rc 0")
    assert "warn  python" in screen
    coloured = box.tmux("capture-pane", "-ept", "=me:", socket="viewer")
    assert "\x1b[33mwarn" in coloured
    viewer.close()


@given(st.text(min_size=1, max_size=20))
def test_findings_are_one_line(text: str) -> None:
    from tmuxevolve import render_setup

    checks = (Check(name="x", state="warn", found=text, mend=text),)
    shown = render_setup.checkup(core.Checkup(session="s", source="f", checks=checks), colour=False)
    assert len(shown.splitlines()) == 4
    assert all(line.isprintable() for line in shown.splitlines())
