"""Gossip between nodes that share a fake DHT and streams in memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.heartbeat import parts_for
from barnraise.contract.protocol import CoordinatorDoesNotFit
from barnraise.contract.records import MAX_RECORD_BYTES, Commit, Head, Presence, Record, seal
from barnraise.contract.rotation import turns_for
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.network.gossip import GOSSIP_PROTOCOL, TRIES, Gossip
from barnraise.network.gossip_policy import FAN_OUT
from barnraise.network.timing import Timing
from tests.support import parts
from tests.support.transfers import stream_pair

CROWD = [Identity.from_seed(n.to_bytes(32, "big")) for n in range(100, 100 + 3 * FAN_OUT)]
DEADLINE_SECONDS = 30


@dataclass
class FakeSwarm:
    """The nodes, their DHT and their streams."""

    now: int = parts.NOW
    stored: dict[str, dict[str, Signed[Record]]] = field(default_factory=dict)
    """The DHT: by key, the records by owner."""
    polls: list[str] = field(default_factory=list)
    nodes: dict[PublicKey, Gossip] = field(default_factory=dict)
    streams: list[tuple[str, str]] = field(default_factory=list)
    """The sender and the receiver of each stream that was opened."""
    failures: int = 0
    """Streams that fail first."""
    failure: type[Exception] = ConnectionError
    unreachable: set[str] = field(default_factory=set)
    """Peers that cannot be reached."""
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def node(self, who: Identity) -> Gossip:
        async def store(signed: Signed[Record]) -> bool:
            place = dht_key_of(signed.value)
            self.stored.setdefault(place.key, {})[place.subkey or ""] = signed
            return True

        async def look_up(key: str, newest: bool) -> list[Signed[Record]]:
            self.polls.append(key)
            return list(self.stored.get(key, {}).values())

        async def open_stream(
            peer: PublicKey, protocol: str
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            assert protocol == GOSSIP_PROTOCOL
            self.streams.append((who.public, peer))
            self.failures -= 1
            if self.failures >= 0 or peer in self.unreachable or peer not in self.nodes:
                raise self.failure("no way there")
            ours, (reader, writer) = await stream_pair()
            self._serve(self.nodes[peer].serve(who.public, reader, writer))
            return ours

        made = Gossip(
            who,
            parts.RUN,
            parts.keys(),
            lambda: Millis(self.now),
            store=store,
            look_up=look_up,
            open_stream=open_stream,
            guard=parts.guard(),
            random=random.Random(who.public),
            elapsed=lambda: Millis(self.now),
            timing=Timing(gossip_retry=0.0),
        )
        self.nodes[PublicKey(who.public)] = made
        return made

    async def settle(self) -> None:
        """Wait until no record is in flight."""
        while busy := [*self._serving, *(task for node in self.nodes.values() for task in node._sending)]:
            await asyncio.wait(busy)
            await asyncio.sleep(0)

    def _serve(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)


def play(scene: Callable[[FakeSwarm], Awaitable[None]]) -> None:
    async def go() -> None:
        swarm = FakeSwarm()
        await asyncio.wait_for(scene(swarm), DEADLINE_SECONDS)
        for node in swarm.nodes.values():
            await node.close()

    asyncio.run(go())


def head(round: int, **other: object) -> Head:
    return parts.head(round=round, **other)


def presence(of: Identity, **other: object) -> Presence:
    return parts.presence(of, admission=admitted(of), **other)


def commit(of: Identity, round: int = 1) -> Commit:
    return parts.commit(of, round=round, admission=admitted(of))


def admitted(who: Identity) -> str:
    return parts.admission(who, expires=parts.NOW + 10**9)


async def acquainted(swarm: FakeSwarm, *crowd: Identity) -> Gossip:
    """The coordinator's node, after all nodes have published a heartbeat and polled the volunteers."""
    coordinator = swarm.node(parts.AUTHORITY)
    await coordinator.publish(head(1, volunteers=len(crowd)))
    for who in crowd:
        node = swarm.node(who)
        await node.heads()
        await node.publish(presence(who))
    await swarm.settle()
    for who in crowd:
        await swarm.nodes[PublicKey(who.public)].peers()
    swarm.streams.clear()
    swarm.polls.clear()
    return coordinator


# Sending


def test_the_coordinator_receives_a_heartbeat_at_once() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator, ada = swarm.node(parts.AUTHORITY), swarm.node(parts.ADA)
        assert await coordinator.peers() == []
        assert await ada.publish(presence(parts.ADA))
        await swarm.settle()
        assert await coordinator.peers() == [presence(parts.ADA)]
        assert len(swarm.polls) == 1, "no second poll was needed"

    play(scene)


