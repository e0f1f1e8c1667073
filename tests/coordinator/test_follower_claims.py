"""How a follower is admitted, and finds the head of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.records import JoinClaim, check_admission
from barnraise.core.errors import Unreachable
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import Signed
from barnraise.network.address_book import AddressBook
from barnraise.network.tls.trust import Trust
from barnraise.runtime.run_clock import RunClock
from coordinator.follower_claims import FollowerClaims
from coordinator.grpc_service import JoinReply, ask_join
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing
from tests.support import parts
from tests.support.contacts import signed_head
from tests.support.coordinators import opened_store, served, session_of, unused_port

NOWHERE = Endpoint("127.0.0.1", unused_port())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as made:
        yield made


def claims(*endpoints: Endpoint, book: AddressBook | None = None) -> FollowerClaims:
    invite = Invite(endpoints, parts.RUN, parts.AUTHORITY.public, invitation=parts.invitation())
    clock = RunClock(lambda: Millis(0), lambda: parts.NOW)
    book = AddressBook(parts.RUN, parts.keys()) if book is None else book
    return FollowerClaims(invite, parts.ADA, book, clock, replace(TIMING, status=5.0))


def check(text: str, closers: tuple[PublicKey, ...] = ()) -> None:
    check_admission(
        text,
        parts.ADA.public,
        run=parts.RUN,
        signers=parts.keys(*closers).signers,
        now=parts.NOW,
    )


def test_it_is_admitted_at_the_first_address_that_answers(store: RunStore) -> None:
    async def play() -> None:
        async with served(session_of(store)) as invite:
            follower = claims(NOWHERE, *invite.endpoints)
            assert follower.admission() == ""
            joined = await follower.join(None)
            assert joined.charter.wire == store.snapshot.signed_charter.wire
            check(follower.admission())
            head = await follower.newest_head()
            assert head is not None
            assert head.value == joined.head
            assert follower.book.head == head

    asyncio.run(play())


def test_an_address_that_answers_otherwise_is_passed_over(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answered(
        endpoint: Endpoint, claim: Signed[JoinClaim], trust: Trust, timing: Timing
    ) -> JoinReply:
        if endpoint == NOWHERE:
            return JoinReply(b"", b"", b"")
        return await ask_join(endpoint, claim, trust, timing)

    async def play() -> None:
        async with served(session_of(store)) as invite:
            joined = await claims(NOWHERE, *invite.endpoints).join(None)
            assert joined.charter.wire == store.snapshot.signed_charter.wire

    monkeypatch.setattr("coordinator.follower_claims.ask_join", answered)
    asyncio.run(play())
    with pytest.raises(Unreachable, match=f"{NOWHERE}: "):
        asyncio.run(claims(NOWHERE).join(None))


def test_it_asks_at_the_addresses_of_the_newest_head(store: RunStore) -> None:
    async def play() -> None:
        async with served(session_of(store)) as invite:
            follower = claims(NOWHERE)
            follower.book.learn_head(signed_head(api=tuple(map(str, invite.endpoints)), at=parts.NOW - 1000))
            assert await follower.newest_head() is not None
            check(follower.admission())

    asyncio.run(play())


def test_it_does_not_ask_itself(store: RunStore) -> None:
    async def play() -> None:
        async with served(session_of(store)) as invite:
            follower = claims(NOWHERE)
            follower.own = invite.endpoints
            follower.book.learn_head(signed_head(api=tuple(map(str, invite.endpoints)), at=parts.NOW - 1000))
            assert await follower.newest_head() is None

    asyncio.run(play())


def test_without_anyone_it_goes_on_by_what_it_knows(store: RunStore) -> None:
    follower = claims(NOWHERE)
    with pytest.raises(Unreachable, match=f"{NOWHERE}: no coordinator answers"):
        asyncio.run(follower.join(None))
    known = store.snapshot.signed_charter
    with pytest.raises(Unreachable):
        asyncio.run(follower.join(known))
    follower.book.learn_head(signed_head())
    joined = asyncio.run(follower.join(known))
    assert joined.charter is known
    assert joined.is_known
    assert asyncio.run(follower.newest_head()) is None


def test_a_closer_admits_itself_where_nobody_did() -> None:
    follower = claims(NOWHERE)
    follower.book.trust(parts.keys(parts.BEN.public))
    assert follower.admission() == ""
    follower.book.trust(parts.keys(parts.ADA.public))
    check(follower.admission(), closers=(parts.ADA.public,))
