"""The run's records, by word of mouth and now and then from the DHT. No libp2p in here.

Decisions are `barnraise.network.gossip_policy`'s. Questions are answered from what was received; the DHT is
polled as rarely as a large swarm requires.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from barnraise.contract.heartbeat import parts_for
from barnraise.contract.records import (
    MAX_RECORD_BYTES,
    Commit,
    Head,
    Presence,
    Record,
    commits_key,
    head_key,
    open_record,
    peers_key,
    tagged,
)
from barnraise.contract.rounds import seconds_between
from barnraise.core.errors import MalformedRecord, TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round, RunId, short
from barnraise.core.signed import Signed, sign
from barnraise.network.blobs.connection_limits import ConnectionLimits
from barnraise.network.blobs.transfer import Open
from barnraise.network.blobs.whole_protocol import until_stalled
from barnraise.network.gossip_policy import RecordCache, forward_targets, poll_interval

log = logging.getLogger("barnraise.swarm")

GOSSIP_PROTOCOL = "barnraise/tell/1"
"""The protocol, as streams are opened by: four bytes of length, a record, and one byte back when it came."""
_LENGTH = 4
_CAME = b"\x01"
MAX_SENDS = 16
"""Nodes that are being told at once."""
LAST_WORDS_SECONDS = 2.0
"""How long a node that leaves waits for what it is telling."""

FORGOTTEN_SECONDS = 600.0
"""After so long a look that was not repeated is forgotten: rounds go by, and each has a key of its own."""

Lookup = Callable[[str, bool], Awaitable[list[Signed[Record]]]]
"""The DHT's entry at a key: its records, each checked. The newest that any of the nodes has that keep the
entry, or, if false, what the first of them says."""
Store = Callable[[Signed[Record]], Awaitable[bool]]
"""Stores a record in the DHT; False when no node took it."""


@dataclass
class _Poll:
    after: Millis
    """When to look again."""
    under_way: asyncio.Task[None] | None = None


class Gossip:
    """What one node hears and tells."""

    def __init__(
        self,
        identity: Identity,
        run: RunId,
        authority: PublicKey,
        clock: Callable[[], Millis],
        *,
        store: Store,
        look_up: Lookup,
        open_stream: Open,
        random: Random,
    ) -> None:
        self._identity, self._run, self._authority, self._clock = identity, run, authority, clock
        self._store, self._look_up, self._open_stream, self._random = store, look_up, open_stream, random
        self._cache = RecordCache()
        self._polls: dict[str, _Poll] = {}
        self._limits = ConnectionLimits()
        self._gate = asyncio.Semaphore(MAX_SENDS)
        self._sending: set[asyncio.Task[None]] = set()

    async def publish(self, record: Record) -> bool:
        """Sign a record, tell it, and store it in the DHT. False when no node took it."""
        signed: Signed[Record] = sign(self._identity, record)
        self._receive(signed)
        return await self._store(signed)

    async def heads(self) -> list[Head]:
        """The newest head, if any was heard."""
        await self._poll(head_key(self._run), readers=self._volunteers, records=1)
        return [] if self._cache.head is None else [self._cache.head]

    async def peers(self) -> list[Presence]:
        """The heartbeats of those who are there now; a volunteer's of some of them where there are many."""
        parts = parts_for(self._volunteers)
        keys = [peers_key(self._run, parts, part) for part in range(parts)]
        if self._is_coordinator:
            for key in keys:
                await self._poll(key, readers=1, records=self._volunteers)
        else:
            together = -(-self._volunteers // parts)
            await self._poll(
                self._random.choice(keys), readers=together, records=together, newest=False, counts_as="peers"
            )
        return self._cache.present(self._clock())

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        """The newest commit of each volunteer to a round, as far as it was heard."""
        key, expected = commits_key(self._run, round), self._contributions
        if self._is_coordinator:
            await self._poll(key, readers=1, records=expected)
        elif key in self._polls:
            await self._poll(key, readers=self._volunteers, records=expected, newest=False)
        else:  # all come here when a round ends, and most hear of its commits by themselves
            self._polls[key] = _Poll(self._in(poll_interval(self._volunteers, expected)))
        return self._cache.commits(round)

    async def serve(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear what somebody tells us."""
        try:
            with self._limits.admitted(peer, writer) as stream:
                if stream is not None:
                    self._limits.set_idle(stream, True)  # who says nothing makes room for who does
                    self._receive(await self._read(reader))
                    writer.write(_CAME)
                    await until_stalled(writer.drain())
        except TrustError as error:
            log.debug("%s told us %s", peer, error.problem)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("%s did not finish to tell: %s", peer, error)
        finally:
            writer.close()

    async def close(self) -> None:
        """Finish telling, for a little while, and end."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=LAST_WORDS_SECONDS)
        for task in [*self._sending, *(look.under_way for look in self._polls.values() if look.under_way)]:
            task.cancel()

    # What is heard, and passed on.

    @property
    def _is_coordinator(self) -> bool:
        return self._identity.public == self._authority

    @property
    def _volunteers(self) -> int:
        """How many there are, as the coordinator told last."""
        return 0 if self._cache.head is None else self._cache.head.volunteers

    @property
    def _contributions(self) -> int:
        """How many a round is to have, about."""
        return 0 if self._cache.head is None else -(-self._cache.head.volunteers // self._cache.head.turns)

    async def _read(self, reader: asyncio.StreamReader) -> Signed[Record]:
        size = int.from_bytes(await until_stalled(reader.readexactly(_LENGTH)), "little")
        if size > MAX_RECORD_BYTES:
            raise MalformedRecord(f"a record of {size} bytes", fix="It is not read.")
        value = await until_stalled(reader.readexactly(size))
        return open_record(value, run=self._run, authority=self._authority, now=self._clock())

    def _receive(self, signed: Signed[Record]) -> None:
        """Take a record in, and tell it to whom it is to be told."""
        targets = forward_targets(
            signed.value,
            self._cache.receive(signed),
            own=self._identity.public,
            authority=self._authority,
            present=self._cache.present(self._clock()),
            draw=self._random.sample,
        )
        for peer in targets:
            task = asyncio.create_task(self._send_to(peer, tagged(signed)))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_to(self, peer: PublicKey, value: bytes) -> None:
        """One try: who misses it hears it from another, or reads it in the DHT."""
        async with self._gate:
            try:
                reader, writer = await until_stalled(self._open_stream(peer, GOSSIP_PROTOCOL))
                try:
                    writer.write(len(value).to_bytes(_LENGTH, "little") + value)
                    await until_stalled(writer.drain())
                    await until_stalled(reader.readexactly(len(_CAME)))
                finally:
                    writer.close()
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                log.debug("could not tell %s: %s %s", short(peer), type(error).__name__, error)

    # What is looked up.

    async def _poll(
        self, key: str, *, readers: int, records: int, newest: bool = True, counts_as: str = ""
    ) -> None:
        """Look at the DHT where it is time to: the first time until it is done, later beside the caller.

        counts_as: what is looked at there, where that may be at another key each time.
        """
        what, now = counts_as or key, self._clock()
        look = self._polls.get(what)
        if look is not None and look.under_way is not None and look.under_way.done():
            look.under_way.result()
            look.under_way = None
        if look is not None and (look.under_way is not None or now < look.after):
            return
        self._polls = {
            old: each
            for old, each in self._polls.items()
            if seconds_between(each.after, now) < FORGOTTEN_SECONDS
        }
        task = asyncio.create_task(self._take(key, newest))
        self._polls[what] = _Poll(self._in(poll_interval(readers, records)), task)
        if look is None:
            await asyncio.shield(task)

    def _in(self, seconds: float) -> Millis:
        """When about so long is over: not all are to look at once."""
        return Millis(self._clock() + round(1000 * seconds * self._random.uniform(0.75, 1.25)))

    async def _take(self, key: str, newest: bool) -> None:
        for signed in await self._look_up(key, newest):
            self._cache.receive(signed)