@pytest.mark.parametrize(("failures", "received"), [(TRIES - 1, True), (TRIES, False)])
def test_a_record_that_the_coordinator_missed_is_sent_again(failures: int, received: bool) -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator, ada = swarm.node(parts.AUTHORITY), swarm.node(parts.ADA)
        swarm.failures = failures
        assert await ada.publish(presence(parts.ADA))
        await swarm.settle()
        assert len(swarm.streams) == TRIES
        assert [*coordinator._cache.present(parts.NOW)] == [presence(parts.ADA)] * received

    play(scene)


def test_a_silent_coordinator_holds_a_place_for_sending_once() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        swarm.node(parts.AUTHORITY)
        swarm.failures, swarm.failure = 1, asyncio.TimeoutError
        await swarm.node(parts.ADA).publish(presence(parts.ADA))
        await swarm.settle()
        assert len(swarm.streams) == 1

    play(scene)


def test_a_record_that_a_volunteer_missed_is_sent_once() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        await acquainted(swarm, parts.ADA, parts.BEN)
        swarm.unreachable.add(parts.BEN.public)
        await swarm.nodes[PublicKey(parts.ADA.public)].publish(commit(parts.ADA))
        await swarm.settle()
        assert swarm.streams.count((parts.ADA.public, parts.BEN.public)) == 1

    play(scene)


def test_a_head_is_forwarded() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator = await acquainted(swarm, *CROWD)
        await coordinator.publish(head(2, at=parts.NOW + 1))
        await swarm.settle()
        received = [(await swarm.nodes[PublicKey(who.public)].heads())[0].round for who in CROWD]
        assert swarm.polls == []
        assert received.count(2) >= len(CROWD) - 1, "e^-5 of them may miss it"
        each = {who: sum(1 for sender, _ in swarm.streams if sender == who) for who, _ in swarm.streams}
        assert set(each.values()) == {FAN_OUT}, "each node forwards it to a few, once"

    play(scene)


def test_a_commit_reaches_the_coordinator_and_the_others() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator = await acquainted(swarm, parts.ADA, parts.BEN, CROWD[0])
        ada, ben = (swarm.nodes[PublicKey(who.public)] for who in (parts.ADA, parts.BEN))
        await ada.publish(commit(parts.ADA))
        await swarm.settle()
        for node in (coordinator, ada, ben):
            (found,) = await node.commits(Round(1))
            assert (found.value, found.signer) == (commit(parts.ADA), parts.ADA.public)
        swarm.streams.clear()
        await ada.publish(commit(parts.ADA))
        await swarm.settle()
        assert swarm.streams == [(parts.ADA.public, parts.AUTHORITY.public)], (
            "announced again to the coordinator alone"
        )

    play(scene)


def test_an_unreachable_node_polls_the_record_later() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator = await acquainted(swarm, parts.ADA, parts.BEN)
        ada = swarm.nodes[PublicKey(parts.ADA.public)]
        swarm.unreachable |= {parts.ADA.public, parts.AUTHORITY.public}
        assert await coordinator.publish(head(2, at=parts.NOW + 1))
        await ada.publish(commit(parts.ADA, round=2))
        await swarm.settle()
        assert [found.round for found in await ada.heads()] == [1]
        assert await coordinator.commits(Round(2)) == [
            swarm.stored[f"{parts.RUN}/commits/2"][parts.ADA.public]
        ]
        swarm.now += 7000
        await ada.heads()
        await asyncio.sleep(0)
        assert [found.round for found in await ada.heads()] == [2]

    play(scene)


def test_a_record_sent_by_a_leaving_node_arrives() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator, ada = swarm.node(parts.AUTHORITY), swarm.node(parts.ADA)
        await coordinator.peers()
        await ada.publish(presence(parts.ADA, doing="leaving"))
        await ada.close()
        assert [there.doing for there in await coordinator.peers()] == ["leaving"]

    play(scene)


# Polling


@pytest.mark.parametrize(
    ("volunteers", "least", "most"), [(2, (20, 20, 20), (32, 32, 32)), (1000, (3, 10, 0), (6, 20, 0))]
)
def test_polls_are_rarer_in_larger_swarms(
    volunteers: int, least: tuple[int, ...], most: tuple[int, ...]
) -> None:
    """Polls in two minutes of the head, of lists of volunteers, and of a round's commits."""

    async def scene(swarm: FakeSwarm) -> None:
        turns = turns_for(volunteers, limit=32)
        await swarm.node(parts.AUTHORITY).publish(head(1, volunteers=volunteers, turns=turns))
        ada = swarm.node(parts.ADA)
        for _ in range(480):  # as a volunteer does
            await ada.heads()
            await ada.peers()
            await ada.commits(Round(1))
            await asyncio.sleep(0)
            swarm.now += 250
        kinds = [key.split("/")[1] for key in swarm.polls]
        for kind, lower, upper in zip(("head", "peers", "commits"), least, most, strict=True):
            assert lower <= kinds.count(kind) <= upper, kind
        lists = {key for key in swarm.polls if "/peers/" in key}
        assert len(lists) > 5 or volunteers == 2, "a volunteer reads many lists over time"

    play(scene)


