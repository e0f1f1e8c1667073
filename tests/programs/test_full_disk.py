"""A real volunteer on a small disk that is filled, and then has space again."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.chaos.disks import disks
from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import stage

pytestmark = [pytest.mark.slow, pytest.mark.full("a disk is mounted, which needs root on Linux")]


def test_a_volunteer_waits_for_space_and_trains_on(tmp_path: Path) -> None:
    prepare(tmp_path)
    with disks() as small, stage(tmp_path) as act:
        if not small.can_mount:
            pytest.skip("mounting a small disk needs root on Linux")
        small.small(tmp_path / "ada")
        coordinator, invite = act.serve()
        ada = act.join("ada", invite)
        coordinator.wait_for("accepted ada: ")

        small.fill(tmp_path / "ada")
        ada.wait_for(r"no space left on the disk of .*/ada/.*; trying again")
        small.free(tmp_path / "ada")
        ada.wait_for("that works again")

        last = max(coordinator.states())
        while int(coordinator.wait_for(r"round (\d+) folded: 1 contributions")[1]) <= last:
            pass
        for program in (ada, coordinator):
            program.interrupt()
        check_agreement(coordinator, ada)
        assert "Traceback" not in ada.output + coordinator.output
