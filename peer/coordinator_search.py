"""Finds a coordinator at the addresses in the invite, in the address book, and in those of other nodes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.records import Head
from barnraise.core.errors import NetworkError, TrustError, Unreachable, UserError
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.network.address_book import AddressBook
from barnraise.network.invite_nodes import dialled
from peer.coordinator_client import ELSEWHERE, CoordinatorClient, connect
from peer.timing import Timing

log = logging.getLogger("peer")

V = TypeVar("V")


@dataclass
class CoordinatorSearch:
    """The ways to a coordinator that an invite and an address book name."""

    _invite: Invite
    book: AddressBook
    clock: Callable[[], Millis]
    timing: Timing
    _last: Endpoint | None = None
    """Where it answered last."""

    @property
    def invite(self) -> Invite:
        """The invite with all addresses that are known now; the one that answered last is first."""
        last = () if self._last is None else (self._last,)
        head = self.book.head
        newest = () if head is None else head.value.endpoints
        endpoints = tuple(dict.fromkeys((*last, *self._invite.endpoints, *newest, *self.book.hints)))
        return replace(self._invite, endpoints=endpoints)

    async def ask(self, call: Callable[[CoordinatorClient], Awaitable[V]]) -> V:
        """Call the coordinator. Where it does not answer, ask the invite's nodes and the known volunteers for
        its newest addresses, and call it there. Raises as `call`, by the addresses known before.
        """
        tried = self.invite
        try:
            return await self._ask_at(tried, call)
        except (NetworkError, TrustError, UserError):
            if not (others := await self._looked_up(tried)):
                raise
        return await self._ask_at(replace(tried, endpoints=others), call)

    async def newest_head(self) -> Signed[Head] | None:
        """The coordinator's head, from any address that is known. None where it does not answer."""
        try:
            return await self._ask_at(self.invite, CoordinatorClient.head)
        except ELSEWHERE as error:
            log.debug("no head: %s", error.problem)
            return None

    async def _ask_at(self, invite: Invite, call: Callable[[CoordinatorClient], Awaitable[V]]) -> V:
        keys = self.book.keys if self.book.knows_closers else None
        async with connect(invite, self.timing, keys=keys) as client:
            result = await call(client)
            if client.endpoint not in (self._last, *self._invite.endpoints):
                log.info("the coordinator is at %s now", client.endpoint)
            self._last = client.endpoint
            return result

    async def _looked_up(self, tried: Invite) -> tuple[Endpoint, ...]:
        """Addresses that were not tried."""
        nodes = dialled(tried.nodes)
        if not nodes and not self.book.candidates(()):
            return ()
        log.info("no coordinator answers at %s: asking other nodes where it is", tried.address)
        from barnraise.network import address_lookup  # hivemind takes seconds

        try:
            answered = await address_lookup.look_up_addresses(self.book, nodes, self.clock)
        except Unreachable as error:
            log.warning("%s", error.problem)
            return ()
        others = tuple(one for one in self.invite.endpoints if one not in tried.endpoints)
        log.info("%d of them answered; new addresses: %s", answered, ", ".join(map(str, others)) or "none")
        return others