def test_a_restarted_coordinator_polls_every_list_of_volunteers() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        assert parts_for(50) == 4
        await swarm.node(parts.AUTHORITY).publish(head(1, volunteers=50))
        for who in CROWD:
            await swarm.node(who).publish(presence(who, parts=4))
        await swarm.settle()
        again = swarm.node(parts.AUTHORITY)
        assert [found.volunteers for found in await again.heads()] == [50]
        assert {p.owner for p in await again.peers()} == {who.public for who in CROWD}
        assert len({key for key in swarm.polls if "/peers/4/" in key}) == 4

    play(scene)


# Hostile streams


@pytest.mark.parametrize(
    "sent",
    [
        (2**32 - 1).to_bytes(4, "little"),
        (MAX_RECORD_BYTES + 1).to_bytes(4, "little") + bytes(MAX_RECORD_BYTES + 1),
        (4).to_bytes(4, "little") + b"junk",
        (0).to_bytes(4, "little"),
        (100).to_bytes(4, "little") + b"less than that",
        b"\x01",
        b"",
    ],
)
def test_malformed_records_are_not_received(sent: bytes) -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator = swarm.node(parts.AUTHORITY)
        (reader, writer), served = await stream_pair()
        serving = asyncio.create_task(coordinator.serve(parts.STRANGER.public, *served))
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        await serving
        writer.close()
        assert await coordinator.peers() == []

    play(scene)


def test_a_forged_record_is_neither_kept_nor_forwarded() -> None:
    async def scene(swarm: FakeSwarm) -> None:
        coordinator = await acquainted(swarm, parts.ADA, parts.BEN)
        forged = presence(parts.STRANGER).model_copy(
            update={"admission": parts.admission(parts.STRANGER, by=parts.STRANGER)}
        )
        for value in [seal(parts.STRANGER, forged), seal(parts.ADA, head(9, at=parts.NOW + 9))]:
            (reader, writer), served = await stream_pair()
            serving = asyncio.create_task(coordinator.serve(parts.STRANGER.public, *served))
            writer.write(len(value).to_bytes(4, "little") + value)
            assert await reader.read() == b""
            await serving
            writer.close()
        assert {p.owner for p in await coordinator.peers()} == {parts.ADA.public, parts.BEN.public}
        assert [found.round for found in await coordinator.heads()] == [1]
        assert swarm.streams == []

    play(scene)


def test_silent_streams_do_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barnraise.network.stream_limits.MAX_STREAMS", 2)

    async def scene(swarm: FakeSwarm) -> None:
        coordinator, ada = swarm.node(parts.AUTHORITY), swarm.node(parts.ADA)
        silent = [await stream_pair() for _ in range(3)]
        serving = [
            asyncio.create_task(coordinator.serve(CROWD[number].public, *served))
            for number, (_, served) in enumerate(silent)
        ]
        await asyncio.sleep(0)
        await coordinator.peers()
        await ada.publish(presence(parts.ADA))
        await swarm.settle()
        assert [there.owner for there in await coordinator.peers()] == [parts.ADA.public]
        for (_, writer), _ in silent:
            writer.close()
        await asyncio.wait(serving)

    play(scene)


# Versions


def newer_head(at: int) -> bytes:
    """The head of a coordinator that this version does not fit to."""
    known = json.loads(head(1).model_dump_json())
    newer = {"protocol": {"speaks": 9, "works_with": 9, "release": "9.0"}, "at": at}
    text = json.dumps(known | newer, separators=(",", ":")).encode()
    signature = parts.AUTHORITY.sign(Head.DOMAIN + text)
    return b"H" + bytes.fromhex(parts.AUTHORITY.public) + signature + text


@pytest.mark.parametrize(("age", "known", "raises"), [(0, 2000, True), (0, -1, False), (600_000, 0, False)])
def test_the_head_of_a_coordinator_that_does_not_fit_is_an_error_unless_it_is_old(
    age: int, known: int, raises: bool
) -> None:
    async def scene(swarm: FakeSwarm) -> None:
        node = swarm.node(parts.ADA)
        swarm.node(parts.AUTHORITY)
        if known:
            node._receive(sign(parts.AUTHORITY, head(1, at=parts.NOW - known)))
        value = newer_head(parts.NOW - age)
        (_, writer), theirs = await stream_pair()
        writer.write(len(value).to_bytes(4, "little") + value)
        await node.serve(parts.STRANGER.public, *theirs)
        if raises:
            with pytest.raises(CoordinatorDoesNotFit):
                await node.heads()
        else:
            await node.heads()
        writer.close()

    play(scene)
