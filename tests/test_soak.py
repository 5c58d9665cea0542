"""The short soak: a minute of random faults (`make soak` runs twenty)."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import soak


@pytest.mark.timeout(240)
def test_a_minute_of_faults_loses_nothing(tmp_path: Path) -> None:
    figures = soak(tmp_path, seed=4, seconds=60)
    print(figures)
    assert figures.is_good, f"{figures}\n" + "\n".join(figures.failed_starts)
    assert figures.faults.total() > 10
