"""A blob that was damaged in the store is not served: the asker learns that it is not held."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.pieces import pieces_hash
from barnraise.core.ids import blob_hash
from barnraise.network.blobs.piece_protocol import HAVE, Request
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL
from barnraise.network.blobs.whole_protocol import NOT_HELD
from barnraise.runtime.damaged import DAMAGED
from tests.support import virtual_time
from tests.support.transfers import Net, blob, key

DATA = blob()
NAME = blob_hash(DATA)


@pytest.mark.parametrize("protocol", [PIECE_PROTOCOL, WHOLE_PROTOCOL])
def test_a_damaged_blob_is_set_aside_when_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    async def play() -> bytes:
        net = Net(tmp_path)
        ada = net.node("ada")
        ada.holds(DATA)
        ada.blobs.path(NAME).write_bytes(b"x" + DATA[1:-1])
        reader, writer = await net._open("ben", key("ada"), protocol)
        try:
            whole = protocol == WHOLE_PROTOCOL
            writer.write(
                bytes.fromhex(NAME) + bytes(8)
                if whole
                else Request(NAME, len(DATA), pieces_hash(DATA), HAVE).wire
            )
            return await reader.readexactly(8 if whole else 1)
        finally:
            writer.close()

    refused = NOT_HELD.to_bytes(8, "little") if protocol == WHOLE_PROTOCOL else b"\x00"
    assert virtual_time.run(play()) == refused
    (aside,) = tmp_path.rglob(f"{DAMAGED}/*")
    assert [record.args for record in caplog.records] == [(NAME[:8], aside)]


def test_an_intact_blob_is_checked_once(tmp_path: Path) -> None:
    ada = Net(tmp_path).node("ada")
    ada.holds(DATA)
    assert ada.blobs.is_unchanged(NAME)
    ada.blobs.path(NAME).touch()
    assert not ada.blobs.is_unchanged(NAME)
    ada.blobs.check(NAME)
    assert ada.blobs.is_unchanged(NAME)
    ada.blobs.remove(NAME)
    assert not ada.blobs.is_unchanged(NAME)
