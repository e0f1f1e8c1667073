"""What programs do that keep none of our rules: `-m scripts.benchmarks.floods.attacks INVITE FLOOD FOLDER`.

Strangers have no admission. Members have one, as anybody has in an open run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hivemind.dht.routing import DHTID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto import dht_pb2

from barnraise.contract.invite import parse_invite
from barnraise.contract.records import Commit, Head, seal
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
FAILURES = (P2PHandlerError, P2PDaemonError, OSError, EOFError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Target:
    """The coordinator's node, and what is known of the run."""

    key: PublicKey
    head: Head
    admissions: Mapping[PublicKey, str]
    """Of members."""


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
    key = attacker.identity
    commit = Commit(
        run=target.head.run, round=number % 4000, base_state="ab" * 32, owner=key.public,
        admission=target.admissions[PublicKey(key.public)], blob=f"{number:064x}", size=100_000,
        pieces="cd" * 32, tokens=1000, samples=10, loss=1.0, ranges=(),
    )  # fmt: skip
    await _send(attacker, target, GOSSIP_PROTOCOL, seal(key, commit))


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
    place = next(text for text in target.head.bootstrap if "/tcp/" in text).split("/")
    opened = [await asyncio.open_connection(place[2], int(place[4])) for _ in range(CONNECTIONS)]
    await asyncio.sleep(10)
    for _, writer in opened:
        writer.close()


FLOODS: Mapping[str, Flood] = {
    "streams": Flood("12 strangers hold 480 streams", HOLDERS, hold_streams),
    "member-streams": Flood("12 members hold 480 streams", HOLDERS, hold_streams, members=True),
    "messages": Flood("DHT messages of 3.9 MB", SENDERS, send_large, 27),
    "searches": Flood("DHT requests for 16 entries", SENDERS, search, AT_ONCE),
    "junk": Flood("junk to gossip, mail and addresses", SENDERS, send_junk, AT_ONCE),
    "commits": Flood("a member's commits to 4,000 rounds", 1, send_commits, AT_ONCE, members=True),
    "connections": Flood("1,000 silent TCP connections", 1, open_connections),
}


async def run(invite: str, flood: Flood, folder: Path) -> None:
    """Attack until killed."""
    daemon.MAX_MESSAGE_BYTES = 2**22
    keys, parsed = list(map(key_number, range(flood.keys))), parse_invite(invite)
    async with connect(parsed) as api:
        head = (await api.head()).value
        members = keys if flood.members else []
        admissions = {PublicKey(key.public): await _admission(api, key) for key in members}
    target = Target(PublicKey(parsed.key), head, admissions)
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
    invite, flood, folder = arguments
    asyncio.run(run(invite, FLOODS[flood], Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
