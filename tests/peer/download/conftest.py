"""A coordinator's run with one checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.store.run_store import RunStore
from tests.support.coordinators import opened_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as made:
        yield made
