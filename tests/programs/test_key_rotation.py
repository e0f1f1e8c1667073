"""The run key is stolen: its successor takes its place; volunteers and proofs follow, its invitations end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.run_folder import AUTHORITY_KEY
from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import Stage, free_ports, stage

pytestmark = [pytest.mark.slow, pytest.mark.full("six programs, one after another, take minutes")]


def ended(act: Stage, name: str, module: str, *arguments: str, status: int = 0) -> str:
    """The output of a program that ends."""
    program = act.start(name, module, *arguments)
    assert program.wait() == status, program.output
    return program.output


def test_a_successor_takes_the_place_of_a_stolen_key(tmp_path: Path) -> None:
    prepare(tmp_path)
    folder, stick, thief = tmp_path / "coordinator", tmp_path / "stick" / "next.key", tmp_path / "thief"
    ports = free_ports(4)

    def key(act: Stage, *arguments: str) -> str:
        return ended(act, "key", "coordinator.cli.main", "key", *arguments)

    with stage(tmp_path) as act:
        coordinator, invite = act.serve(ports[0], ports[1])
        ada = act.join("ada", invite)
        coordinator.wait_for("folded: 1 contributions")
        key(act, "successor", str(folder), str(stick))
        coordinator.wait_for("the log names .* as the successor of the run key")
        coordinator.wait_for("folded: 1 contributions")
        assert "successor" in key(act, "show", str(folder))
        coordinator.interrupt()
        shutil.copytree(folder, thief)

        assert "serve" in key(act, "rotate", str(folder), str(stick))
        assert (folder / AUTHORITY_KEY).read_bytes() == stick.read_bytes()
        coordinator, after = act.serve(ports[0], ports[1])
        parts = [text.partition("&invitation=")[0] for text in (after, invite)]
        assert parts[0] == parts[1], "it names the run, whose first key stays"
        assert "the run key is" in coordinator.output
        ada.wait_for("the run's key was replaced by its successor")
        last = int(coordinator.wait_for(r"round (\d+) folded: 1 contributions")[1])
        ada.wait_for(rf"^round {last + 1}: ")

        robbed = act.start(
            "thief", "coordinator.cli.main", "serve", str(tmp_path / "run.toml"), "--host", "127.0.0.1",
            "--port", str(ports[2]), "--p2p-port", str(ports[3]), "--http-port", "0",
            "--data-dir", str(thief), "--cache-dir", str(tmp_path / "cache"),
        )  # fmt: skip
        late = act.join("late", invite)
        assert late.wait() == 6, "the invitation is by the stolen key"
        ben = act.join("ben", after)
        coordinator.wait_for("folded: 2 contributions")
        last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions")[1])
        ada.wait_for(rf"^round {last + 1}: ")
        ben.wait_for(rf"^round {last + 1}: ")
        robbed.kill()
        assert len(check_agreement(coordinator, ada, ben)) > 1
        ada.interrupt()
        ben.interrupt()
        coordinator.interrupt()

        pinned = invite.partition("key=")[2].partition("&")[0]
        proof = ended(
            act, "verify", "peer.cli.main", "verify", str(folder / "archive"), "--key", pinned,
            "--base", str(tmp_path / "model"), "--cache-dir", str(tmp_path / "cache"),
        )  # fmt: skip
        assert "proved" in proof.lower(), proof
        for program in (coordinator, ada, ben):
            assert "Traceback" not in program.output
