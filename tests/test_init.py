"""init: the sessions.yaml that a folder is made for, and nothing that was there is lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import fake_trainer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nvml_stub import NvmlStub
from support import Box, Viewer, poll

from tmuxevolve import configfile, schema, yamlfile
from tmuxevolve.config import Session
from tmuxevolve.errors import UsageError
from tmuxevolve.gpus import Snapshot
from tmuxevolve.newfile import text
from tmuxevolve.newfile.text import Place
from tmuxevolve.session import init as core
from tmuxevolve.trainers.proposals import Proposal

VALID = Draft202012Validator(schema.sessions_file())
NO_GPU = Snapshot((), problem="no NVIDIA driver on this machine")


@pytest.fixture
def yolov5(box: Box) -> Path:
    return fake_trainer.checkout(box.root / "yolov5")


def made(folder: Path, file: str | Path = "sessions.yaml", **environ: str) -> Session:
    """Write a file, and return its session as `start` would read it."""
    core.init(folder / file, folder, {"PATH": "/nope", **environ})
    return read(folder / file)


def read(path: Path) -> Session:
    VALID.validate(yamlfile.load(path).data)
    return configfile.load(path).session(None, {"HOME": "/home/me"})


def words(session: Session) -> dict[str, str]:
    """Return the options of a command."""
    left = session.command[2:]
    return dict(zip(left[::2], left[1::2], strict=True))


def test_a_yolov5_checkout(yolov5: Path) -> None:
    python = fake_trainer.environment(yolov5 / ".venv", {})
    session = made(yolov5)
    assert session.command[:2] == (".venv/bin/python", "train.py")
    assert words(session) | {"--workers": "?"} == {
        "--data": "data/mine.yaml",
        "--weights": "yolov5n.pt",
        "--epochs": "10",
        "--batch-size": "16",
        "--imgsz": "640",
        "--workers": "?",
    }
    assert (session.workdir, session.results) == (yolov5, yolov5 / "runs" / "search")
    assert (session.name, session.evolve.generations, session.cpu_slots) == ("yolov5", 300, 2)
    written = (yolov5 / "sessions.yaml").read_text()
    assert "TO CHANGE" not in written
    assert python.exists()
    assert max(map(len, written.splitlines())) <= 120


def test_only_options_that_train_py_has(yolov5: Path) -> None:
    script = yolov5 / "train.py"
    script.write_text(script.read_text().replace('"--workers"', '"-w"').replace('"--imgsz", ', ""))
    assert {"--workers", "--imgsz"} & words(made(yolov5)).keys() == set()


def test_environments(yolov5: Path, tmp_path: Path) -> None:
    def python(**environ: str) -> str:
        (yolov5 / "sessions.yaml").unlink(missing_ok=True)
        return made(yolov5, **environ).command[0]

    assert python() == "python"
    assert "TO CHANGE: python" in (yolov5 / "sessions.yaml").read_text()
    plain = fake_trainer.environment(tmp_path / "plain").parents[1]
    torch = fake_trainer.environment(tmp_path / "with torch", {}).parents[1]
    # tmuxevolve's own environment may be the active one: without PyTorch it is not the trainer's.
    assert python(VIRTUAL_ENV=str(plain)) == "python"
    assert python(VIRTUAL_ENV=str(torch)) == f"{torch}/bin/python"
    assert python(VIRTUAL_ENV=str(plain), CONDA_PREFIX=str(torch)) == f"{torch}/bin/python"
    fake_trainer.environment(yolov5 / "venv")
    assert python() == "venv/bin/python"
    assert python(CONDA_PREFIX=str(torch)) == f"{torch}/bin/python"
    fake_trainer.environment(yolov5 / ".venv", {})
    assert python(CONDA_PREFIX=str(torch)) == ".venv/bin/python"


def test_data_of_the_user_before_what_is_shipped(yolov5: Path) -> None:
    def data() -> str:
        (yolov5 / "sessions.yaml").unlink(missing_ok=True)
        return words(made(yolov5))["--data"]

    images = "{train: a, val: b, names: [x]}"
    beside = yolov5.parent / "datasets" / "cats"
    beside.mkdir(parents=True)
    (beside / "data.yaml").write_text(images)
    assert data() == "data/mine.yaml"
    assert (
        "# --data: also found: ../datasets/cats/data.yaml" in (yolov5 / "sessions.yaml").read_text()
    )
    (yolov5 / "data" / "mine.yaml").unlink()
    assert data() == "../datasets/cats/data.yaml"
    (yolov5 / "coconuts.yml").write_text(images)
    assert data() == "coconuts.yml"
    for other in ("hyp.yaml", "a.yaml", "b.yaml", "big.yaml"):
        (yolov5 / other).write_text({"a.yaml": "[1", "b.yaml": "train: x"}.get(other, "lr0: 1"))
    (yolov5 / "big.yaml").write_text(images + "\n#" + "x" * 300_000)
    assert data() == "coconuts.yml"
    shutil.rmtree(beside)
    (yolov5 / "coconuts.yml").unlink()
    assert data() == "data/coco128.yaml"
    assert "TO CHANGE: --data: none of yours was found" in (yolov5 / "sessions.yaml").read_text()


def test_weights_of_yolov5_before_others(yolov5: Path) -> None:
    (yolov5 / "best.pt").touch()
    assert words(made(yolov5))["--weights"] == "yolov5n.pt"
    assert "also found: best.pt" in (yolov5 / "sessions.yaml").read_text()


def test_ultralytics(box: Box) -> None:
    fake_trainer.environment(box.root / ".venv", {})
    fake_trainer.yolo(box.root / ".venv")
    (box.root / "yolo11s.pt").touch()
    session = made(box.root)
    assert session.command[:4] == (
        ".venv/bin/yolo",
        "train",
        "model=yolo11s.pt",
        "data=coco8.yaml",
    )
    assert session.name == "ultralytics"
    written = (box.root / "sessions.yaml").read_text()
    assert "TO CHANGE: data=" in written
    assert "without project=, name= and device=" in written


def test_ultralytics_on_the_path(box: Box, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "yolo"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert made(box.root, PATH=str(program.parent)).command[0] == str(program)


def test_a_train_py_of_another_kind(box: Box) -> None:
    (box.root / "train.py").write_text("import keras\n")
    session = made(box.root)
    assert session.trainer == "command"
    dry = box.cli("start", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "train.py --lr 0.01" in dry.stdout
    written = (box.root / "sessions.yaml").read_text()
    assert written.count("TO CHANGE") == 4


def test_nothing_to_train_with(box: Box) -> None:
    done = box.cli("init", env={"PATH": "/nope"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to train with in this folder" in done.stdout
    assert "workdir: there is no train.py in this folder" in done.stdout
    assert read(box.config).command[:2] == ("python", "train.py")


def test_gpus_are_counted(box: Box, yolov5: Path) -> None:
    stub = NvmlStub(box.root)
    stub.write(['gpu name="NVIDIA H100"', 'gpu name="NVIDIA H100"', 'gpu name="NVIDIA L4"'])
    found = box.json("init", cwd=yolov5, env=stub.env)
    assert found["found"]["GPUs"] == "2 NVIDIA H100, 1 NVIDIA L4"
    session = read(yolov5 / "sessions.yaml")
    assert (session.gpus.use, session.cpu_slots) == ("free", 0)


def test_a_driver_that_does_not_answer(box: Box, yolov5: Path) -> None:
    stub = NvmlStub(box.root)
    stub.write(["driver init_error=18"])
    found = box.json("init", cwd=yolov5, env=stub.env)
    assert found["found"]["GPUs"].startswith("none: the NVIDIA driver does not answer")
    session = read(yolov5 / "sessions.yaml")
    assert (session.gpus.use, session.cpu_slots) == ("free", 0)


def test_nobodys_file_is_replaced(box: Box) -> None:
    box.config.write_text("mine")
    for name in ("sessions.yaml", "link.yaml"):
        (box.root / "link.yaml").unlink(missing_ok=True)
        (box.root / "link.yaml").symlink_to("nowhere")
        done = box.cli("init", "-f", name)
        where = box.root / name
        said = f"tmuxevolve: {where}: there is one already; name another with -f\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert box.config.read_text() == "mine"
    assert not (box.root / "nowhere").exists()
    done = box.cli("init", "-f", "no/such/folder.yaml")
    assert done.returncode == 2
    assert done.stderr.endswith("folder.yaml: No such file or directory\n")
    done = box.cli("init", "-f", "/dev/full")
    assert done.returncode == 2


def test_a_full_disk_leaves_nothing(yolov5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    def opened(path: Path, mode: str) -> Full:
        path.touch()
        return Full()

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="No space left"):
        core._write(yolov5 / "new.yaml", "x")
    assert not (yolov5 / "new.yaml").exists()


def test_a_file_for_another_folder(box: Box, yolov5: Path) -> None:
    (box.root / "searches").mkdir()
    done = box.cli("init", "-f", "../searches/a b.yaml", cwd=yolov5)
    path = box.root / "searches" / "a b.yaml"
    assert f"check -f '{yolov5}/../searches/a b.yaml'" in done.stdout
    session = read(path)
    assert (session.workdir, session.results) == (yolov5, yolov5 / "runs" / "search")


HOSTILE = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."})


@settings(max_examples=60, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE, st.booleans())
@example('it\'s "a" $folder', "$HOME", "~", True)
@example("a\nb: c", "\t#", "- x", False)
@example("naïve 日本語 🚀", "--data", "&& $(ls)", True)
@example("\x85\u2028\ufeff", "\\", "'\"", False)
@example(" ", "\x1b[2J", "{hyp}", True)
def test_hostile_names(name: str, data: str, weights: str, beside: bool) -> None:
    """Whatever a folder and the files in it are called: the file is taken, and means them."""
    with tempfile.TemporaryDirectory() as root:
        folder = fake_trainer.checkout(Path(root) / name)
        (folder / "data" / "mine.yaml").rename(folder / f"{data}.yaml")
        (folder / "yolov5n.pt").rename(folder / f"{weights}.pt")
        prefix = folder / ".venv" if beside else Path(root) / f"{weights}env"
        fake_trainer.environment(prefix, {})
        environ = {} if beside else {"VIRTUAL_ENV": str(prefix)}
        for file in (folder / "sessions.yaml", Path(root) / "elsewhere.yaml"):
            session = made(folder, file, **environ)
            assert session.workdir == folder
            assert session.results == folder / "runs" / "search"
            python = Path(session.command[0])
            assert folder / python == prefix / "bin" / "python"
            # Files that are hidden from `*`, or named as one that is shipped, may be passed over.
            said = words(session)
            assert said["--weights"] == f"{weights}.pt"
            assert said["--data"] in {f"{data}.yaml", "data/coco128.yaml"}


@given(st.text(max_size=40), st.lists(st.text(max_size=8).filter(bool), min_size=1, max_size=4))
def test_any_text_and_any_words_come_back(what: str, command: list[str]) -> None:
    """What is shown stays a comment; what is run is read as it was."""
    usable = [word.encode("utf-8", "ignore").decode().replace("\0", "") or "x" for word in command]
    usable[0] = f"/{usable[0]}"
    proposal = Proposal(trainer="yolov5", what=what, words=tuple(usable), todo={"x": what})
    with tempfile.TemporaryDirectory() as root:
        file = Path(root, "sessions.yaml")
        snapshot = Snapshot((), problem=what)
        file.write_text(text.compose(Place(file, Path(root)), proposal, snapshot, schema.INSTALLED))
        session = configfile.load(file).session(None, {})
    assert list(session.command) == usable
    assert (session.evolve.generations, session.cpu_slots) == (300, 2)


def test_names_that_are_no_text(box: Box) -> None:
    folder = fake_trainer.checkout(Path(os.fsdecode(os.fsencode(box.root) + b"/\xff\xfe")))
    (folder / "data" / "mine.yaml").rename(folder / os.fsdecode(b"\xff.yaml"))
    (folder / "yolov5n.pt").rename(folder / os.fsdecode(b"\xff.pt"))
    session = made(folder)
    assert words(session)["--data"] == "data/coco128.yaml"
    with pytest.raises(UsageError, match="no text in UTF-8"):
        core.init(box.root / "other.yaml", folder, {})
    assert not (box.root / "other.yaml").exists()


@pytest.mark.parametrize("path", ["/a b/it's #1/sessions.schema.json", "/a\nb/日本語.json"])
def test_the_first_line_is_what_editors_read(path: str, tmp_path: Path) -> None:
    """yaml-language-server takes what stands behind $schema= up to the first blank."""
    proposal = Proposal(trainer="yolov5", what="x", words=("x",))
    written = text.compose(Place(tmp_path / "f", tmp_path), proposal, NO_GPU, Path(path))
    first = written.splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert named.split() == [named]
    assert named.isascii()
    from urllib.parse import unquote, urlparse

    assert unquote(urlparse(named).path) == path


def test_it_names_the_schema_that_is_installed(yolov5: Path) -> None:
    made(yolov5)
    first = (yolov5 / "sessions.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={schema.INSTALLED.as_uri()}"
    assert json.loads(schema.INSTALLED.read_text())["title"] == "sessions.yaml"


# A program with YOLOv5's options, in a file that looks like YOLOv5's.
TRAIN = '''"""YOLOv5, parse_opt: --noplots TQDM_BAR_FORMAT --data --weights --epochs"""
import argparse, sys
from tmuxevolve.examples import tinydet
if __name__ == "__main__":
    own = argparse.ArgumentParser(allow_abbrev=False)
    own.add_argument("--data"); own.add_argument("--weights"); own.add_argument("--epochs")
    sys.exit(tinydet.main(["--epochs", "1", *own.parse_known_args()[1]]))
'''


def test_init_check_start(box: Box) -> None:
    """As a person does it, in a terminal: three commands, and the generations are there."""
    folder = fake_trainer.checkout(box.root / "my yolov5")
    (folder / "train.py").write_text(TRAIN)
    bundled = Path(core.__file__).parents[1] / "examples" / "hyp.tinydet.yaml"
    shutil.copy(bundled, folder / "data" / "hyps" / "hyp.scratch-low.yaml")
    # An environment with tmuxevolve in it, which the pretended train.py imports.
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    viewer = Viewer(box)
    viewer.run("cd 'my yolov5'; tmuxevolve init")
    screen = viewer.see(r"tmuxevolve start +# one window")
    assert "TO CHANGE" not in screen
    viewer.run("tmuxevolve check; echo rc $?")
    screen = viewer.see(r"^rc 1")
    # No PyTorch, and nothing else.
    assert "fail  PyTorch" in screen
    assert "1 failed" in screen
    viewer.run("tmuxevolve start --generations 2; echo rc $?")
    viewer.see(r"^rc 0")

    poll(lambda: [s["generations"] for s in box.json("status")] == [2])
    viewer.close()
