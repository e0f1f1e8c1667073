"""A real volunteer that says it trains and never contributes holds up one round, not each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs.test_processes import prepare
from tests.support.programs import stage

pytestmark = [pytest.mark.slow, pytest.mark.full("a run of a minute"), pytest.mark.timeout(600)]


def test_one_silent_volunteer_does_not_slow_a_run(tmp_path: Path) -> None:
    """The round's time is long: a close that waits for all comes with its deadline."""
    prepare(tmp_path, seconds=25, grace=5)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        act.join("ada", invite)
        act.join("ben", invite)
        coordinator.wait_for(r"folded: 2 contributions")
        act.join("eve", invite, module="tests.support.silent_volunteer")
        passed_over = r"round (\d+) closed: 2 volunteers contributed, and 1 did not for whom"
        first = int(coordinator.wait_for(passed_over)[1])
        last = first
        while last < first + 8:
            last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions")[1])
        closes = re.findall(r"round (\d+) closed: (.*)", coordinator.output)
        late = [round for round, why in closes if int(round) >= first and "deadline" in why]
        assert late == []
        before = [round for round, why in closes if int(round) < first and "deadline" in why]
        assert len(before) <= 1
