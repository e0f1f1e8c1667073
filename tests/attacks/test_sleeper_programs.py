"""Real programs: two trusted volunteers turn, one after the other. The run goes back once, and then halts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from barnraise.contract.close_rules import open_commits
from barnraise.contract.divergence import round_loss
from barnraise.contract.log_entries import Close, Entry, Rollback, StandingChange, changes_of
from peer.volunteer.own_standing import LAST
from tests.attacks.test_sign_flip import entries
from tests.programs.test_processes import check_agreement
from tests.support.maintainer import Commands
from tests.support.programs import INVITE, Program, free_ports, stage
from tests.support.sleeper import TURN
from tests.support.tiny import STEADY_RUN, make_tiny_model, write_sums

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("five programs, and about forty rounds of four seconds"),
    pytest.mark.timeout(900),
]

RUN = f"""\
{STEADY_RUN}[checkpoint]
every = 4
keep = 100
held_out_tokens = 0
"""
COORDINATOR = "tests.support.quick_auditor"


def next_round(program: Program, after: int = -1) -> int:
    """The next round that is folded. after: to pass over those that are folded again after a rollback."""
    while (found := int(program.wait_for(r"round (\d+) folded")[1])) <= after:
        pass
    return found


def turn(folder: Path) -> None:
    (folder / TURN).touch()


def of_kind(log: list[Entry], kind: type[Entry]) -> list[Entry]:
    return [entry for entry in log if isinstance(entry, kind)]


def test_the_run_goes_back_once_and_then_halts_until_its_maintainer_decides(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    write_sums(tmp_path / "data.jsonl")
    (tmp_path / "run.toml").write_text(RUN, encoding="utf-8")
    port, p2p_port = free_ports(2)
    with stage(tmp_path) as run:
        command = Commands(run)
        coordinator = run.launch(port, p2p_port, module=COORDINATOR)
        invite = coordinator.wait_for(INVITE)[1]
        ada, ben = run.join("ada", invite), run.join("ben", invite)
        eve, fay = (run.join(name, invite, module="tests.support.sleeper") for name in ("eve", "fay"))
        coordinator.wait_for(r"folded: 4 contributions")
        for _ in range(4):
            next_round(coordinator)

        turn(tmp_path / "eve")
        coordinator.wait_for(r"is suspended, with weight 0: audits show harm", 300)
        eve.wait_for(rf"this key is suspended, .*: \d of its last {LAST} audited contributions raised")
        back = coordinator.wait_for(
            r"round (\d+) folds nothing: the run goes back to the state of round (\d+)", 300
        )
        ended, to = int(back[1]), int(back[2])
        for peer in (ada, ben, fay):
            peer.wait_for(r"the run was rolled back: what we trained for round \d+ is dropped")
        assert eve.wait() == 6, eve.output
        assert re.search(
            "audited contributions did harm|audits showed harm", eve.output
        )  # by the log, or refused
        following = next_round(coordinator, after=ended)
        for peer in (ada, ben, fay):
            peer.wait_for(rf"^round {following + 1}: ")
        check_agreement(coordinator, ada, ben, fay)
        assert ada.states()[ended + 1] == coordinator.states()[to]
        command.await_level("eve", "banned")
        shown = command("verdicts")
        assert "is suspended since" in shown
        assert f"is banned since round {ended}" in shown

        turn(tmp_path / "fay")
        coordinator.wait_for(r"the run halts: \w{8} did harm, and it went back \d+ rounds ago already", 300)
        for peer in (ada, ben):
            peer.wait_for(r"the run is halted: audits banned keys soon after a rollback")
        command.await_level("fay", "banned")
        fay.kill()
        halted = coordinator.states()
        coordinator.kill()
        coordinator = run.launch(port, p2p_port, module=COORDINATOR)
        coordinator.wait_for(r"the run is halted")
        assert coordinator.states().keys() <= halted.keys(), "only what was folded before"
        status = run.start("status", "coordinator.cli.main", "status", invite)
        assert status.wait() == 0, status.output
        assert "the run is halted" in status.output

        command("continue")
        coordinator.wait_for(r"the run continues, by its maintainer's order")
        last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions")[1])
        for peer in (ada, ben):
            peer.wait_for(rf"^round {last + 1}: ")
        check_agreement(coordinator, ada, ben)
        coordinator.interrupt()

        log = list(entries(tmp_path / "coordinator" / "blobs"))
        closes = [each for each in log if isinstance(each, Close)]
        losses = {each.round: round_loss(open_commits(each), each.weights) for each in closes}
        suspended = next(each.round for each in log if isinstance(each, StandingChange))
        assert to < suspended, "since then eve weighed nothing"
        assert losses[ended + 1] < losses[ended - 1] - 1, "the harm is gone"
        assert len(of_kind(log, Rollback)) == 1
        assert len({change.key for each in log for change in changes_of(each)}) == 2, "no honest key"
        assert [e.halted for e in log if isinstance(e, StandingChange) and e.halted is not None] == [
            True,
            False,
        ]
        archive = tmp_path / "coordinator" / "archive"
        options = ("--base", str(tmp_path / "model"), "--cache-dir", str(tmp_path / "cache"), "--key", invite)
        proof = run.start("verify", "peer.cli.main", "verify", str(archive), "--revision", "latest", *options)
        assert proof.wait() == 0, proof.output
        void = next(round for round in range(to + 1, ended + 1) if round % 4 == 0)
        refused = run.start(
            "download", "peer.cli.main", "download", str(archive), "--revision", f"round-{void}", *options
        )
        assert refused.wait() != 0
        assert (
            f"round {void} is void: round {ended} was rolled back to the state of round {to}"
            in refused.output
        )
        for program in (coordinator, ada, ben, eve, fay, proof, refused):
            assert "Traceback" not in program.output
