"""A run ends by its maintainer's order: volunteers leave, and it is served on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import INVITE, stage

pytestmark = pytest.mark.slow


def test_a_run_ends_by_its_maintainer_s_order(tmp_path: Path) -> None:
    prepare(tmp_path, seconds=4, grace=2)
    with stage(tmp_path) as act:
        coordinator = act.launch(more=["--decay", "1"])
        invite = coordinator.wait_for(INVITE)[1]
        ada = act.join("ada", invite)
        coordinator.wait_for("from round 1 on the learning rate falls; round 1 is the last one")
        coordinator.wait_for("checkpoint of round 2 written")
        coordinator.wait_for("round 2: the run is over after 2 rounds")
        assert ada.wait() == 0, ada.output
        ada.wait_for("The run is over after 2 rounds. .*`peer download`")
        assert {1, 2} <= check_agreement(coordinator, ada), "the volunteer shows the state that it ends with"

        late = act.join("ben", invite)
        assert late.wait() == 0, late.output
        late.wait_for("The run is over after 2 rounds")
        coordinator.interrupt()
        for program in (coordinator, ada, late):
            assert "Traceback" not in program.output
