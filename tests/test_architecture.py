"""The module map, held: who may import whom, and what a command loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tmuxevolve"
FILES = sorted(PACKAGE.rglob("*.py"))
ADAPTERS = {
    "memory",
    "slurm",
    "gpus",
    "nvml",
    "claims",
    "processes",
    "multiplexer",
    "trainers",
    "study",
}
ONLY = {
    "libtmux": {"multiplexer/client.py"},
    "pynvml": {"nvml.py"},
    "click": {f"cli/{path.name}" for path in (PACKAGE / "cli").glob("*.py")},
    "textual": {"top/app.py", "top/canvas.py", "top/dialogs.py"},
    "rich": {
        f"top/{name}.py" for name in ("bars", "app", "canvas", "dialogs", "frame", "plot", "table")
    },
    "psutil": {"processes.py", "census.py", "nvml.py", "checkup/storage.py"},
    "apprise": {"messenger.py"},
    "optuna": {"study/database.py", "study/samplers/optuna.py", "charts/importance.py"},
    "matplotlib": {"charts/picture.py", "charts/panels.py"},
    "plotly": {"charts/page.py"},
    "yaml": {"yamlfile.py", "examples/tinydet.py"},
}


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Return the modules that a file names, tmuxevolve's own in full."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_foreign_thing_is_known_in_one_place(path: Path) -> None:
    roots = {module.partition(".")[0] for module in imports(path)}
    for library, places in ONLY.items():
        assert library not in roots or name(path) in places, f"{library} in {name(path)}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_data_flows_one_way(path: Path) -> None:
    ours = {m.split(".")[1] for m in imports(path) if m.startswith("tmuxevolve.")}
    layer = name(path).split("/")[0].removesuffix(".py")
    if layer in {"cli", "__main__"}:
        return
    assert "top" not in ours or layer == "top", f"{name(path)} imports the view"
    texts = {f"render{kind}" for kind in ("", "_hosts", "_jobs", "_results", "_status", "_setup")}
    assert not ours & {"cli", *texts} or layer in texts
    if layer in ADAPTERS:
        assert "session" not in ours, f"{name(path)} imports session"
    if layer in {"errors", "units"}:
        assert ours <= {"errors"}
    if layer not in {"session", "checkup", "newfile"}:
        # What looks at a machine or a folder is for `check` and `init` alone.
        assert not ours & {"checkup", "newfile"}, f"{name(path)} imports them"
    if layer == "newfile":
        assert "session" not in ours


@pytest.mark.parametrize("path", FILES, ids=name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert lines <= 40, f"{name(path)}: {node.name} has {lines} lines"


HEAVY = {"libtmux", "pynvml", "psutil", "yaml", "msgspec", "argparse", "tqdm", "ctypes"}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["start", "--help"], set()),
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str], allowed: set[str]) -> None:
    code = (
        "import sys; from tmuxevolve.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print('\\n'.join(sys.modules))"
    )
    argv = [sys.executable, "-c", code, *arguments]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert "click" in loaded
    assert not HEAVY & set(loaded) - allowed


def loaded_by(code: str, *options: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after this."""
    text = f"import sys; {code}; print('\\n'.join(sys.modules))"
    argv = [sys.executable, *options, "-c", text]
    return {*subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()}


def test_the_worker_loads_little() -> None:
    loaded = loaded_by("import tmuxevolve.worker")
    assert not {"libtmux", "click", "yaml", "pynvml", "psutil"} & loaded


def test_a_windows_first_processes_load_next_to_nothing() -> None:
    path = f"sys.path.append({str(PACKAGE.parent)!r})"
    extra = loaded_by(f"{path}; import tmuxevolve.keeper", "-I", "-S") - loaded_by(
        f"{path}; import os, time, ctypes", "-I", "-S"
    )
    ours = {"keeper", "counter", "interrupts", "lineage", "spawn", "terminal"}
    modules_in_c = {"_socket", "marshal", "select", "_signal", "__future__"}
    assert extra <= {"tmuxevolve", *(f"tmuxevolve.{name}" for name in ours), *modules_in_c}


def test_the_recorder_stands_by_for_days_and_loads_little() -> None:
    path = f"sys.path.append({str(PACKAGE.parent)!r})"
    loaded = loaded_by(f"{path}; import tmuxevolve.recording.recorder", "-I", "-S")
    assert not {"msgspec", "typing", "pathlib", "subprocess", "threading", "logging"} & loaded
