"""Run the benchmarks, one after another, and put what they print into docs/performance.md.

    python benchmarks/run.py [PART ...]

Without a part all of them run, in about two hours, most of which is `search`. Each compares with
the peers in the same run. A part without what it needs (YOLOv5's environment) is passed over.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
OWN_PAGES = {"scale": ROOT / "docs" / "scale.md"}
YOLO = ROOT / ".venv-yolov5"
CACHE = ROOT / ".cache" / "search.jsonl"
OURS, PEERS = sys.executable, str(ROOT / ".venv-bench" / "peers" / "bin" / "python")
PARTS: Mapping[str, Sequence[str]] = {
    "start": (OURS, "benchmarks/windows.py", "start"),
    "look": (OURS, "benchmarks/windows.py", "look"),
    "stop": (OURS, "benchmarks/windows.py", "stop"),
    "history": (OURS, "benchmarks/windows.py", "history"),
    "worker": (OURS, "benchmarks/worker.py"),
    "ask-tell": (OURS, "benchmarks/ask_tell.py"),
    "locks": (PEERS, "benchmarks/locks.py"),
    "yolov5": (OURS, "benchmarks/yolov5.py", str(YOLO)),
    "scale": (OURS, "benchmarks/scale.py"),
    "search": (OURS, "benchmarks/search.py", "--cache", str(CACHE), "--plot", "docs/search.svg"),
}


def measured(command: Sequence[str]) -> str:
    """Run a benchmark, show what it prints as it does, and return it."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return "".join(lines).strip()


def put(page: str, part: str, text: str) -> str:
    """Return the page with this text between the marks of the part."""
    mark = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
    when = f"*{date.today()}, {platform.python_implementation()} {platform.python_version()}*"
    found, count = mark.subn(lambda match: f"{match[1]}\n{text}\n\n{when}\n{match[2]}", page)
    assert count == 1, f"no place for {part}"
    return found


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    for part in wanted:
        if part == "yolov5" and not YOLO.exists():
            print("yolov5: passed over: make test-yolov5 makes its environment")
            continue
        print(f"\n== {part}", flush=True)
        CACHE.parent.mkdir(exist_ok=True)
        text = measured(PARTS[part])
        page = OWN_PAGES.get(part, PAGE)
        page.write_text(put(page.read_text(), part, text))


if __name__ == "__main__":
    main()
