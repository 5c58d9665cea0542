"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Box, new_box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Return a private machine: home, tmux server, sessions.yaml."""
    with new_box(tmp_path) as made:
        yield made


@pytest.fixture
def own_tmux(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Point this process's tmux at the box's server."""
    monkeypatch.setenv("TMUX_TMPDIR", str(box.sockets))
    monkeypatch.setenv("HOME", str(box.home))
    monkeypatch.delenv("TMUX", raising=False)
    return box
