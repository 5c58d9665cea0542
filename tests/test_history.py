"""evolve.csv and hyp_evolve.yaml: exact format, damage of every kind, several writers at once."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import poll

from tmuxevolve.errors import UsageError
from tmuxevolve.study import history
from tmuxevolve.study.history import Generation, History
from tmuxevolve.study.rows import METRICS

HYP = {"lr0": 0.01, "momentum": 0.937, "weight_decay": 0.00036, "flipud": 0.0}


def metrics(fitness: float) -> tuple[float, ...]:
    return (0.5, 0.5, fitness, fitness, 0.1, 0.2, 0.0)


def expected(rows: Sequence[Sequence[float]], hyp: Mapping[str, float]) -> str:
    """Return YOLOv5's text, formatted here once more and in another way."""
    lines = [",".join("%20s" % name for name in (*METRICS, *hyp))]  # noqa: UP031
    lines += [",".join("%20.5g" % value for value in row) for row in rows]  # noqa: UP031
    return "".join(line + "\n" for line in lines)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "evolve.csv"


@pytest.fixture
def full(table: Path) -> bytes:
    """Return the bytes of a table of three generations."""
    for fitness in (0.25, 0.3, 0.125):
        history.append(table, metrics(fitness), HYP)
    return table.read_bytes()


def fitnesses(found: History) -> list[float]:
    return [generation.metrics[2] for generation in found.generations]


def test_the_format_is_yolov5s(table: Path) -> None:
    history.append(table, metrics(0.123456789), HYP)
    history.append(table, metrics(1e-7), HYP)
    rows = [(*metrics(0.123456789), *HYP.values()), (*metrics(1e-7), *HYP.values())]
    assert table.read_text() == expected(rows, HYP)


NUMBERS = st.floats(allow_infinity=False)


