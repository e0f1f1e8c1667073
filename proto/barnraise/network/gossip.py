"""The run's records, by gossip and, at intervals, from the DHT. No libp2p in here.

`gossip_policy` decides. Queries are answered from what was received; the DHT is polled as rarely as a large
swarm requires.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from barnraise.contract.dht_keys import closer_heads_key, commits_key, head_key, peers_key
from barnraise.contract.head_proof import is_by_closer, is_from_the_future, is_proved
from barnraise.contract.heartbeat import parts_for
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.protocol import CoordinatorDoesNotFit
from barnraise.contract.records import MAX_RECORD_BYTES, Commit, Head, Presence, Record, open_record, tagged
from barnraise.contract.rounds import seconds_between
from barnraise.core.errors import TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round, RunId, short
from barnraise.core.signed import Signed, sign
from barnraise.network.dht_poller import DhtPoller, Lookup
from barnraise.network.gossip_policy import (
    Novelty,
    RecordCache,
    forward_targets,
)
from barnraise.network.key_access import Access
from barnraise.network.message_streams import acknowledge, read_message, send_message
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import StreamLimits, message_rates
from barnraise.network.streams import OpenStream
from barnraise.network.timing import TIMING, Timing
from barnraise.runtime.machine_clocks import elapsed_ms
from barnraise.runtime.peer_faults import BY_DATA

log = logging.getLogger("barnraise.swarm")

GOSSIP_PROTOCOL = "barnraise/tell/1"
"""Name of the libp2p protocol: four bytes of length, a record, and one byte back on receipt."""
HEAD_SECONDS = 60.0
"""A head from longer ago than this says nothing about the coordinator's version: it may be a replay."""
TRIES = 3
"""Of sending a record to the coordinator or a closer."""
MAX_SENDS = 16
"""Records that are being sent at once to all nodes with one access: those of a lower one may be slow on
purpose, and a heartbeat has to reach the coordinator meanwhile."""
MAX_QUEUED = 1024
"""Records that wait for that too. Half of these places are left to records of trusted keys, the run's and our
own. Who misses one finds it in the DHT."""

Store = Callable[[Signed[Record]], Awaitable[bool]]
"""Stores a record in the DHT; False when no node took it."""


