"""A coordinator moves to another address while real volunteers run, and an old invite still leads to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import Program, Stage, free_ports, stage

pytestmark = [pytest.mark.slow, pytest.mark.full("five programs, one after another, take minutes")]

FOUND_SECONDS = 90.0
"""A coordinator that moved is found within 30 s on an idle machine; this one runs other tests."""


def serve_at(act: Stage, host: str, port: int, p2p_port: int) -> tuple[Program, str]:
    program = act.start(
        f"coordinator at {host}:{port}", "coordinator.cli.main", "serve", str(act.folder / "run.toml"),
        "--host", host, "--port", str(port), "--p2p-port", str(p2p_port), "--http-port", "0",
        "--data-dir", str(act.folder / "coordinator"), "--cache-dir", str(act.folder / "cache"),
    )  # fmt: skip
    return program, program.wait_for(r"(barnraise://\S+)'")[1]


def test_a_coordinator_that_moves_is_found(tmp_path: Path) -> None:
    """To another host and other ports. The last volunteer has the old invite only."""
    prepare(tmp_path)
    ports = free_ports(4)
    with stage(tmp_path) as act:
        coordinator, old = serve_at(act, "127.0.0.1", ports[0], ports[1])
        ada, ben, cyd = (act.join(name, old) for name in ("ada", "ben", "cyd"))
        coordinator.wait_for("the addresses of . volunteers are saved")  # once, maybe before a round has all
        cyd.wait_for("the addresses of . other volunteers are saved")
        coordinator.wait_for(r"folded: 3 contributions")
        cyd.interrupt()

        coordinator.kill()
        coordinator, invite = serve_at(act, "127.0.0.2", ports[2], ports[3])
        assert f"127.0.0.2:{ports[2]}" in invite
        last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions", FOUND_SECONDS)[1])
        for peer in (ada, ben):
            peer.wait_for(rf"^round {last + 1}: ")

        again = act.join("cyd", old)
        again.wait_for(rf"new addresses: .*127\.0\.0\.2:{ports[2]}")
        again.wait_for(r"^round \d+: ")
        coordinator.wait_for(r"folded: 3 contributions")
        check_agreement(coordinator, ada, ben, again)
        for program in (coordinator, ada, ben, again):
            assert "Traceback" not in program.output
