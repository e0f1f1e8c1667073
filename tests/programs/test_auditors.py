"""Vouched volunteers audit for the coordinator: `peer audit`, and `peer join --audit`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from barnraise.core.identity import Identity
from barnraise.core.ids import short
from barnraise.runtime.files import load_identity
from peer.data_dir import PEER_KEY
from tests.attacks.test_sign_flip import RUN
from tests.support.programs import INVITE, Program, Stage, stage
from tests.support.tiny import make_tiny_model, write_sums

TOOK = r"report on round (\d+): the coordinator took it"


def audit(run: Stage, invite: str) -> Program:
    folder = run.folder
    return run.start(
        "aud", "peer.cli.main", "audit", invite, "--threads", "1", "--base", str(folder / "model"),
        "--data-dir", str(folder / "aud"), "--cache-dir", str(folder / "cache"),
        "--listen", "/ip4/127.0.0.1/tcp/0",
    )  # fmt: skip


def vouch(run: Stage, program: Program) -> str:
    """Type what a program asks the maintainer for; its key."""
    key = program.wait_for(r"`coordinator vouch tiny (\w{64})`", 300)[1]
    folder = str(run.folder / "coordinator")
    assert run.start("vouch", "coordinator.cli.main", "vouch", folder, key).wait() == 0
    return key


def killed_while_it_tries(auditor: Program) -> str:
    """Kill an auditor that has begun to try another round: the round's number."""
    before = auditor.output.count(": trying ")
    while auditor.output.count(": trying ") == before:
        auditor.wait_for(": trying ", 300)
    auditor.kill()
    return str(re.findall(r"round (\d+): trying ", auditor.output)[-1])


def identity(folder: Path) -> Identity:
    return load_identity(next(folder.rglob(PEER_KEY)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.full("six programs, and minutes of rounds")
def test_auditors_find_a_sign_flipper_and_the_coordinator_goes_on_without_them(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    write_sums(tmp_path / "data.jsonl")
    (tmp_path / "run.toml").write_text(RUN.replace("lr = 1e-3", "lr = 3e-4"), encoding="utf-8")
    with stage(tmp_path) as run:
        coordinator = run.launch(module="tests.support.shared_audits")
        invite = coordinator.wait_for(INVITE)[1]
        auditor = audit(run, invite)
        key = vouch(run, auditor)
        ada = run.join("ada", invite, "--audit")
        for name in ("ben", "cas"):
            run.join(name, invite)
        run.join("eve", invite, module="tests.support.sign_flipper")
        auditor.wait_for(TOOK, 300)
        coordinator.wait_for(rf"round \d+ audited: .*with auditor {key[:8]}")
        eve, honest = identity(tmp_path / "eve").public, identity(tmp_path / "ben").public
        auditor.wait_for(rf"those of .*{short(eve)}.* raised the loss", 300)
        coordinator.wait_for(rf"{short(eve)} is suspended, with weight 0: audits show harm", 600)
        assert "is not asked any more" not in coordinator.output
        audited = re.findall(r"round \d+ audited: (?:.*(with auditor))?", coordinator.output)
        assert any(audited), "the coordinator repeated what was harmful, so its verdict rests on both"

        number = killed_while_it_tries(auditor)
        coordinator.wait_for(rf"auditor {key[:8]} did not report on round {number} ", 300)
        coordinator.wait_for(r"round \d+ audited")
        own = vouch(run, ada)
        coordinator.wait_for(rf"round \d+ audited: .*with auditor {own[:8]}", 300)
        ada.wait_for(r"no audits for .*: their share of the computing time is used")
        assert f"{short(honest)} is suspended" not in coordinator.output
