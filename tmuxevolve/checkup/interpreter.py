"""The trainer's own Python and its PyTorch, which are not those that tmuxevolve runs on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from tmuxevolve.checkup import Check, Scene, failed, passed, warned
from tmuxevolve.gpus import Snapshot

_PROBE = Path(__file__).with_name("torch_probe.py")
_MARK = "@tmuxevolve "
# PyTorch from a cold network file system takes its time.
_TIMEOUT = 90.0
_LEFT = 5.0
_GET = "https://pytorch.org/get-started/locally"


class Answer(msgspec.Struct, frozen=True):
    """What the trainer's Python says of itself; ``error`` is why PyTorch cannot be imported."""

    version: str
    executable: str
    torch: str | None = None
    cuda: str | None = None
    available: bool = False
    devices: int = 0
    error: str | None = None


class NoAnswerError(Exception):
    """The trainer's Python did not answer; the text says why."""


def check(scene: Scene, timeout: float = _TIMEOUT) -> tuple[Check, ...]:
    """Run the trainer's Python in its folder and its environment, and ask it."""
    inspection = scene.inspection
    if inspection is None or (inspection.problem and inspection.python is None):
        return ()
    if inspection.python is None:
        found = f"{shlex.join(scene.session.shown(scene.session.command[:1]))} runs it, unseen"
        return (warned("python", found, "write the environment's own python into the command"),)
    shown = shlex.join(scene.session.shown(inspection.python))
    try:
        answer, said = ask(inspection.python, scene, timeout, torch=inspection.needs_torch)
    except NoAnswerError as error:
        mend = "name the environment's own python in the command, such as .venv/bin/python"
        return (failed("python", f"{shown}: {error}", mend),)
    python = passed("python", f"{answer.version}, {answer.executable or shown}")
    if not inspection.needs_torch:
        return (python,)
    return (python, pytorch(answer, scene.snapshot, said, shown, on_gpu=scene.on_gpu))


def pytorch(
    answer: Answer, snapshot: Snapshot | None, said: str, python: str, *, on_gpu: bool | None
) -> Check:
    """Judge what PyTorch sees; ``said`` is the last line of what it wrote meanwhile."""
    name = "PyTorch"
    if answer.torch is None:
        mend = f"{python} -m pip install torch ({_GET}), or another environment's python"
        return failed(name, answer.error or "cannot be imported", mend)
    if not on_gpu:
        return passed(name, answer.torch)
    if answer.cuda is None:
        mend = f"install a build for CUDA into that environment: {_GET}"
        return failed(name, f"{answer.torch} is built without CUDA", mend)
    built = f"{answer.torch} for CUDA {answer.cuda}"
    if not answer.available or not answer.devices:
        mend = f"a driver that is new enough for CUDA {answer.cuda}, or an older CUDA's build"
        return failed(name, f"{built} sees no GPU{f': {said}' if said else ''}", mend)
    gpus = snapshot.gpus if snapshot else ()
    # Of MIG instances CUDA shows one at a time.
    if answer.devices < len(gpus) and all(gpu.mig is None for gpu in gpus):
        found = f"{built} sees {answer.devices} of {len(gpus)} GPUs"
        return warned(name, found, "nvidia-smi says what is wrong with the others")
    return passed(name, f"{built}, sees {_count(answer.devices)}")


def ask(python: Sequence[str], scene: Scene, timeout: float, *, torch: bool) -> tuple[Answer, str]:
    """Return what the Python answers, and the last line on its stderr. Raises NoAnswerError."""
    session = scene.session
    argv = [*python, "-c", _PROBE.read_text(encoding="utf-8"), *["torch"][: int(torch)]]
    env = {**scene.environ, **session.env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    # Each window gets its own; here it would hide GPUs.
    env.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        process = subprocess.Popen(
            argv,
            cwd=session.workdir,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise NoAnswerError(error.strerror or str(error)) from None
    output, errors = _output(process, timeout)
    said = (errors.strip().splitlines() or [""])[-1]
    answers = [line for line in output.splitlines() if line.startswith(_MARK)]
    if not answers:
        raise NoAnswerError(said or f"ended with {process.returncode}, and said nothing")
    return msgspec.json.decode(answers[-1].removeprefix(_MARK), type=Answer), said


def _output(process: subprocess.Popen[str], timeout: float) -> tuple[str, str]:
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"no answer within {timeout:g} s") from None
    finally:
        # What a launcher has started, too; and when this program is interrupted.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # One that hangs in a file system does not end of it either, and is not waited for.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LEFT)
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def _count(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"
