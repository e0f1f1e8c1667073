"""A follower's claims to take part: by them it joins, stays admitted, and finds a coordinator that moved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Admission, Head, JoinClaim, check_admission, open_record
from barnraise.core.errors import MalformedRecord, RefusedError, TrustError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.network.address_book import AddressBook
from barnraise.network.tls.trust import Trust
from barnraise.runtime.run_clock import RunClock
from coordinator.grpc_service import JoinReply, ask_join
from coordinator.timing import Timing

log = logging.getLogger("coordinator")


@dataclass(frozen=True)
class Joined:
    """What a follower starts with."""

    charter: Signed[Charter]
    head: Head
    """The newest that is known."""
    is_known: bool = False
    """Whether nobody answered, and this program has followed the run before."""


@dataclass
class FollowerClaims:
    """The claims of one follower, and the newest admission."""

    invite: Invite
    identity: Identity
    book: AddressBook
    """Has the newest head, and whom the run trusts."""
    clock: RunClock
    timing: Timing
    own: Collection[Endpoint] = ()
    """Where this follower admits others: it does not ask itself."""
    _admission: Signed[Admission] | None = None

    def admission(self) -> str:
        """The newest one, in base64; empty before the first. A closer admits itself where nobody did."""
        if self._admission is None and self.identity.public in self.book.closers:
            expires = self.clock() + round(1000 * self.timing.admission)
            own = Admission(run=self.invite.run, peer=self.identity.public, expires=expires)
            return sign(self.identity, own).text
        return "" if self._admission is None else self._admission.text

    async def join(self, known: Signed[Charter] | None) -> Joined:
        """Claim to take part. known: the charter, where this folder has followed the run before.

        Raises Unreachable where nobody answers, unless both the charter and a head are known.
        """
        try:
            return await self._claim()
        except Unreachable as error:
            head = self.book.head
            if known is None or head is None:
                raise
            log.info("%s; following without it", error.problem)
            return Joined(known, head.value, is_known=True)

    async def newest_head(self) -> Signed[Head] | None:
        """By another claim, at all addresses that are known. None where nobody answers."""
        try:
            await self._claim()
        except (Unreachable, RefusedError) as error:
            log.debug("no head: %s", error.problem)
            return None
        return self.book.head

    async def renew(self) -> None:
        """Renew the admission at half of its life. Runs until it is cancelled."""
        while True:
            life = self.timing.admission if self._admission is not None else 0.0
            await asyncio.sleep(max(life / 2, self.timing.longest_search))
            await self.newest_head()

    async def _claim(self) -> Joined:
        """Claim at one address after another, until one answers as the run does.

        Raises Unreachable; CoordinatorDoesNotFit.
        """
        run, own, causes = self.invite.run, self.identity.public, []
        said = JoinClaim(
            run=run, owner=own, name="", credit=False, invitation=self.invite.invitation, at=self.clock()
        )
        claim = sign(self.identity, said)
        for endpoint in self._endpoints():
            try:
                return self._opened(await ask_join(endpoint, claim, self._trust, self.timing))
            except (Unreachable, TrustError) as error:
                causes.append(f"{endpoint}: {error.problem}")
        raise Unreachable(
            f"this program is not admitted: {'; '.join(causes)}",
            fix="Is the coordinator running, and is this invite its newest one?",
        )

    @property
    def _trust(self) -> Trust:
        return Trust.of(self.invite, self.book.keys if self.book.knows_closers else None)

    def _opened(self, reply: JoinReply) -> Joined:
        """Raises MalformedRecord, BadSignature; CoordinatorDoesNotFit."""
        run, key = self.invite.run, self.invite.key
        charter = open_signed(Charter, reply.charter, signer=key, limit=MAX_CHARTER_BYTES)
        keys = self.book.keys if self.book.knows_closers else KeysInForce.of(charter.value)
        opened = open_record(reply.head, run=run, signers=keys.signers, now=Millis(0))
        head = opened.value
        if not isinstance(head, Head):
            raise MalformedRecord("the coordinator sent a record that is not a head", fix="Report it.")
        admission = open_signed(Admission, reply.admission, signer=None)
        now = Millis(head.at)
        signers = keys.signers.introduced(head.successors, run)
        check_admission(admission.text, self.identity.public, run=run, signers=signers, now=now)
        self._admission = admission
        self.clock.head_received(now)
        self.book.learn_head(Signed(head, opened.signer, opened.wire))
        return Joined(charter, head)

    def _endpoints(self) -> tuple[Endpoint, ...]:
        head = self.book.head
        newest = () if head is None else head.value.endpoints
        known = dict.fromkeys((*self.invite.endpoints, *newest, *self.book.hints))
        return tuple(endpoint for endpoint in known if endpoint not in self.own)
