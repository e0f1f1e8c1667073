"""A run with two volunteers is rolled back: both follow by themselves, and all go on with one state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import free_ports, stage

pytestmark = [pytest.mark.slow, pytest.mark.full("a run of a minute"), pytest.mark.timeout(600)]


def test_volunteers_follow_a_rollback_and_so_does_a_restart(tmp_path: Path) -> None:
    prepare(tmp_path)
    port, p2p_port = free_ports(2)
    folder = tmp_path / "coordinator"
    with stage(tmp_path) as act:
        coordinator, invite = act.serve(port, p2p_port)
        ada, ben = act.join("ada", invite), act.join("ben", invite)
        coordinator.wait_for(r"round [5-9] folded: 2 contributions")
        order = act.start(
            "order", "coordinator.cli.main", "rollback", str(folder), "--to", "3", "--note", "a bad batch"
        )
        assert order.wait() == 0, order.output
        found = coordinator.wait_for(r"round (\d+) folds nothing: .* of round 3 \(a bad batch\)")
        ended = int(found[1])
        for peer in (ada, ben):
            peer.wait_for(r"the run was rolled back: what we trained for round \d+ is dropped")
        last = 0
        while last <= ended:  # the state of round 3 is folded again
            last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions")[1])
        for peer in (ada, ben):
            peer.wait_for(rf"^round {last + 1}: ")
        agreed = check_agreement(coordinator, ada, ben)
        assert last + 1 in agreed
        assert ada.states()[ended + 1] == coordinator.states()[3]

        coordinator.kill()
        again, _ = act.serve(port, p2p_port)
        newest = 0
        while newest <= last:
            newest = int(again.wait_for(r"round (\d+) folded: 2 contributions")[1])
        for peer in (ada, ben):
            peer.wait_for(rf"^round {newest + 1}: ")
        assert newest + 1 in check_agreement(again, ada, ben)
        again.wait_for(r"the mean of the states of rounds [\d, and]+: held-out loss \d")
        again.interrupt()
        proof = act.start(
            "verify", "peer.cli.main", "verify", str(folder / "archive"), "--base", str(tmp_path / "model"),
            "--cache-dir", str(tmp_path / "cache"), "--key", invite,
        )  # fmt: skip
        assert proof.wait() == 0, proof.output
        for program in (coordinator, again, ada, ben):
            assert "Traceback" not in program.output