@settings(deadline=None)
@given(st.lists(st.tuples(*[NUMBERS] * 9), min_size=1, max_size=4))
def test_what_is_appended_is_read_to_five_digits(rows: list[tuple[float, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "evolve.csv"
        for row in rows:
            history.append(table, row[:7], {"lr0": row[7], "a_name_longer_than_a_column": row[8]})
        found = history.read(table)
    assert found.problem is None
    for number, (generation, row) in enumerate(zip(found.generations, rows, strict=True)):
        values = [float(f"{value:.5g}") for value in row]
        assert generation.number == number
        same = [*generation.metrics, *generation.hyp.values()]
        assert [repr(value) for value in same] == [repr(value + 0.0) for value in values]


def test_fitness_and_best(table: Path) -> None:
    assert Generation(0, (0, 0, 0.5, 0.25, 0, 0, 0), {}).fitness == pytest.approx(0.275)
    for fitness in (math.nan, 0.2, 0.4, math.inf, 0.4, 0.1):
        history.append(table, metrics(fitness), HYP)
    best = history.read(table).best
    assert best
    assert best.number == 2
    assert best.hyp == HYP


@pytest.mark.parametrize("text", [None, b"", b"\n", b"\n\n"])
def test_nothing_there_is_no_problem(table: Path, text: bytes | None) -> None:
    if text is not None:
        table.write_bytes(text)
    assert history.read(table) == History()
    assert history.read(table).best is None


def test_only_a_header(table: Path) -> None:
    table.write_text(expected([], HYP))
    assert history.read(table) == History()


def test_a_table_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    found = history.read(tmp_path)
    assert found.generations == ()
    assert "directory" in (found.problem or "")


def test_a_doubled_header_is_named_and_costs_no_row(table: Path, full: bytes) -> None:
    lines = full.splitlines(keepends=True)
    table.write_bytes(b"".join([lines[0], lines[0], *lines[1:]]))
    found = history.read(table)
    assert fitnesses(found) == [0.25, 0.3, 0.125]
    assert found.problem == "evolve.csv: line 2 is a header once more"


def test_each_row_is_read_under_the_header_before_it(table: Path) -> None:
    history.append(table, metrics(0.1), {"lr0": 1.0})
    other = table.with_name("other.csv")
    history.append(other, metrics(0.2), {"lrf": 2.0, "box": 3.0})
    table.write_text(table.read_text() + other.read_text())
    assert [dict(g.hyp) for g in history.read(table).generations] == [
        {"lr0": 1.0},
        {"lrf": 2.0, "box": 3.0},
    ]


def test_bad_lines_are_counted_and_the_first_is_named(table: Path, full: bytes) -> None:
    table.write_bytes(full + b"nonsense\n" + b"x,\n" + full.splitlines()[1].replace(b".", b"!"))
    found = history.read(table)
    assert fitnesses(found) == [0.25, 0.3, 0.125]
    assert found.problem == "evolve.csv: line 5 is not a whole row and is left out (and 2 more)"


def test_an_unpadded_table_made_by_hand_is_read(table: Path, full: bytes) -> None:
    table.write_bytes(full.replace(b" ", b""))
    assert fitnesses(history.read(table)) == [0.25, 0.3, 0.125]
    # Without padding nobody can tell whether digits are missing at the end.
    table.write_bytes(full.replace(b" ", b"")[:-1])
    assert fitnesses(history.read(table)) == [0.25, 0.3]


def test_cut_at_any_byte_only_whole_rows_are_read(table: Path, full: bytes) -> None:
    whole = history.read(table).generations
    ends = [at for at in range(len(full)) if full[at : at + 1] == b"\n"]
    for cut in range(len(full)):
        table.write_bytes(full[:cut])
        # A padded row is whole when only its line's end is missing.
        rows = sum(end <= cut for end in ends[1:])
        assert history.read(table).generations == whole[:rows], cut


def test_cut_at_any_byte_a_row_can_be_added(table: Path, full: bytes) -> None:
    header = full.splitlines()[0]
    for cut in range(len(full)):
        table.write_bytes(full[:cut])
        before = fitnesses(history.read(table))
        history.append(table, metrics(0.5), HYP)
        assert fitnesses(history.read(table)) == [*before, 0.5], cut
        assert table.read_bytes().count(header) == 1, cut
        assert table.read_bytes().endswith(b"\n")


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet=" ,.\n0123456789enaif-x\r\0").map(str.encode))
def test_no_content_makes_the_reader_fail(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "evolve.csv"
        for start in (b"", expected([], HYP).encode()):
            table.write_bytes(start + garbage)
            assert isinstance(history.read(table), History)


def test_a_row_goes_under_the_columns_of_the_file(table: Path) -> None:
    history.append(table, metrics(0.1), HYP)
    history.append(table, metrics(0.2), dict(reversed(HYP.items())))
    first, second = history.read(table).generations
    assert first.hyp == second.hyp


@pytest.mark.parametrize("hyp", [{}, {"lr0": 1.0}, {**HYP, "box": 1.0}])
def test_other_columns_are_refused(table: Path, full: bytes, hyp: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="other columns"):
        history.append(table, metrics(0.1), hyp)
    assert table.read_bytes() == full


def test_the_yaml_of_the_best_loads_as_hyps(table: Path) -> None:
    best = table.with_name("hyp_evolve.yaml")
    tiny = {**HYP, "weight_decay": 1e-5, "anchors": 3}
    history.record(table, best, metrics(0.3), tiny)
    history.record(table, best, metrics(0.2), {**HYP, "anchors": 4})
    loaded = yaml.safe_load(best.read_text())
    assert loaded == tiny
    assert all(type(value) is float for value in loaded.values())
    comments = [line for line in best.read_text().splitlines() if line.startswith("#")]
    assert comments[1:3] == ["# Best generation: 0", "# Last generation: 1"]
    assert comments[3] == "# " + ", ".join(f"{name:>20}" for name in METRICS)
    assert [float(cell) for cell in comments[4][1:].split(",")] == list(metrics(0.3))
    assert sorted(path.name for path in table.parent.iterdir()) == ["evolve.csv", best.name]


def test_without_a_best_the_yaml_stays_as_it_is(table: Path) -> None:
    best = table.with_name("hyp_evolve.yaml")
    best.write_text("lr0: 1.0\n")
    history.record(table, best, metrics(math.nan), HYP)
    assert best.read_text() == "lr0: 1.0\n"


# The disk is slow here, so that writers that do not wait for each other are sure to collide.
WRITER = """
import os, random, sys, time
from pathlib import Path
from tmuxevolve.study import history

def slow(call):
    def called(*args):
        result = call(*args)
        time.sleep(random.uniform(0, 0.01))
        return result
    return called

os.pread, history.read = slow(os.pread), slow(history.read)
table, worker, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for row in range(rows):
    fitness = (row + 1) / 10 + worker / 1000
    metrics = (0, 0, fitness, fitness, 0, 0, 0)
    history.record(table, table.with_name("hyp_evolve.yaml"), metrics, {"lr0": fitness})
"""


def writer(table: Path, worker: int, rows: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(table), str(worker), str(rows)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def release(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def test_four_first_writers_at_once(table: Path) -> None:
    processes = [writer(table, worker, rows=8) for worker in range(4)]
    best = table.with_name("hyp_evolve.yaml")
    for process in processes:
        release(process)
    seen: list[float] = []
    while any(process.poll() is None for process in processes):
        if best.exists():
            seen.append(yaml.safe_load(best.read_text())["lr0"])
    assert [process.wait() for process in processes] == [0] * 4
    found = history.read(table)
    assert found.problem is None
    assert table.read_text().count("lr0") == 1
    wanted = [(row + 1) / 10 + worker / 1000 for worker in range(4) for row in range(8)]
    assert sorted(fitnesses(found)) == pytest.approx(sorted(wanted))
    assert seen == sorted(seen), "an older best replaced a newer one"
    assert yaml.safe_load(best.read_text())["lr0"] == pytest.approx(0.803)
    for process in processes:
        process.communicate()


def test_kill_9_of_a_writer_leaves_a_table_to_go_on_with(table: Path) -> None:
    rng = Random(7)
    processes = [writer(table, 0, rows=100_000) for _ in range(6)]
    for process in processes:
        target = size(table) + rng.randrange(1, 2000)
        release(process)
        poll(lambda: size(table) >= target)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = fitnesses(history.read(table))
        history.append(table, metrics(0.5), {"lr0": 0.5})
        assert fitnesses(history.read(table)) == [*before, 0.5]
    assert table.read_text().count("lr0") == 1


def test_reading_history_imports_nothing_heavy() -> None:
    script = "import sys, tmuxevolve.study.mutation; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"yaml", "tqdm", "numpy", "click", "libtmux", "psutil", "csv", "asyncio"}
    assert not heavy & set(done.stdout.split())


def test_a_disk_that_is_full_is_an_error(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space left"):
        history.append(table, metrics(0.5), HYP)
    monkeypatch.undo()
    history.append(table, metrics(0.25), HYP)
    assert fitnesses(history.read(table)) == [0.25]
