"""What programs do that keep none of our rules: `-m scripts.benchmarks.floods.attacks INVITE FLOOD FOLDER`.

Strangers have no admission. Members have one, as anybody has in an open run.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hivemind.dht.routing import DHTID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto import dht_pb2

from barnraise.contract.invite import Invite, parse_invite
from barnraise.contract.records import Commit, Head, Presence, seal
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.network import daemon
from barnraise.network.address_protocol import ADDRESS_PROTOCOL
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL
from barnraise.network.gossip import GOSSIP_PROTOCOL
from barnraise.network.mail import MAIL_PROTOCOL
from barnraise.runtime.run_clock import RunClock
from peer.coordinator_client import connect
from tests.support.attackers import Attacker, ask_dht, attackers, key_number

PROTOCOLS = (WHOLE_PROTOCOL, PIECE_PROTOCOL, GOSSIP_PROTOCOL, MAIL_PROTOCOL, ADDRESS_PROTOCOL)
HOLDERS, HELD = 12, 8
"""Keys, and streams of each protocol that each of them holds: 96 together."""
SENDERS, AT_ONCE = 3, 40
"""Keys that send as fast as they can, and messages of each that are under way."""
LARGE = 3_900_000
CONNECTIONS = 1000
OWNERS, FIRST_OWNER, MANY_SENDERS = 400, 1000, 10
"""Further members, whose records others send."""
MULTISTREAM = b"\x13/multistream/1.0.0\n\x07/noise\n"
"""What a libp2p connection begins with."""
FAILURES = (P2PHandlerError, P2PDaemonError, OSError, EOFError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Target:
    """The coordinator's node, and what is known of the run."""

    invite: Invite
    head: Head
    admissions: Mapping[PublicKey, str]
    """Of members."""

    @property
    def key(self) -> PublicKey:
        """The coordinator's."""
        return self.invite.key

    @property
    def place(self) -> tuple[str, int]:
        """Where its libp2p daemon listens by TCP."""
        parts = next(text for text in self.head.bootstrap if "/tcp/" in text).split("/")
        return parts[2], int(parts[4])


Act = Callable[[Attacker, Target, int], Awaitable[None]]
"""One act of an attacker, with its number."""


@dataclass(frozen=True)
class Flood:
    """What a number of keys do over and over."""

    what: str
    keys: int
    act: Act
    at_once: int = 1
    members: bool = False
    owners: int = 0
    """Further members."""


async def hold_streams(attacker: Attacker, target: Target, number: int) -> None:
    """Keep streams open, and read one byte a second."""
    if number == 0:
        asked = bytes.fromhex(target.head.checkpoint) + bytes(8)
        for protocol in PROTOCOLS:
            attacker.hold(target.key, protocol, HELD, asked if protocol == WHOLE_PROTOCOL else b"")
    await asyncio.sleep(1)


async def send_large(attacker: Attacker, target: Target, number: int) -> None:
    """A message of 3.9 MB to store."""
    request = dht_pb2.StoreRequest(
        keys=[DHTID.generate(source=str(number).encode()).to_bytes()],
        subkeys=[b"x"],
        values=[bytes(LARGE)],
        expiration_time=[target.head.at / 1000 + 3000],
        in_cache=[False],
    )
    await ask_dht(attacker, target.key, "rpc_store", request, dht_pb2.StoreResponse)


async def search(attacker: Attacker, target: Target, number: int) -> None:
    """A request for 16 entries."""
    keys = [DHTID.generate(source=f"{number}/{each}".encode()).to_bytes() for each in range(16)]
    await ask_dht(attacker, target.key, "rpc_find", dht_pb2.FindRequest(keys=keys), dht_pb2.FindResponse)


async def send_junk(attacker: Attacker, target: Target, number: int) -> None:
    """Bytes that are no record, message or page."""
    protocol = (GOSSIP_PROTOCOL, MAIL_PROTOCOL, ADDRESS_PROTOCOL)[number % 3]
    await _send(attacker, target, protocol, bytes(2000))


async def send_commits(attacker: Attacker, target: Target, number: int) -> None:
    """A valid commit to one of 4,000 rounds."""
    await _send_commit(attacker, target, attacker.identity, number % 4000, number)


async def send_of_many(attacker: Attacker, target: Target, number: int) -> None:
    """A valid commit, or a heartbeat, of one of many members."""
    number = number * MANY_SENDERS + int(attacker.identity.public[:8], 16) % MANY_SENDERS
    owner = key_number(FIRST_OWNER + number % OWNERS)
    if number % 2:
        await _send_commit(attacker, target, owner, target.head.round + number % 3, number)
        return
    admission, head = target.admissions[PublicKey(owner.public)], target.head
    beat = Presence(
        run=head.run, owner=owner.public, instance="0" * 16, admission=admission, name="member",
        round=head.round, state=head.state or "0" * 64, tokens=1000, tokens_per_second=100.0,
        doing="waiting", parts=1 + number % 64, keeps=0, at=time.time_ns() // 1_000_000,
    )  # fmt: skip
    await _send(attacker, target, GOSSIP_PROTOCOL, seal(owner, beat))


