"""What the libp2p daemon says of its connections, some of which strangers chose."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import cast

from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import write_pbmsg
from hivemind.proto import p2pd_pb2

from barnraise.network import daemon_calls
from barnraise.network.peer_ids import peer_id_bytes
from tests.support import parts
from tests.support.transfers import stream_pair

QUIC = bytes.fromhex("04c0000207910203e8cd03")
WEBTRANSPORT = QUIC + bytes.fromhex("d103")


class FakeDaemon:
    """Gives one answer to every question."""

    def __init__(self, answer: p2pd_pb2.Response) -> None:
        self._answer = answer

    @property
    def as_p2p(self) -> P2P:
        return cast(P2P, self)

    def __getattr__(self, _: str) -> FakeDaemon:
        return self

    async def open_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, (_, writer) = await stream_pair()
        with closing(writer):
            await write_pbmsg(writer, self._answer)
        return ours


def test_an_address_of_an_unknown_transport_hides_no_other_connection() -> None:
    answer = p2pd_pb2.Response(type=p2pd_pb2.Response.OK)
    answer.peers.add(id=peer_id_bytes(parts.STRANGER.public), addrs=[WEBTRANSPORT, QUIC])
    answer.peers.add(id=peer_id_bytes(parts.ADA.public), addrs=[QUIC])
    found = asyncio.run(daemon_calls.connected(FakeDaemon(answer).as_p2p))
    spelled = ["/ip4/192.0.2.7/udp/1000/quic-v1"]
    assert found == [(parts.STRANGER.public, spelled), (parts.ADA.public, spelled)]
