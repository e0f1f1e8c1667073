"""How volunteers behind a NAT are reached: what the libp2p daemon is told for it. No hivemind in here.

Whoever starts a swarm is reachable by all, and relays for those who are not (libp2p's circuit relay v2).
The others ask it to dial them back (AutoNAT); who cannot be dialled reserves a place at the relay, about
15 s after the start. Two volunteers that both sit behind a NAT meet through the relay, and then try to
punch a hole (DCUtR). For that, libp2p 0.32 wants each of them to have been seen by four public nodes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from barnraise.core.errors import MalformedBlob

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
RELAYED_BYTES = 2**30
"""A relay is good enough that lets through so much each way before it cuts a connection."""
REPLY_SECONDS = 5.0
_RESERVE = bytes([2, 0x08, 0x00])
"""A HopMessage of the type RESERVE behind its length (github.com/libp2p/specs, relay/circuit-v2)."""
_LIMIT, _STATUS, _DATA, _OK = 4, 5, 2, 100
_MAX_LENGTH_BYTES = 2
UNLIMITED = 2**62


def both_transports(listen: str) -> list[str]:
    """`listen`, and QUIC on the same port number where it is a TCP address.

    Holes are punched best in UDP, and lines are shared best where everybody speaks QUIC: beside volunteers
    who did, a coordinator that was told of by TCP alone got half of its line.
    """
    host, found, port = listen.rpartition("/tcp/")
    return [listen, f"{host}/udp/{port}/quic-v1"] if found and port.isdigit() else [listen]


def local_addresses(listen: Sequence[str]) -> list[str]:
    """Where this machine itself finds what listens on `listen`."""
    return [
        text.replace("/ip4/0.0.0.0/", "/ip4/127.0.0.1/").replace("/ip6/::/", "/ip6/::1/") for text in listen
    ]


def p2p_options(bootstrap: Sequence[str]) -> dict[str, Any]:
    """Arguments of `P2P.create` for a node that joins by `bootstrap`, or that starts a swarm without any."""
    if not bootstrap:
        return {"force_reachability": "public"}
    # libp2p 0.32 reserves nowhere when a relay is named twice.
    relays = {
        text.rpartition("/p2p/")[2]: text for text in sorted(bootstrap, key=lambda text: "/tcp/" in text)
    }
    return {"use_auto_relay": True, "trusted_relays": list(relays.values())}


def daemon_flags(options: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of the daemon that hivemind has no argument for, by those that it gave."""
    if "forceReachabilityPublic" in options:
        # For each connection two buffers of 16 MiB by default, and 16 connections a volunteer.
        return {"relayBufferSize": 2**16, "relayMaxCircuits": 128, "relayMaxReservations": 1024}
    # Every daemon says that it relays, also those that nobody can reach: only the named ones are asked.
    return {"relayDiscovery": 0} if "trustedRelays" in options else {}


def command_prefix(options: Mapping[str, Any]) -> list[str]:
    """What the daemon's command begins with.

    p2pd sets its relay up twice, once for 128 KiB a connection and once for 4 GiB, and whichever
    comes last holds. On one processor it is nearly always the second, on two in a third of the starts.
    """
    env = shutil.which("env")
    return [env, "GOMAXPROCS=1"] if env is not None and "forceReachabilityPublic" in options else []


async def relayed_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """How many bytes a relay lets through a connection each way; it is asked on a HOP_PROTOCOL stream.

    Raises MalformedBlob when the reply is none, EOFError, OSError or TimeoutError when the stream breaks.
    """
    writer.write(_RESERVE)
    try:
        return _data_limit(await asyncio.wait_for(_message(reader), REPLY_SECONDS))
    finally:
        writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(1)
    while head[-1] & 0x80 and len(head) < _MAX_LENGTH_BYTES:
        head += await reader.readexactly(1)
    return await reader.readexactly(_varint(head, 0)[0])


def _data_limit(reply: bytes) -> int:
    fields = _fields(reply)
    limit = fields.get(_LIMIT, b"")
    if fields.get(_STATUS) != _OK or not isinstance(limit, bytes):
        raise _malformed()
    data = _fields(limit).get(_DATA, 0)
    if not isinstance(data, int):
        raise _malformed()
    return data or UNLIMITED


def _fields(message: bytes) -> dict[int, int | bytes]:
    """The fields of a protobuf message that has only numbers and bytes."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, at = _varint(message, at)
        match key & 7:
            case 0:
                found[key >> 3] = number
            case 2 if at + number <= len(message):
                found[key >> 3], at = message[at : at + number], at + number
            case _:
                raise _malformed()
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _malformed()


def _malformed() -> MalformedBlob:
    return MalformedBlob("a relay's reply is not what libp2p's circuit relay v2 says", fix="Ask another one.")
