"""One training of YOLOv5 at the price of one generation of its own --evolve.

    python yolov5_runner.py RESULT train.py OPTIONS...
    python yolov5_runner.py RESULT -m yolov5.train OPTIONS...
    python yolov5_runner.py --loaded DESCRIPTOR train.py

Runs in the trainer's own interpreter, from the command line that the user wrote, on a checkout that
stays as it is. In an evolution YOLOv5's train() validates the last epoch only and writes no
weights, but main() asks for a plain training, since a whole evolution in one process is not wanted
here. So train() is told, in memory, that it is part of one. What it returns goes to RESULT as JSON.

The third form imports the trainer, with nothing of it on the screen, where another one still
trains. Then it waits for a command of the first two kinds, words with NUL between them, on the
descriptor.

A train.py that is built otherwise is run as it is, and leaves no RESULT. Standard library only, and
for the Python of its time (3.7).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Sequence  # noqa: UP035


def main(result: Path, words: Sequence[str]) -> None:
    """Load the trainer, train once, write what it returned."""
    run(imported(words), result)


def run(module: Any, result: Path) -> None:
    """Train once, write what it returned."""
    if not all(callable(getattr(module, name, None)) for name in ("train", "main", "parse_opt")):
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    setattr(module, "train", as_in_evolution(module.train, result))  # noqa: B010
    # Both ask the network or read every package's metadata, each time: seconds per generation.
    for check in ("check_git_status", "check_requirements"):
        if hasattr(module, check):
            setattr(module, check, lambda *_, **__: None)
    module.main(module.parse_opt())


def wait(descriptor: int, script: Sequence[str]) -> None:
    """Load the trainer, wait for a command, and go on as that."""
    own = sys.argv[0]
    # Whoever ends what trains now ends this too, without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    began = time.time()
    module, printed = loaded_silently(script)
    with os.fdopen(descriptor, "rb") as pipe:
        data = pipe.read()
    if not data:
        os._exit(0)
    argv = [os.fsdecode(word) for word in data.split(b"\0")]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if module is None or has_changed(began):
        os.execvp(argv[0], argv)  # noqa: S606
    os.write(2, printed)
    result, *words = argv[argv.index(own) + 1 :]
    sys.argv = [str(module.__file__), *words[len(script) :]]
    run(module, Path(result))


def loaded_silently(script: Sequence[str]) -> tuple[Any, bytes]:
    """Return the trainer's module, None where it cannot be loaded, and what that has printed."""
    screen = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as hidden:
        for standard in (1, 2):
            os.dup2(hidden.fileno(), standard)
        try:
            module = imported(script)
        except BaseException:
            module = None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for standard, descriptor in zip((1, 2), screen):  # noqa: B905
            os.dup2(descriptor, standard)
            os.close(descriptor)
        hidden.seek(0)
        return module, hidden.read()


def has_changed(since: float) -> bool:
    """Say whether a file of what was loaded is newer: then it has to be loaded again."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return any(modified(file) > since for file in files if file)


def modified(file: str) -> float:
    """Return when a file was changed; 0 for names that are none, of which PyTorch has some."""
    try:
        return os.stat(file).st_mtime  # noqa: PTH116
    except OSError:
        return 0.0


def imported(words: Sequence[str]) -> Any:
    """Return the trainer's module, with the path and the arguments as if it had been run."""
    if words[0] == "-m":
        sys.path[0] = str(Path.cwd())
        module: Any = importlib.import_module(words[1])
        sys.argv = [str(module.__file__), *words[2:]]
    else:
        sys.path[0] = str(Path(words[0]).resolve().parent)
        sys.argv = list(words)
        module = load(words[0])
    return module


def load(script: str) -> Any:
    """Import train.py as ``import train`` does, which YOLOv5 supports for notebooks."""
    spec: Any = importlib.util.spec_from_file_location("train", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train"] = module
    spec.loader.exec_module(module)
    return module


def as_in_evolution(train: Any, result: Path) -> Callable[..., Any]:
    """Return train() with the options that main() sets for an evolution."""

    def trained(hyp: Any, opt: Any, *args: Any, **kwargs: Any) -> Any:
        opt.evolve = 1
        opt.nosave = opt.noplots = True
        # The PyPI package's train() needs the first epoch's validation for a name it uses later.
        opt.noval = "map50s" not in train.__code__.co_varnames
        returned = train(hyp, opt, *args, **kwargs)
        write(result, [float(value) for value in returned])
        return returned

    return trained


def write(path: Path, values: Sequence[float]) -> None:
    """Write the results at once: the file's presence says that the training came to its end."""
    numbers = [value if math.isfinite(value) else None for value in values]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"metrics": numbers}))
    temporary.replace(path)


if __name__ == "__main__":
    if sys.argv[1] == "--loaded":
        wait(int(sys.argv[2]), sys.argv[3:])
        sys.exit()
    main(Path(sys.argv[1]), sys.argv[2:])
