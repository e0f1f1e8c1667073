"""A program that plays thousands of light volunteers over a few libp2p daemons.

Each sends its signed heartbeats by the gossip of `peer join`. A daemon carries many volunteers, so it alone
is reachable by its key. Records are put straight into those of this program's DHT nodes that are nearest to
the key; one in `STORED` takes the real way, because a few nodes would else ask the coordinator for what
thousands share.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from hivemind.dht.routing import DHTID
from hivemind.utils import MSGPackSerializer

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.heartbeat import heartbeat_seconds, parts_for
from barnraise.contract.invite import Invite, parse_invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Head, Presence, Record, tagged
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.network.daemon import Daemon
from barnraise.network.gossip import GOSSIP_PROTOCOL, Gossip
from barnraise.network.key_access import KeyAccess
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.peer_ids import write_identity
from barnraise.network.record_dht import RECORD_SECONDS, RecordDht
from barnraise.runtime.run_clock import RunClock
from peer.coordinator_client import connect
from scripts.benchmarks.load.identities import identity_of, read_admissions

COPIES = 5
"""Nodes that hivemind stores a record on."""
STORED = 20
"""Of this many heartbeats one is stored in the DHT by a search, as programs do."""


@dataclass
class Node:
    """One libp2p daemon with its DHT node, of the first of the volunteers that it carries."""

    daemon: Daemon
    dht: RecordDht
    gossip: Gossip


@dataclass
class Crowd:
    """The volunteers, and the nodes that carry them."""

    invite: Invite
    volunteers: int
    admissions: Path
    nodes: list[Node] = field(default_factory=list)
    head: Head | None = None
    admitted: dict[int, str] = field(default_factory=dict)
    sent: int = 0

    async def start(self, daemons: int, folder: Path, bootstrap: list[str]) -> None:
        """Start the daemons."""
        for number in range(daemons):
            home = folder / f"node-{number}"
            home.mkdir(parents=True)
            identity = identity_of(number)
            key = write_identity(identity, home)
            daemon = await Daemon.start(key, ["/ip4/127.0.0.1/tcp/0"], bootstrap, [])
            dht = await RecordDht.join(
                daemon,
                self.invite.run,
                self._keys,
                _now,
                bootstrap,
                PeerGuard(KeyAccess(self._keys)),
                lambda: None,
            )
            node = Node(daemon, dht, self._gossip(identity, daemon, dht))
            await daemon.serve(GOSSIP_PROTOCOL, node.gossip.serve)
            self.nodes.append(node)

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        beats = [asyncio.create_task(self._beat(number)) for number in range(self.volunteers)]
        while True:
            self.admitted = read_admissions(self.admissions)
            heads = await self.nodes[0].gossip.heads()
            self.head = heads[0] if heads else self.head
            print(f"{len(self.admitted)} admitted, {self.sent} heartbeats sent", flush=True)
            for task in beats:
                if task.done():
                    task.result()
            await asyncio.sleep(2)

    async def _beat(self, number: int) -> None:
        node, identity = self.nodes[number % len(self.nodes)], identity_of(number)
        gossip = node.gossip if number < len(self.nodes) else self._gossip(identity, node.daemon, node.dht)
        beat = heartbeat_seconds(self.volunteers)
        await asyncio.sleep(beat * random.Random(number).random())
        while True:
            if number in self.admitted and self.head is not None:
                self.sent += 1
                await gossip.publish(self._presence(identity, self.admitted[number], self.head, beat))
            await asyncio.sleep(beat)

    def _presence(self, identity: Identity, admission: str, head: Head, beat: float) -> Presence:
        return Presence(
            run=self.invite.run, owner=identity.public, instance="0" * 16,
            admission=admission, name="volunteer",
            round=head.round, state=head.state or "0" * 64, tokens=1000, tokens_per_second=100.0,
            doing="training", parts=parts_for(self.volunteers), keeps=0, at=_now(),
        )  # fmt: skip

    @property
    def _keys(self) -> KeysInForce:
        return KeysInForce.alone(self.invite.key)

    def _gossip(self, identity: Identity, daemon: Daemon, dht: RecordDht) -> Gossip:
        async def store(signed: Signed[Record]) -> bool:
            if random.randrange(STORED) == 0:
                return await dht.store(signed)
            return self._place(signed)

        return Gossip(
            identity, self.invite.run, self._keys, _now,
            store=store, look_up=dht.look_up, open_stream=daemon.open_stream,
            guard=PeerGuard(KeyAccess(self._keys)), random=random.Random(),
        )  # fmt: skip

    def _place(self, signed: Signed[Record]) -> bool:
        """Put a record where a search would have put it."""
        place = dht_key_of(signed.value)
        key = DHTID.generate(source=place.key)
        nodes = sorted(
            (node.dht._node for node in self.nodes), key=lambda node: key.xor_distance(node.node_id)
        )
        for node in nodes[:COPIES]:
            node.protocol.storage.store(
                key, MSGPackSerializer.dumps(tagged(signed)), time.time() + RECORD_SECONDS,
                subkey=MSGPackSerializer.dumps(place.subkey),
            )  # fmt: skip
        return True


async def _main(invite: Invite, volunteers: int, daemons: int, admissions: Path, folder: Path) -> None:
    crowd = Crowd(invite, volunteers, admissions)
    async with connect(invite) as api:
        joined = await api.join(identity_of(0), "volunteer-0", RunClock(), instance="0" * 16, credit=True)
    await crowd.start(min(daemons, volunteers), folder, list(joined.head.bootstrap))
    await crowd.run()


def _now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


if __name__ == "__main__":
    given, count, number_of_daemons, admitted, work = sys.argv[1:]
    asyncio.run(_main(parse_invite(given), int(count), int(number_of_daemons), Path(admitted), Path(work)))
