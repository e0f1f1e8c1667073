"""How a relay's limits are read, and which arguments the daemon gets."""

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
    with_ports,
)
from tests.support.transfers import stream_pair

NARROW = bytes.fromhex("0802") + bytes.fromhex("220608781080800828") + bytes([100])
"""STATUS, a limit of 120 s and 131,072 bytes, OK: what p2pd sends for its own default."""
NO_LIMIT = bytes.fromhex("08022864")
REFUSED = bytes.fromhex("080228c801")
LIMIT_AS_NUMBER = bytes.fromhex("080220052864")
DATA_AS_BYTES = bytes.fromhex("0802220312010a2864")
STATUS_AS_BYTES = bytes.fromhex("08022a0164")


def limit_in(reply: bytes) -> int:
    """What `relayed_bytes` makes of a reply; its request and that it closes the stream are checked."""

    async def ask() -> int:
        ours, (reader, writer) = await stream_pair()
        writer.write(reply)
        writer.write_eof()
        try:
            return await relayed_bytes(*ours)
        finally:
            assert await reader.read() == b"\x02\x08\x00", "a RESERVE behind its length"
            writer.close()

    return asyncio.run(ask())


def framed(message: bytes) -> bytes:
    return bytes([len(message)]) + message


def test_the_limit_is_read() -> None:
    assert limit_in(framed(NARROW)) == 131_072
    assert limit_in(framed(NO_LIMIT)) == UNLIMITED


def test_fields_that_are_not_read_are_skipped() -> None:
    voucher = bytes.fromhex("1a021234")
    assert limit_in(framed(voucher + NARROW)) == 131_072


@pytest.mark.parametrize(
    "reply",
    [
        framed(REFUSED),
        framed(LIMIT_AS_NUMBER),
        framed(DATA_AS_BYTES),
        framed(STATUS_AS_BYTES),
        framed(NARROW + STATUS_AS_BYTES[2:]),
        framed(b"\x22\x7f"),
        framed(b"\x25"),
        b"\xff\xff\xff\xff",
    ],
)
def test_other_replies_are_refused(reply: bytes) -> None:
    with pytest.raises(MalformedBlob):
        limit_in(reply)


@given(st.binary(max_size=80))
def test_random_bytes_are_a_limit_or_refused(reply: bytes) -> None:
    with contextlib.suppress(MalformedBlob, EOFError):
        assert limit_in(reply) > 0


def test_a_relay_is_named_once_and_by_tcp() -> None:
    """libp2p 0.32 makes no reservation when a relay is named twice."""
    tcp, quic = "/ip4/1.2.3.4/tcp/7452/p2p/A", "/ip4/1.2.3.4/udp/7452/quic-v1/p2p/A"
    other = "/ip4/1.2.3.5/udp/7452/quic-v1/p2p/B"
    assert set(p2p_options([tcp, quic, other])["trusted_relays"]) == {tcp, other}
    assert p2p_options([])["force_reachability"] == "public"
    assert "trusted_relays" not in p2p_options([])


def test_relays_are_not_discovered() -> None:
    assert daemon_flags({"trustedRelays": "x"}) == {"relayDiscovery": 0}
    assert daemon_flags({}) == {}


def test_a_tcp_address_listens_on_quic_too() -> None:
    assert both_transports("/ip4/0.0.0.0/tcp/7452") == [
        "/ip4/0.0.0.0/tcp/7452",
        "/ip4/0.0.0.0/udp/7452/quic-v1",
    ]
    assert both_transports("/ip4/0.0.0.0/udp/1/quic-v1") == ["/ip4/0.0.0.0/udp/1/quic-v1"]
    assert local_addresses(both_transports("/ip6/::/tcp/7")) == ["/ip6/::1/tcp/7", "/ip6/::1/udp/7/quic-v1"]


def test_a_restart_keeps_the_ports_that_were_free() -> None:
    listens = ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0", "/ip4/10.0.0.1/tcp/7")
    found = ("/ip4/127.0.0.1/udp/5/quic-v1/p2p/x", "/ip4/127.0.0.1/tcp/6/p2p/x", "/ip4/10.0.0.1/tcp/7/p2p/x")
    assert with_ports(listens, found) == ("/ip4/0.0.0.0/tcp/6", "/ip6/::/tcp/0", "/ip4/10.0.0.1/tcp/7")
