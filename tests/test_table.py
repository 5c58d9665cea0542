"""evolve.csv read bit by bit by a worker is what the whole of it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuxevolve.study import history, rows
from tmuxevolve.study import tail as tail_module
from tmuxevolve.study.rows import YOLOV5
from tmuxevolve.study.table import Table
from tmuxevolve.study.tail import Tail

NAMES = ("lr0", "momentum", "mosaic")
COLUMNS = (*YOLOV5.metrics, *NAMES)
OTHER_ORDER = (*YOLOV5.metrics, *reversed(NAMES))
# What YOLOv5 v7.0 itself has written (tests/yolov5, native mode), cut to three hyps.
YOLOS = (
    b"   metrics/precision,      metrics/recall,     metrics/mAP_0.5,metrics/mAP_0.5:0.95,"
    b"        val/box_loss,        val/obj_loss,        val/cls_loss,                 lr0,"
    b"            momentum,              mosaic\n"
    b"           0.0019608,                0.25,            0.002049,          0.00026206,"
    b"             0.12072,            0.077231,             0.04432,                0.01,"
    b"               0.937,                   1\n"
)


def line(numbers: list[float]) -> bytes:
    return rows.row(numbers)


number = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), 0.0, 1e-05])
row = st.lists(number, min_size=len(COLUMNS), max_size=len(COLUMNS)).map(line)
plain = st.lists(number, min_size=len(COLUMNS), max_size=len(COLUMNS)).map(
    lambda values: (",".join(map(repr, values)) + "\r\n").encode()
)
piece = row | plain | st.just(rows.header(COLUMNS)) | st.just(rows.header(OTHER_ORDER))
odd = st.sampled_from([b"\n", b"1,2,3\n", b"torn", b"x,y\n"]) | st.binary(max_size=40).map(
    lambda data: data + b"\n"
)


def same(one: float, two: float) -> bool:
    return one == two or (one != one and two != two)


@settings(deadline=None, max_examples=150)
@given(
    pieces=st.lists(piece | odd, max_size=25),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    whole=st.booleans(),
)
def test_piece_by_piece_is_the_same_as_at_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], cuts: list[int], whole: bool
) -> None:
    path = tmp_path_factory.mktemp("t") / "evolve.csv"
    data = rows.header(COLUMNS) + b"".join(pieces) + b"\n"
    table = Table(path, YOLOV5, NAMES, whole=whole)
    for end in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        path.write_bytes(data[:end])
        assert not table.refresh()
    found = history.read(path)
    assert table.count == len(found.generations)
    for generation in found.generations:
        assert table.holds(rows.key(generation.hyp, NAMES))
    assert (table.best is None) == (found.best is None)
    if table.best and found.best:
        assert same(table.best.fitness, found.best.fitness)
    ranks = sorted((g.rank for g in found.generations if g.counts), reverse=True)[:5]
    assert [g.rank for g in table.parents] == ranks
    if whole:
        assert len(table.generations) == len(found.generations)


def test_real_yolov5s_file(tmp_path: Path) -> None:
    path = tmp_path / "evolve.csv"
    path.write_bytes(YOLOS)
    table = Table(path, YOLOV5, NAMES, whole=True)
    assert table.refresh() is False
    assert table.count == 1
    assert table.best
    assert table.best.hyp == {"lr0": 0.01, "momentum": 0.937, "mosaic": 1.0}
    assert table.best.fitness == pytest.approx(0.1 * 0.002049 + 0.9 * 0.00026206)
    assert rows.header(COLUMNS) == YOLOS.splitlines(keepends=True)[0]
    assert rows.row([*table.best.metrics, *table.best.hyp.values()]) == YOLOS.splitlines(True)[1]


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "evolve.csv"
    path.write_bytes(YOLOS)
    table = Table(path, YOLOV5, NAMES, whole=False)
    table.refresh()
    other = tmp_path / "other"
    other.write_bytes(YOLOS + line([1.0] * len(COLUMNS)))
    other.replace(path)
    assert table.refresh()
    assert table.count == 2
    path.unlink()
    assert table.refresh()
    assert table.count == 0


@given(
    lines=st.lists(st.binary(max_size=30), max_size=10),
    cuts=st.lists(st.integers(0, 300), max_size=5),
    block=st.sampled_from([1, 7, 64, 1 << 14]),
)
def test_a_tail_gives_every_whole_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int], block: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "f"
    data = b"\n".join(lines)
    tail, found = Tail(path), b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail_module, "_BLOCK", block)
        for end in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
            path.write_bytes(data[:end])
            for lines_ in tail.new()[1]:
                assert lines_.endswith(b"\n")
                found += lines_
    assert found == data[: data.rfind(b"\n") + 1]


def test_a_tail_that_is_not_read_to_its_end_goes_on_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\nthree\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail_module, "_BLOCK", 4)
        tail = Tail(path)
        assert next(tail.new()[1]) == b"one\n"
        assert b"".join(tail.new()[1]) == b"two\nthree\n"
        assert [*tail.new()[1]] == []


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        Tail(path).new()
        list(Tail(path).new()[1])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
