"""Real programs on machines whose clock is wrong, is set while they run, or that stop for a while."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import Program, free_ports, stage
from tests.support.settable_clock import SettableClock

pytestmark = pytest.mark.slow

TEN_MINUTES = 600


def closes_together(coordinator: Program, rounds: int = 2) -> None:
    """Wait until both volunteers contribute to `rounds` rounds."""
    for _ in range(rounds):
        coordinator.wait_for(r"folded: 2 contributions")


def test_clocks_that_are_wrong_or_set_cost_at_most_a_round(tmp_path: Path) -> None:
    """Ten minutes in both directions, on both sides, and a restart after a correction backwards."""
    prepare(tmp_path)
    clocks = {name: SettableClock(tmp_path / f"{name}.clock") for name in ("coordinator", "ada", "ben")}
    ports = free_ports(2)
    clocks["ben"].set(-TEN_MINUTES)  # wrong from the start
    with stage(tmp_path) as act:
        coordinator, invite = act.serve(*ports, python=clocks["coordinator"].python)
        peers = [act.join(name, invite, python=clocks[name].python) for name in ("ada", "ben")]
        closes_together(coordinator)
        before = len(coordinator.output)
        for name, ahead in [
            ("coordinator", TEN_MINUTES),
            ("coordinator", -TEN_MINUTES),
            ("ada", TEN_MINUTES),
            ("ada", -TEN_MINUTES),
        ]:
            clocks[name].set(ahead)
            {"coordinator": coordinator, "ada": peers[0]}[name].wait_for(r"this machine's clock was set")
            closes_together(coordinator)
        assert coordinator.output[before:].count("folded: 1 contribution") <= 4, "one for each time"

        coordinator.kill()
        clocks["coordinator"].set(-2 * TEN_MINUTES)
        again, _ = act.serve(*ports, python=clocks["coordinator"].python)
        again.wait_for(r"folded: 2 contributions")
        check_agreement(coordinator, again, *peers)
        for peer in peers:
            peer.interrupt()
        again.interrupt()
        for program in (coordinator, again, *peers):
            assert "Traceback" not in program.output


@pytest.mark.full("rounds before and after a stop take more than a minute")
def test_a_volunteer_that_was_stopped_goes_on_as_before(tmp_path: Path) -> None:
    """The time of its pause is no step: else it would take one step a round for five rounds."""
    prepare(tmp_path, seconds=6, grace=2, steps=None)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        ada, ben = act.join("ada", invite), act.join("ben", invite)
        closes_together(coordinator)
        ada.wait_for(r"^round \d+: training")
        os.kill(ada.process.pid, signal.SIGSTOP)
        coordinator.wait_for(r"folded: 1 contribution")
        coordinator.wait_for(r"folded: 1 contribution")
        os.kill(ada.process.pid, signal.SIGCONT)
        ada.wait_for(r"this program was stopped for \d+ s")
        assert float(ada.wait_for(r"another step of ([\d.]+) s")[1]) < 5
        closes_together(coordinator)
        check_agreement(coordinator, ada, ben)
