"""How a relay's limits are read, and what the daemon is told."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.core.errors import MalformedBlob
from barnraise.network.nat import (
    UNLIMITED,
    both_transports,
    daemon_flags,
    local_addresses,
    p2p_options,
    relayed_bytes,
)

NARROW = bytes.fromhex("0802") + bytes.fromhex("220608781080800828") + bytes([100])
"""STATUS, a limit of 120 s and 131,072 bytes, OK: what p2pd sends for its own default."""
NO_LIMIT = bytes.fromhex("08022864")
REFUSED = bytes.fromhex("080228c801")


class Sent(asyncio.StreamWriter):
    """Keeps what was written."""

    def __init__(self) -> None:
        self.bytes = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.bytes += bytes(data)

    def close(self) -> None:
        self.closed = True

    def __del__(self) -> None:
        return


def asked(reply: bytes) -> int:
    async def ask() -> int:
        reader, writer = asyncio.StreamReader(), Sent()
        reader.feed_data(reply)
        reader.feed_eof()
        try:
            return await relayed_bytes(reader, writer)
        finally:
            assert (writer.bytes, writer.closed) == (b"\x02\x08\x00", True)

    return asyncio.run(ask())


def framed(message: bytes) -> bytes:
    return bytes([len(message)]) + message


def test_a_relay_tells_its_limit() -> None:
    assert asked(framed(NARROW)) == 131_072
    assert asked(framed(NO_LIMIT)) == UNLIMITED


@pytest.mark.parametrize(
    "reply", [framed(REFUSED), framed(b"\x22\x7f"), framed(b"\x25"), b"\xff\xff\xff\xff"]
)
def test_what_is_no_reply_is_refused(reply: bytes) -> None:
    with pytest.raises(MalformedBlob):
        asked(reply)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_limit_or_refused(reply: bytes) -> None:
    with contextlib.suppress(MalformedBlob, EOFError):
        assert asked(reply) > 0


def test_a_relay_is_named_once_and_by_tcp() -> None:
    """libp2p 0.32 reserves nowhere when a relay is named twice."""
    tcp, quic = "/ip4/1.2.3.4/tcp/7452/p2p/A", "/ip4/1.2.3.4/udp/7452/quic-v1/p2p/A"
    other = "/ip4/1.2.3.5/udp/7452/quic-v1/p2p/B"
    assert set(p2p_options([tcp, quic, other])["trusted_relays"]) == {tcp, other}
    assert p2p_options([])["force_reachability"] == "public"
    assert "trusted_relays" not in p2p_options([])


def test_relays_are_not_discovered() -> None:
    assert daemon_flags({"trustedRelays": "x"}) == {"relayDiscovery": 0}
    assert daemon_flags({}) == {}


def test_quic_listens_beside_tcp() -> None:
    assert both_transports("/ip4/0.0.0.0/tcp/7452") == [
        "/ip4/0.0.0.0/tcp/7452",
        "/ip4/0.0.0.0/udp/7452/quic-v1",
    ]
    assert both_transports("/ip4/0.0.0.0/udp/1/quic-v1") == ["/ip4/0.0.0.0/udp/1/quic-v1"]
    assert local_addresses(both_transports("/ip6/::/tcp/7")) == ["/ip6/::1/tcp/7", "/ip6/::1/udp/7/quic-v1"]