class Gossip:
    """Sends, receives and forwards records for one node, and answers queries about them."""

    def __init__(
        self,
        identity: Identity,
        run: RunId,
        keys: KeysInForce,
        clock: Callable[[], Millis],
        *,
        store: Store,
        look_up: Lookup,
        open_stream: OpenStream,
        guard: PeerGuard,
        random: Random,
        timing: Timing = TIMING,
        elapsed: Callable[[], Millis] = elapsed_ms,
        counts: bool = False,
        cache: RecordCache | None = None,
    ) -> None:
        """clock: the run's. elapsed: measures the time between polls. keys, counts: as of `Swarm.start`.

        cache: what is known already.
        """
        self._keys, self._counts = keys, counts
        self._identity, self._run, self._clock = identity, run, clock
        self._store, self._open_stream = store, open_stream
        self._random, self._timing = random, timing
        self._cache = (
            RecordCache.of_node(counts=self._is_coordinator, trusts=keys.trusts) if cache is None else cache
        )
        self._poller = DhtPoller(look_up, self._keep, elapsed, random, timing)
        self._guard, self._limits = guard, StreamLimits(guard, message_rates())
        self._slots = {access: asyncio.Semaphore(MAX_SENDS) for access in Access}
        self._queued = Counter[Access]()
        self._sending: set[asyncio.Task[None]] = set()
        self._misfit: CoordinatorDoesNotFit | None = None

    async def publish(self, record: Record) -> bool:
        """Sign a record, send it, and store it in the DHT. False when no DHT node took it."""
        signed: Signed[Record] = sign(self._identity, record)
        self._receive(signed)
        return await self._store(signed)

    async def heads(self) -> list[Head]:
        """The newest head, if one was received.

        Raises CoordinatorDoesNotFit after a newer one by a coordinator of another protocol.
        """
        if self._misfit is not None:
            raise self._misfit
        await self._poller.poll(head_key(self._run), readers=self._cache.volunteers, records=1)
        closers = len(self._keys.closers)
        if closers:
            key, records = closer_heads_key(self._run), closers
            await self._poller.poll(key, readers=self._cache.volunteers, records=records)
        return [] if self._cache.head is None else [self._cache.head]

    async def peers(self) -> list[Presence]:
        """The heartbeats that have not expired: all to the coordinator, some to a volunteer of a large swarm.

        Those of trusted keys are first, as anybody says what it holds; among equals another one each time.
        """
        volunteers = self._cache.volunteers
        parts = parts_for(volunteers)
        keys = [peers_key(self._run, parts, part) for part in range(parts)]
        if self._is_coordinator:
            for key in keys:
                await self._poller.poll(key, readers=1, records=volunteers)
        else:
            listed = -(-volunteers // parts)
            key = self._random.choice(keys)
            await self._poller.poll(key, readers=listed, records=listed, newest=False, name="peers")
        present = [each for each in self._cache.present(self._clock()) if not self._is_banned(each)]
        self._random.shuffle(present)
        return sorted(present, key=lambda each: not self._keys.trusts(PublicKey(each.owner)))

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        """The newest commit of each volunteer to a round, as far as they were received."""
        key, expected = commits_key(self._run, round), self._cache.expected_commits
        if self._is_coordinator:
            await self._poller.poll(key, readers=1, records=expected)
        else:  # all volunteers ask when a round ends, and most receive its commits by gossip
            await self._poller.poll_later(key, readers=self._cache.volunteers, records=expected)
        return [signed for signed in self._cache.commits(round) if not self._is_banned(signed.value)]

    def _is_banned(self, record: Presence | Commit) -> bool:
        """It was received before the log banned its owner."""
        return self._keys.bans(PublicKey(record.owner))

    async def serve(
        self, peer: PublicKey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Receive a record from a peer's stream."""
        try:
            with self._limits.admitted(peer, writer) as stream:
                if stream is not None:
                    stream.set_idle(True)  # evict silent gossip streams first
                    self._receive(await self._read(reader))
                    await acknowledge(reader, writer, self._timing)
        except TrustError as error:
            log.debug("%s sent %s", peer, error.problem)
        except CoordinatorDoesNotFit as error:
            self._note_misfit(error)
        except BY_DATA as error:
            log.error(
                "%s sent a record on which this program fails: please report this", peer, exc_info=error
            )
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("a gossip stream of %s ended early: %s", peer, error)
        finally:
            self._limits.end(writer)

    def learn(self, head: Signed[Head]) -> None:
        """Keep and forward a head that was found another way, and checked."""
        self._receive(Signed(head.value, head.signer, head.wire))

    def measures_clock(self, head: Head) -> bool:
        """Whether the run's time is what a head that was received says: a closer's may be off by some seconds
        each time, and would lead a clock away step by step.
        """
        known = self._cache.signed_head
        if known is None or known.value != head:
            return False
        return not is_by_closer(known.signer, self._keys.position, self._keys.first)

    @property
    def signed_head(self) -> Signed[Head] | None:
        """The newest head that was received."""
        return self._cache.signed_head

    async def close(self) -> None:
        """Wait briefly for the records that are being sent, and end."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._timing.gossip_flush)
        for task in self._sending:
            task.cancel()
        self._poller.close()

    @property
    def _is_coordinator(self) -> bool:
        """Or a closer or follower, which counts the volunteers as well."""
        return self._counts or self._identity.public in self._keys.signers

    def _note_misfit(self, error: CoordinatorDoesNotFit) -> None:
        """An old head proves nothing: the coordinator may have been updated since."""
        known = self._cache.head
        recent = seconds_between(error.at, self._clock()) < HEAD_SECONDS
        if recent and (known is None or error.at > known.at):
            self._misfit = error

    async def _read(self, reader: asyncio.StreamReader) -> Signed[Record]:
        value = await read_message(reader, MAX_RECORD_BYTES, "a record", self._timing)
        return open_record(value, run=self._run, signers=self._keys.signers, now=self._clock())

    def _receive(self, signed: Signed[Record]) -> None:
        """Keep a record, and forward it where the policy says."""
        targets = forward_targets(
            signed.value,
            self._keep(signed),
            own=self._identity.public,
            counting=self._keys.counting,
            present=self._cache.live(self._clock()),
            draw=self._random.sample,
            signer=signed.signer,
            contributing=self._cache.contributing,
            trusts=self._keys.trusts,
        )
        places = MAX_QUEUED if self._comes_first(signed.signer) else MAX_QUEUED // 2
        for peer in targets:
            access = self._guard.access(peer)
            if self._queued[access] < places:
                self._queued[access] += 1
                task = asyncio.create_task(self._send_to(peer, access, tagged(signed)))
                self._sending.add(task)
                task.add_done_callback(functools.partial(self._ended, access))

    def _ended(self, access: Access, task: asyncio.Task[None]) -> None:
        self._queued[access] -= 1
        self._sending.discard(task)

    def _comes_first(self, signer: PublicKey) -> bool:
        return signer == self._identity.public or self._guard.access(signer) >= Access.TRUSTED

    def _keep(self, signed: Signed[Record]) -> Novelty:
        if not isinstance(signed.value, Head):
            self._guard.admit(signed.signer)
        now, head = self._clock(), signed.value
        if not isinstance(head, Head):
            return self._cache.receive(signed, now)
        position, first = self._keys.position, self._keys.first
        if is_from_the_future(head, signed.signer, position, first, now):
            return Novelty.STALE
        return self._cache.receive(signed, now, is_proved=is_proved(head, signed.signer, position, first))

    async def _send_to(self, peer: PublicKey, access: Access, value: bytes) -> None:
        """A volunteer that misses it receives it from another, or finds it in the DHT. The coordinator would
        miss a commit until that is repeated, with its owner's next heartbeat.
        """
        for left in range(TRIES if peer in self._keys.counting else 1)[::-1]:
            if not await self._is_refused(peer, access, value) or not left:
                return
            await asyncio.sleep(self._timing.gossip_retry)

    async def _is_refused(self, peer: PublicKey, access: Access, value: bytes) -> bool:
        """Send a record once. Whether that failed, and not by silence: each try of a node that is away would
        hold a place of MAX_SENDS for many seconds.
        """
        async with self._slots[access]:
            try:
                await send_message(peer, GOSSIP_PROTOCOL, value, self._open_stream, self._timing)
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                log.debug("could not send to %s: %s %s", short(peer), type(error).__name__, error)
                return not isinstance(error, asyncio.TimeoutError)
        return False
