"""How volunteers behind a NAT are reached: arguments and flags of the libp2p daemon. No hivemind in here.

The node that starts a swarm is reachable by all, and relays for those that are not (libp2p's circuit
relay v2). The others ask it to dial them back (AutoNAT); a node that cannot be dialled reserves a slot at
the relay, about 15 s after the start. Two volunteers that are both behind a NAT connect through the
relay, and then try to punch a hole (DCUtR). For that, libp2p 0.32 requires that four public nodes have seen
each of them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from barnraise.core.errors import MalformedBlob
from barnraise.network.relay_pb2 import HopMessage, Status
from barnraise.network.timing import TIMING, Timing

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
RELAYED_BYTES = 2**30
"""A relay is good enough if it carries this many bytes each way before it cuts a connection."""
UNLIMITED = 2**62


def both_transports(listen: str) -> list[str]:
    """`listen`, and QUIC on the same port number where it is a TCP address.

    Hole punching works best over UDP, and flows share a line evenly only when all use QUIC: a coordinator
    that announced TCP alone got half of its line next to volunteers on QUIC.
    """
    host, found, port = listen.rpartition("/tcp/")
    return [listen, f"{host}/udp/{port}/quic-v1"] if found and port.isdigit() else [listen]


def both_transports_of(listens: Sequence[str]) -> list[str]:
    """As `both_transports`, for several addresses."""
    return [address for text in listens for address in both_transports(text)]


def with_ports(listens: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """`listens`, with the ports of the addresses `found` (of the same IP version, by TCP) in place of 0."""
    return tuple(_with_port(listen, found) for listen in listens)


def _with_port(listen: str, found: Sequence[str]) -> str:
    if not listen.endswith("/tcp/0"):
        return listen
    same_version = [text.split("/") for text in found if text.startswith(listen[:5])]
    ports = [parts[4] for parts in same_version if parts[3:4] == ["tcp"] and len(parts) > 4]
    return listen[:-1] + ports[0] if ports else listen


def local_addresses(listen: Sequence[str]) -> list[str]:
    """The addresses by which this machine itself reaches what listens on `listen`."""
    return [
        text.replace("/ip4/0.0.0.0/", "/ip4/127.0.0.1/").replace("/ip6/::/", "/ip6/::1/") for text in listen
    ]


def p2p_options(bootstrap: Sequence[str]) -> dict[str, Any]:
    """Arguments of `P2P.create` for a node that joins by `bootstrap`, or that starts a swarm without any."""
    if not bootstrap:
        return {"force_reachability": "public"}
    # libp2p 0.32 makes no reservation when a relay is named twice.
    relays = {
        text.rpartition("/p2p/")[2]: text for text in sorted(bootstrap, key=lambda text: "/tcp/" in text)
    }
    return {"use_auto_relay": True, "trusted_relays": list(relays.values())}


def daemon_flags(options: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of the daemon that hivemind has no argument for. options: those that hivemind passes."""
    if "forceReachabilityPublic" in options:
        # By default each connection has two buffers of 16 MiB, and a volunteer may have 16 connections.
        return {"relayBufferSize": 2**16, "relayMaxCircuits": 128, "relayMaxReservations": 1024}
    # Every daemon announces that it relays, also unreachable ones: use the named relays only.
    return {"relayDiscovery": 0} if "trustedRelays" in options else {}


def command_prefix(options: Mapping[str, Any]) -> list[str]:
    """The start of the daemon's command line. options: the flags that hivemind passes.

    p2pd sets up its relay twice, once for 128 KiB a connection and once for 4 GiB, and the setup that runs
    last counts. On one processor it is nearly always the second, on two in a third of the starts.
    """
    env = shutil.which("env")
    return [env, "GOMAXPROCS=1"] if env is not None and "forceReachabilityPublic" in options else []


async def relayed_bytes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timing: Timing = TIMING
) -> int:
    """Bytes that a relay lets through a connection each way. The stream must be a HOP_PROTOCOL one.

    Asks for a reservation, because the reply carries the limits. Raises MalformedBlob when the reply is not
    a granted reservation, EOFError, OSError or TimeoutError when the stream breaks.
    """
    writer.write(_framed(HopMessage(type=HopMessage.RESERVE)))
    try:
        reply = await asyncio.wait_for(_message(reader), timing.relay_reply)
    finally:
        writer.close()
    if reply.status != Status.OK or _skipped_known_field(reply) or _skipped_known_field(reply.limit):
        raise _malformed()
    return reply.limit.data or UNLIMITED


def _framed(message: HopMessage) -> bytes:
    """A message behind its length as a varint; a request's length fits into one byte."""
    body = message.SerializeToString()
    return bytes([len(body)]) + body


async def _message(reader: asyncio.StreamReader) -> HopMessage:
    first = (await reader.readexactly(1))[0]
    second = (await reader.readexactly(1))[0] if first & 0x80 else 0
    if second & 0x80:
        raise _malformed()
    try:
        return HopMessage.FromString(await reader.readexactly(first & 0x7F | second << 7))
    except DecodeError:
        raise _malformed() from None


def _skipped_known_field(message: Message) -> bool:
    """Whether protobuf skipped a field that is in the schema: one of another wire type counts as unknown."""
    known, skipped = message.DESCRIPTOR.fields_by_number, UnknownFieldSet(message)
    return any(skipped[place].field_number in known for place in range(len(skipped)))


def _malformed() -> MalformedBlob:
    return MalformedBlob(
        "the relay's reply is not a reservation of circuit relay v2", fix="Ask another relay."
    )
