"""The run's clock over restarts of the coordinator."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.ids import Millis
from barnraise.runtime.run_clock import RunClock
from coordinator.store.kept_clock import KeptClock
from tests.support import parts

INTERVAL = 5.0


def started(folder: Path, wall: int, recorded: int = 0) -> KeptClock:
    """A coordinator that starts at the time `wall` of its machine. Its clock does not advance."""
    clock = RunClock(lambda: Millis(0), lambda: Millis(wall))
    kept = KeptClock(clock, folder / "clock", INTERVAL)
    kept.resume(Millis(recorded))
    return kept


def after_restart(folder: Path, later: float, recorded: int = 0) -> float:
    """Seconds by which the run's clock advanced over a restart, and the wall clock by `later`."""
    started(folder, parts.NOW).keep()
    kept = started(folder, parts.NOW + round(1000 * later), recorded)
    return (kept.clock() - parts.NOW) / 1000


def test_a_new_run_has_the_machine_s_time(tmp_path: Path) -> None:
    assert started(tmp_path, parts.NOW).clock() == parts.NOW


def test_a_restart_goes_on_with_the_machine_s_time(tmp_path: Path) -> None:
    assert after_restart(tmp_path, 60.0) == 60.0


@pytest.mark.parametrize("later", [-600.0, 0.0, 4.0])
def test_a_clock_that_was_set_back_continues_after_the_last_head(tmp_path: Path, later: float) -> None:
    assert after_restart(tmp_path, later) == INTERVAL


@pytest.mark.parametrize("content", [b"", b"-1", b"no number", b"\xff" * 40, b"9" * 40])
def test_a_damaged_file_leaves_the_journal_s_time(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clock").write_bytes(content)
    assert started(tmp_path, parts.NOW - 600_000, recorded=parts.NOW).clock() == parts.NOW


def test_what_is_kept_is_the_run_s_time(tmp_path: Path) -> None:
    started(tmp_path, parts.NOW).keep()
    started(tmp_path, parts.NOW - 600_000).keep()
    third = started(tmp_path, parts.NOW - 1_200_000)
    assert third.clock() == parts.NOW + 2 * round(1000 * INTERVAL)