async def _send_commit(attacker: Attacker, target: Target, owner: Identity, round: int, number: int) -> None:
    commit = Commit(
        run=target.head.run, round=round, base_state="ab" * 32, owner=owner.public,
        admission=target.admissions[PublicKey(owner.public)], blob=f"{number:064x}", size=100_000,
        pieces="cd" * 32, tokens=1000, samples=10, loss=1.0, ranges=(),
    )  # fmt: skip
    await _send(attacker, target, GOSSIP_PROTOCOL, seal(owner, commit))


async def _send(attacker: Attacker, target: Target, protocol: str, data: bytes) -> None:
    reader, writer = await attacker.daemon.open_stream(target.key, protocol)
    try:
        writer.write(len(data).to_bytes(4, "little") + data)
        await writer.drain()
        await reader.read(1)
    finally:
        writer.close()


async def open_connections(attacker: Attacker, target: Target, number: int) -> None:
    """TCP connections that say nothing."""
    opened = [await asyncio.open_connection(*target.place) for _ in range(CONNECTIONS)]
    await asyncio.sleep(10)
    for _, writer in opened:
        writer.close()


async def begin_tls(attacker: Attacker, target: Target, number: int) -> None:
    """A TLS handshake with the gRPC service that ends after the coordinator's answer."""
    context, out = ssl.create_default_context(), ssl.MemoryBIO()
    context.set_alpn_protocols(["h2"])
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="run").do_handshake()
    endpoint = target.invite.endpoints[0]
    await _ask((endpoint.host, endpoint.port), out.read(), 1)


async def begin_noise(attacker: Attacker, target: Target, number: int) -> None:
    """The same with libp2p."""
    await _ask(target.place, MULTISTREAM + b"\x00\x20" + os.urandom(32), len(MULTISTREAM) + 34)


async def _ask(place: tuple[str, int], data: bytes, answer: int) -> None:
    """Send bytes, read some, and leave the connection as it is for a while."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(data)
        await asyncio.wait_for(reader.readexactly(answer), 10)
        _held.append(writer)
        if len(_held) > CONNECTIONS:
            _held.popleft().transport.abort()
    except FAILURES:
        writer.transport.abort()


_held = deque[asyncio.StreamWriter]()


FLOODS: Mapping[str, Flood] = {
    "streams": Flood("12 strangers hold 480 streams", HOLDERS, hold_streams),
    "member-streams": Flood("12 members hold 480 streams", HOLDERS, hold_streams, members=True),
    "messages": Flood("DHT messages of 3.9 MB", SENDERS, send_large, 27),
    "searches": Flood("DHT requests for 16 entries", SENDERS, search, AT_ONCE),
    "junk": Flood("junk to gossip, mail and addresses", SENDERS, send_junk, AT_ONCE),
    "commits": Flood("a member's commits to 4,000 rounds", 1, send_commits, AT_ONCE, members=True),
    "keys": Flood(
        f"commits and heartbeats of {OWNERS} members", MANY_SENDERS, send_of_many, AT_ONCE, True, OWNERS
    ),
    "connections": Flood("1,000 silent TCP connections", 1, open_connections),
    "tls": Flood("TLS handshakes that do not end", 1, begin_tls, AT_ONCE),
    "noise": Flood("libp2p handshakes that do not end", 1, begin_noise, AT_ONCE),
}


async def run(invite: str, flood: Flood, folder: Path) -> None:
    """Attack until killed."""
    daemon.MAX_MESSAGE_BYTES = 2**22
    keys, parsed = list(map(key_number, range(flood.keys))), parse_invite(invite)
    async with connect(parsed) as api:
        head = (await api.head()).value
        members = keys if flood.members else []
        members = [*members, *(key_number(FIRST_OWNER + number) for number in range(flood.owners))]
        admissions = {PublicKey(key.public): await _admission(api, key) for key in members}
    target = Target(parsed, head, admissions)
    async with attackers(folder, head.bootstrap[:1], keys) as found:
        print("attacks", flush=True)
        acts = [(each, turn) for each in found for turn in range(flood.at_once)]
        await asyncio.gather(*(_repeat(flood, each, target, turn) for each, turn in acts))


async def _admission(api: Any, key: Identity) -> str:
    joined = await api.join(key, "a member", RunClock(), instance="0" * 16, credit=False, renew=False)
    return str(joined.admission.text)


async def _repeat(flood: Flood, attacker: Attacker, target: Target, number: int) -> None:
    while True:
        with suppress(*FAILURES):
            await flood.act(attacker, target, number)
        number += flood.at_once
        await asyncio.sleep(0.001)


def main(arguments: Sequence[str]) -> None:
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        # Attackers and their daemons have processors of their own: here the run's programs come first.
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    invite, flood, folder = arguments
    asyncio.run(run(invite, FLOODS[flood], Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
