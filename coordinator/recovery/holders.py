"""Asks the volunteers of a run, and closers that announce heads, for the longest log that they hold.

Each names what certifies the newest entry of its copy in its heartbeat; the entries, and the charter, are
blobs that any of them serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from barnraise.contract.certificates import Authorities, Certificate, check_certificate
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.double_signing import MAX_PROOF_BYTES, Certified
from barnraise.contract.log_entries import MAX_ENTRY_BYTES, common_fields, parse_entry
from barnraise.contract.records import Presence
from barnraise.core.errors import BadSignature, MalformedRecord, NetworkError, StateError, TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, PublicKey, RunId
from barnraise.core.signed import Signed, sign
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from coordinator.messages.recovered_log import log_message
from coordinator.reasons.recovered_log import LogUnusable
from coordinator.recovery.chain import Chain, checked_chain
from coordinator.recovery.closers_reached import still_needed
from coordinator.recovery.continuation import MAX_UNPROVED_BYTES

log = logging.getLogger("coordinator")


@dataclass(frozen=True)
class LogEnd:
    """The end of a log that a volunteer holds."""

    epoch: int
    height: int
    """Of its newest entry."""
    entry: BlobHash
    certificate: Certificate
    proved: bool = True
    """Whether keys that are known here certified it; else its log has to show who may."""


async def nothing() -> None:
    """Dials nobody."""


@dataclass
class Holders:
    """The volunteers that dial this coordinator at the address that they know."""

    swarm: Swarm
    blobs: BlobStore
    """The store of `swarm`."""
    authority: Identity
    run: RunId
    seconds: float
    """They are asked for this long at most."""
    pause: float
    """Between two looks at who is there."""
    known: Sequence[Authorities] = ()
    """Who may certify an entry, next to the run key alone."""
    closers: Collection[PublicKey] = ()
    """Those that may have closed rounds meanwhile: they are asked, too."""
    search: Callable[[], Awaitable[object]] = nothing
    """Dials nodes whose addresses are known."""
    reached: set[PublicKey] = field(default_factory=set)
    """The closers that answered."""
    ends: list[LogEnd] = field(default_factory=list)
    """What was found. An entry may be in several: not every certificate that is named counts."""
    _asked: set[BlobHash] = field(default_factory=set)
    _owners: set[PublicKey] = field(default_factory=set)
    _closers: set[PublicKey] = field(default_factory=set)
    """Those that certified what a head names: they have the log."""
    _expected: int | None = None
    """Volunteers of the run by its newest head."""

    async def ask(self) -> None:
        """Wait for the volunteers and find where their logs end."""
        until = asyncio.get_running_loop().time() + self.seconds
        while True:
            await self._look()
            everybody = self._expected is not None and len(self._owners) >= self._expected > 0
            needed = still_needed(self.closers, self.authority.public, self.reached)
            if (everybody and not needed) or asyncio.get_running_loop().time() >= until:
                return
            await asyncio.sleep(self.pause)

    async def longest(self, charter: Signed[Charter] | None) -> Chain | None:
        """The longest of the logs that verifies. charter: the run's, where it is known."""
        for end in sorted(self.ends, key=lambda end: (end.epoch, end.height, end.proved), reverse=True):
            try:
                return await self._chain(end, charter)
            except (NetworkError, TrustError, StateError) as error:
                log.warning("%s", log_message(LogUnusable(end.height + 1, error.problem)))
        return None

    async def _look(self) -> None:
        await self.search()
        asked = [key for key in self.closers if key not in (self.authority.public, *self.reached)]
        answers = await asyncio.gather(*map(self.swarm.exchange_addresses, asked))  # with the newest head
        self.reached |= {key for key, answered in zip(asked, answers, strict=True) if answered}
        for head in await self.swarm.heads():
            self._expected = head.volunteers
            if head.certificate is not None:
                end = LogEnd(head.epoch, head.height - 1, BlobHash(head.entry), head.certificate)
                self._add(end)
                self._closers |= {PublicKey(key) for key, _ in head.certificate.signatures}
        for presence in await self.swarm.peers():
            if presence.log is not None:
                await self._ask(presence, BlobHash(presence.log))

    async def _ask(self, presence: Presence, name: BlobHash) -> None:
        try:
            if name not in self._asked:
                certified = await certified_end(self.swarm, self.blobs, presence, self.run)
                vote = certified.vote
                proved = is_proved(certified, (Authorities((self.authority.public,)), *self.known))
                end = LogEnd(vote.epoch, vote.height, BlobHash(vote.entry), certified.certificate, proved)
                self._add(end)
                self._asked.add(name)
            self._owners.add(PublicKey(presence.owner))
        except (NetworkError, TrustError, StateError) as error:
            log.debug("%s does not say where its log ends: %s", presence.owner[:8], error.problem)

    def _add(self, end: LogEnd) -> None:
        if end not in self.ends:
            self.ends.append(end)

    async def _chain(self, end: LogEnd, charter: Signed[Charter] | None) -> Chain:
        payloads, size, name, height = list[bytes](), 0, end.entry, 1
        while height > 0:
            payloads.append(await self._read(name, MAX_ENTRY_BYTES))
            size += len(payloads[-1])
            if size > MAX_UNPROVED_BYTES and not end.proved:
                raise MalformedRecord(
                    "it is long, and nobody who is known certified it", fix="It is not used."
                )
            said = common_fields(parse_entry(payloads[-1]))
            name, height = BlobHash(said.previous), said.height
        if charter is None:  # what volunteers hold lacks the signature, which only its key can add
            charter = sign(self.authority, _parsed(await self._read(name, MAX_CHARTER_BYTES)))
        if (charter.value.run, charter.value.authority) != (self.run, charter.signer):
            raise MalformedRecord("it is the log of another run or key", fix="It is not used.")
        return checked_chain(charter, payloads[::-1], end.certificate)

    async def _read(self, name: BlobHash, limit: int) -> bytes:
        closers = self._closers - {self.authority.public}
        await self.swarm.fetch(name, limit, [*sorted(closers), *sorted(self._owners)])
        return await asyncio.to_thread(self.blobs.get, name)


async def certified_end(swarm: Swarm, blobs: BlobStore, presence: Presence, run: RunId) -> Certified:
    """What is said to certify the newest entry of a volunteer's copy: `is_proved` checks it.

    Raises Unreachable, TrustError, StateError.
    """
    assert presence.log is not None, "it names one"
    name = BlobHash(presence.log)
    await swarm.fetch(name, MAX_PROOF_BYTES, [PublicKey(presence.owner)])
    payload = await asyncio.to_thread(blobs.get, name)
    try:
        certified = Certified.model_validate_json(payload)
    except ValidationError:
        # It stays in the store: the volunteer may have named a blob that the run needs.
        raise MalformedRecord("the certificate of an entry is none", fix="It is not used.") from None
    blobs.remove(name)
    if certified.vote.run != run:
        raise MalformedRecord(f"the certificate is of the run {certified.vote.run}", fix="It is dropped.")
    return certified


def is_proved(certified: Certified, known: Sequence[Authorities]) -> bool:
    """Whether any of `known` certified it."""
    for authorities in known:
        try:
            check_certificate(certified.vote, certified.certificate, authorities)
            return True
        except BadSignature:
            continue
    return False


def _parsed(payload: bytes) -> Charter:
    try:
        return Charter.parse(payload)
    except ValidationError:
        raise MalformedRecord("the charter is none", fix="It is dropped.") from None
