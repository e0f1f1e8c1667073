"""The file that `coordinator delegate` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.certificates import MAX_CLOSERS
from barnraise.runtime.damaged import DAMAGED
from coordinator.cli.delegate import delegate
from coordinator.rounds.amending import Amending
from coordinator.run_folder import DELEGATION
from tests.support import parts
from tests.support.coordinators import opened_store

DAMAGED_FILES = [b"", b"\xff\x00", b'{"version":1,"keys":["no key"]}', b'{"version":2,"keys":[]}']


@pytest.mark.parametrize("wire", DAMAGED_FILES)
def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, wire: bytes) -> None:
    with opened_store(tmp_path) as store:
        (tmp_path / DELEGATION).write_bytes(wire)
        assert [Amending(store).entry(parts.NOW) for _ in range(2)] == [None, None]
    assert not (tmp_path / DELEGATION).exists()
    (aside,) = (tmp_path / DAMAGED).iterdir()
    assert aside.read_bytes() == wire
    (record,) = caplog.records
    assert record.getMessage().endswith(f"names no closers: it is set aside as {aside}. Delegate again")


def test_more_closers_than_a_delegation_names_are_refused(tmp_path: Path) -> None:
    keys = [f"{number:064x}" for number in range(MAX_CLOSERS)]
    with opened_store(tmp_path):
        results = [
            CliRunner().invoke(delegate, [str(tmp_path), *(f"--closer={key}" for key in given)])
            for given in (keys, keys[1:])
        ]
    assert [result.exit_code for result in results] == [2, 0]
    assert "error: 64 closers are too many" in results[0].output
