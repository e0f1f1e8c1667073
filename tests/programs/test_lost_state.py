"""A coordinator that has its key alone goes on from a state that its volunteers hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.run_folder import AUTHORITY_KEY
from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import Program, Stage, free_ports, stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("waits two minutes for what volunteers might have"),
    pytest.mark.timeout(900),
]

PATIENCE = 400.0
"""Seconds for asking the volunteers for the log, then for contributions, on a busy machine."""


def recover(act: Stage, invite: str, port: int, p2p_port: int) -> Program:
    return act.start(
        "coordinator", "coordinator.cli.main", "serve", str(act.folder / "run.toml"),
        "--host", "127.0.0.1", "--port", str(port), "--p2p-port", str(p2p_port), "--http-port", "0",
        "--data-dir", str(act.folder / "coordinator"), "--cache-dir", str(act.folder / "cache"),
        "--recover-from", invite,
    )  # fmt: skip


def keep_only_the_key(folder: Path) -> None:
    key = (folder / AUTHORITY_KEY).read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / AUTHORITY_KEY).write_bytes(key)


def test_a_coordinator_with_its_key_alone_goes_on(tmp_path: Path) -> None:
    """The volunteers have dropped the contributions before the checkpoint of round 2."""
    prepare(tmp_path)
    port, p2p_port = free_ports(2)
    with stage(tmp_path) as act:
        first, invite = act.serve(port, p2p_port)
        ada, ben = act.join("ada", invite), act.join("ben", invite)
        first.wait_for(r"checkpoint of round 2 written")
        first.wait_for(r"folded: 2 contributions")
        first.wait_for(r"folded: 2 contributions")
        first.kill()
        keep_only_the_key(tmp_path / "coordinator")

        second = recover(act, invite, port, p2p_port)
        taken = int(second.wait_for(r"what leads to round (\d+) is lost", PATIENCE)[1])
        assert taken >= 2
        second.wait_for(r"the run resumes with round \d+ in epoch 1", PATIENCE)
        last = int(second.wait_for(r"round (\d+) folded: 2 contributions", PATIENCE)[1])
        assert last > taken
        for peer in (ada, ben):
            peer.wait_for(rf"^round {last + 1}: ")
        check_agreement(second, ada, ben)
        for program in (ada, ben, second):
            assert "Traceback" not in program.output
