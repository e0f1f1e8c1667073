"""A heartbeat that would count for an hour: how long one counts, its sender does not choose."""

from __future__ import annotations

import json

from barnraise.contract.heartbeat import MISSED, SHORTEST
from barnraise.contract.records import Presence, open_record
from barnraise.contract.run_keys import Signers
from barnraise.core.ids import Millis, RunId
from barnraise.core.signed import Signed, sign
from barnraise.network.gossip_policy import RecordCache
from tests.support import parts


class Boastful(Presence):
    """A heartbeat as programs before 0.1.0 sent it."""

    beat: float = 600.0


def test_a_heartbeat_counts_as_long_as_the_coordinator_decides() -> None:
    said = Boastful.model_validate({**parts.presence(parts.ADA).model_dump(), "beat": 600.0})
    signed = sign(parts.ADA, said)
    assert json.loads(signed.payload)["beat"] == 600.0
    wire = b"P" + signed.wire
    found = open_record(wire, run=RunId(said.run), signers=Signers(parts.AUTHORITY.public), now=parts.NOW)
    cache = RecordCache()
    cache.receive(Signed(found.value, found.signer, found.wire), parts.NOW)
    counts = round(1000 * MISSED * SHORTEST)
    assert len(cache.present(Millis(parts.NOW + counts))) == 1
    assert cache.present(Millis(parts.NOW + counts + 1)) == []
