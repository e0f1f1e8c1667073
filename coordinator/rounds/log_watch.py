"""Compares the logs that volunteers hold with the run store's, before the first close and after it.

The journal of an old copy of the folder, or one that was cut short, looks complete: volunteers hold the rest.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass, field
from random import Random

from barnraise.contract.certificates import Authorities, Vote
from barnraise.contract.double_signing import Certified
from barnraise.contract.log_entries import MAX_ENTRY_BYTES, parse_entry, vote_on
from barnraise.contract.records import Presence
from barnraise.core.errors import NetworkError, StateError, TrustError
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.core.recent import Recent
from barnraise.network.proof_search import ProofSearch
from barnraise.network.swarm import Swarm
from barnraise.runtime.peer_faults import PeerFaults
from coordinator.recovery.continuation import continues
from coordinator.recovery.holders import certified_end, is_proved
from coordinator.rounds.membership import Membership
from coordinator.rounds.proofs import keep_double_signed
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")

AT_ONCE = 4
"""Volunteers that are asked in parallel."""
REMEMBERED = 4096
"""Names that were compared, and volunteers that named something else."""


class LogIsBehind(StateError):
    """A volunteer holds a certified entry that the journal does not have."""

    def __init__(self, certified: Certified, holder: PublicKey) -> None:
        vote, self.certified, self.holder = certified.vote, certified, holder
        super().__init__(
            f"a volunteer holds the {vote.kind} of round {vote.round} (epoch {vote.epoch}), certified,"
            " and which the journal does not have",
            fix="The volunteers are asked for the rest, and the run resumes behind it.",
        )


@dataclass
class LogWatch:
    """What the volunteers' heartbeats say about the log."""

    store: RunStore
    swarm: Swarm
    faults: PeerFaults = field(default_factory=lambda: PeerFaults(log))
    confirmed: bool = False
    """A volunteer holds the same newest entry."""
    random: Random = field(default_factory=Random)
    _known: Recent[BlobHash] = field(default_factory=lambda: Recent(REMEMBERED))
    """What volunteers named and was compared."""
    _refused: Recent[str] = field(default_factory=lambda: Recent(REMEMBERED))
    """Volunteers that named something else: each leaves one blob behind at most."""
    _own: tuple[BlobHash, BlobHash] | None = None
    """Our newest entry, and the name of what certifies it."""
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        store = self.store
        self.confirmed = not store.snapshot.log
        self._proofs = ProofSearch(
            store.charter,
            self.swarm,
            store.blobs,
            lambda: store.snapshot.position.successors,
            functools.partial(keep_double_signed, store),
        )

    async def look(self, members: Membership) -> None:
        """Compare what is new, at random: volunteers that do not answer do not exclude others.

        Raises LogIsBehind.
        """
        own, present = await self._own_name(), [*members.presences.values()]
        self._proofs.look(present)
        self.confirmed |= own is not None and any(presence.log == own for presence in present)
        others = [presence for presence in present if presence.log not in (own, None)]
        for presence in self.random.sample(others, len(others)):
            if presence.log is not None and self._may_ask(presence.owner, presence.log):
                self._known.add(BlobHash(presence.log))
                self._asking.add(asyncio.create_task(self._contained(presence)))
        for task in [task for task in self._asking if task.done()]:
            self._asking.discard(task)
            task.result()

    def cancel(self) -> None:
        """End what is under way."""
        self._proofs.cancel()
        for task in self._asking:
            task.cancel()

    def _may_ask(self, owner: str, name: str) -> bool:
        return name not in self._known and owner not in self._refused and len(self._asking) < AT_ONCE

    async def _contained(self, presence: Presence) -> None:
        with self.faults.contain("the end of a log", PublicKey(presence.owner)):
            await self._compare(presence)

    async def _compare(self, presence: Presence) -> None:
        charter, store = self.store.charter, self.store
        try:
            found = await certified_end(self.swarm, store.blobs, presence, charter.run)
            if not is_news(found.vote, store.snapshot) or not await self._is_certified(found, presence):
                return
        except (TrustError, StateError) as error:
            log.debug("%s names no certificate of the log: %s", presence.owner[:8], error.problem)
            self._refused.add(presence.owner)
            return
        except NetworkError as error:
            log.debug("%s does not say where its log ends: %s", presence.owner[:8], error.problem)
            if presence.log is not None:
                self._known.discard(BlobHash(presence.log))  # the next heartbeat names it again
            return
        if presence.log is not None and found.vote.height >= len(store.snapshot.log):
            self._known.discard(BlobHash(presence.log))  # it is news until it is entered
        raise LogIsBehind(found, PublicKey(presence.owner))

    async def _is_certified(self, found: Certified, presence: Presence) -> bool:
        """By keys that are known here, or by those that its own log names behind ours."""
        store, run = self.store, self.store.snapshot
        alone = Authorities((run.run_key,))
        if is_proved(found, (alone, run.position.authorities(run.charter.authority_key))):
            return True

        async def read(name: BlobHash) -> bytes:
            await self.swarm.fetch(name, MAX_ENTRY_BYTES, [PublicKey(presence.owner)])
            return await asyncio.to_thread(store.blobs.get, name)

        return await continues(run.position, found, read, store.charter)

    async def _own_name(self) -> BlobHash | None:
        """The name of what certifies our newest entry; None while there is none."""
        run = self.store.snapshot
        if run.certificate is None:
            return None
        newest = run.log[-1].name
        if self._own is None or self._own[0] != newest:
            entry = parse_entry(await asyncio.to_thread(self.store.blobs.get, newest))
            votes = Certified(vote=vote_on(entry, run.certificate.ballot), certificate=run.certificate)
            self._own = newest, blob_hash(votes.payload)
            self._known.add(self._own[1])
        return self._own[1]


def is_news(vote: Vote, run: RunState) -> bool:
    """Whether a certified entry is one that the log lacks and that no resume made void."""
    if vote.epoch < run.position.epoch:
        return False
    return vote.height >= len(run.log) or run.log[vote.height].name != vote.entry
