"""Runs whose files are lost go on from what others hold, with real programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from barnraise.contract.archive import folder_of
from barnraise.runtime.blob_store import BlobStore, file_hash
from barnraise.runtime.files import write_atomic
from coordinator.run_folder import ARCHIVE, AUTHORITY_KEY, BLOBS
from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import free_ports, stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("waits minutes for what volunteers might have"),
    pytest.mark.timeout(900),
]

PATIENCE = 400.0
"""Seconds for asking the volunteers for the log, then for contributions, on a busy machine."""


def keep_only_the_key(folder: Path) -> None:
    key = (folder / AUTHORITY_KEY).read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    write_atomic(folder / AUTHORITY_KEY, key, mode=0o600)


def lose_checkpoint(folder: Path, round: int) -> None:
    """Remove the state of a checkpoint from the coordinator's store. The archive keeps it."""
    blobs = BlobStore(folder / BLOBS)
    files = list((folder / ARCHIVE / folder_of("trained", round)).glob("*.safetensors"))
    assert files
    for path in files:
        blobs.path(file_hash(path)).unlink()


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

        second = act.launch(port, p2p_port, more=["--recover-from", invite])
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


def test_a_volunteer_joins_while_no_checkpoint_is_served(tmp_path: Path) -> None:
    """The next checkpoint is sixteen rounds of eight seconds away."""
    prepare(tmp_path, steps=None)
    toml = tmp_path / "run.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("every = 2", "every = 16"), encoding="utf-8")
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        ada, ben = act.join("ada", invite), act.join("ben", invite)
        coordinator.wait_for(r"checkpoint of round 16\b.*: held-out loss", PATIENCE)
        coordinator.wait_for(r"folded: ")  # by now the archive has it
        lose_checkpoint(tmp_path / "coordinator", 16)

        carl = act.join("carl", invite)
        taken = int(carl.wait_for(r"took the state of round (\d+) from volunteers: the log names it")[1])
        assert 16 <= taken < 32
        carl.wait_for(rf"^round {taken + 1}: ")
        last = int(coordinator.wait_for(r"round (\d+) folded: 3 contributions")[1])
        carl.wait_for(rf"^round {last + 1}: ")
        assert last + 1 in check_agreement(coordinator, ada, ben, carl)
        for program in (coordinator, ada, ben, carl):
            assert "Traceback" not in program.output
