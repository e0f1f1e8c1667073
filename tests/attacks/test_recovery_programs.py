"""Real programs: a volunteer is suspended for harm, recovers by honest work, and is banned and unbanned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.attacks.test_sleeper_programs import RUN, turn
from tests.support.maintainer import Commands
from tests.support.programs import INVITE, stage
from tests.support.sleeper import TURN
from tests.support.tiny import make_tiny_model, write_sums

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("four programs, and about fifty rounds of three seconds"),
    pytest.mark.timeout(900),
]

TRUST = """\
[trust]
probation_work = 5
"""


def test_a_suspended_key_recovers_and_a_banned_one_comes_back(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    write_sums(tmp_path / "data.jsonl")
    text = RUN.replace("[round]", '[round]\naggregate = "clipped_mean"') + TRUST
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    with stage(tmp_path) as run:
        command = Commands(run)
        coordinator = run.launch(module="tests.support.quick_auditor")
        invite = coordinator.wait_for(INVITE)[1]
        for name in ("ada", "ben"):
            run.join(name, invite)
        eve = run.join("eve", invite, module="tests.support.sleeper")
        coordinator.wait_for(r"folded: 3 contributions")

        turn(tmp_path / "eve")
        key = coordinator.wait_for(r"(\w{8}) is suspended, with weight 0: audits show harm", 300)[1]
        (tmp_path / "eve" / TURN).unlink()
        eve.wait_for(r"this key is suspended, .*check this machine's memory.* It recovers by going on")
        assert f"{key} is suspended since round" in command("verdicts")
        eve.wait_for(r"0 of \d+ tokens count, 0.0% of the round: this key is suspended")

        coordinator.wait_for(rf"{key} is on probation: audits show no more harm", 300)
        eve.wait_for(r"this key is no longer suspended: audits of its last contributions found no harm")
        assert f"{key} is probation since round" in command("verdicts")
        coordinator.wait_for(rf"{key} is trusted: \d+ audited contributions did no harm", 300)
        command.await_level("eve", "trusted")

        command("ban", key, "--note", "sent noise")
        coordinator.wait_for(rf"{key} is banned by the maintainer's order: sent noise")
        assert eve.wait() == 6, eve.output
        assert "banned your key: sent noise" in eve.output
        command.await_level("eve", "banned")
        command("unban", key)
        coordinator.wait_for(rf"{key} is trusted by the maintainer's order")
        eve = run.join("eve", invite, module="tests.support.sleeper")
        coordinator.wait_for(r"folded: 3 contributions")
        command.await_level("eve", "trusted")

        invitation = re.search(r"^(\w{16})  3 of 100 used", command("invite", "--list"), re.MULTILINE)
        assert invitation is not None, command("invite", "--list")
        command("invite", "--revoke", invitation[1])
        coordinator.wait_for(r"folded: 3 contributions")
        zoe = run.join("zoe", invite)
        assert zoe.wait() == 6, zoe.output
        assert "has revoked the invitation" in zoe.output
        coordinator.wait_for(r"folded: 3 contributions")
        coordinator.interrupt()

        proof = run.start(
            "verify", "peer.cli.main", "verify", str(tmp_path / "coordinator" / "archive"),
            "--base", str(tmp_path / "model"), "--cache-dir", str(tmp_path / "cache"), "--key", invite,
            "--revision", "latest",
        )  # fmt: skip
        assert proof.wait() == 0, proof.output
        for program in (coordinator, eve, zoe, proof):
            assert "Traceback" not in program.output
