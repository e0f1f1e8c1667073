"""The coordinator is asked at every known address, and other nodes are asked where it is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite, InviteNode
from barnraise.contract.records import Head
from barnraise.core.errors import RefusedError, Unreachable
from barnraise.core.signed import Signed
from barnraise.network import address_lookup
from barnraise.network.address_book import AddressBook, Node
from barnraise.network.invite_nodes import dialled
from coordinator.store.run_store import RunStore
from peer.coordinator_client import CoordinatorClient
from peer.coordinator_search import CoordinatorSearch
from peer.timing import TIMING
from tests.support import parts
from tests.support.contacts import contact, signed_head
from tests.support.coordinators import opened_store, served, session_of, unused_port


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as opened:
        yield opened


def search_for(invite: Invite, *others: str) -> CoordinatorSearch:
    """others: addresses of the coordinator in the newest known head."""
    book = AddressBook(parts.RUN, parts.keys())
    if others:
        book.learn_head(signed_head(api=others))
    return CoordinatorSearch(invite, book, lambda: parts.NOW, TIMING)


def away() -> Endpoint:
    return Endpoint("127.0.0.1", unused_port())


def invite_to(*endpoints: Endpoint) -> Invite:
    return Invite(endpoints, parts.RUN, parts.AUTHORITY.public)


async def run_of(client: CoordinatorClient) -> str:
    return (await client.charter()).run


def test_an_old_invite_is_led_on_by_the_newest_known_head(store: RunStore) -> None:
    async def ask() -> tuple[str, Invite]:
        async with served(session_of(store)) as now:
            search = search_for(invite_to(away()), str(now.endpoints[0]))
            return await search.ask(run_of), search.invite

    run, invite = asyncio.run(ask())
    assert run == parts.RUN
    assert len(invite.endpoints) == 2


def test_the_address_that_answered_is_asked_first(store: RunStore) -> None:
    async def ask() -> tuple[Invite, Invite]:
        async with served(session_of(store)) as now:
            search = search_for(invite_to(away(), *now.endpoints))
            await search.ask(run_of)
            return now, search.invite

    now, invite = asyncio.run(ask())
    assert invite.endpoints[0] == now.endpoints[0]


def test_known_volunteers_are_asked_where_it_is(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> str:
        async with served(session_of(store)) as now:

            async def look_up(book: AddressBook, nodes: Sequence[Node], clock: object) -> int:
                book.learn_head(signed_head(api=(str(now.endpoints[0]),)))
                return 1

            monkeypatch.setattr(address_lookup, "look_up_addresses", look_up)
            search = search_for(invite_to(away()))
            search.book.learn_contact(contact())
            return await search.ask(run_of)

    assert asyncio.run(ask()) == parts.RUN


@pytest.mark.parametrize("known", [False, True])
def test_the_first_error_is_raised_where_no_one_knows_more(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(*_: object) -> int:
        assert known, "there is no one to ask"
        return 0

    monkeypatch.setattr(address_lookup, "look_up_addresses", look_up)
    search = search_for(invite_to(away()))
    if known:
        search.book.learn_contact(contact())
    with pytest.raises(Unreachable):
        asyncio.run(search.ask(run_of))


def test_the_newest_head_comes_from_any_known_address(store: RunStore) -> None:
    async def ask() -> tuple[object, object]:
        async with served(session_of(store)) as now:
            found = await search_for(invite_to(away(), *now.endpoints)).newest_head()
        return found, await search_for(invite_to(away())).newest_head()

    found, none = asyncio.run(ask())
    assert isinstance(found, Signed)
    assert isinstance(found.value, Head)
    assert none is None


def test_a_refusal_is_no_reason_to_search(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(_: CoordinatorClient) -> None:
        raise RefusedError("no", fix="-")

    async def ask() -> None:
        async with served(session_of(store)) as now:
            search = search_for(now)
            search.book.learn_contact(contact())
            await search.ask(refused)

    with pytest.raises(RefusedError):
        asyncio.run(ask())


def test_the_invite_s_nodes_are_dialled_by_both_transports() -> None:
    node = InviteNode(parts.ADA.public, Endpoint("run.example.org", 7452))
    invite = Invite((away(),), parts.RUN, parts.AUTHORITY.public, (node,))
    assert dialled(invite.nodes) == [
        (parts.ADA.public, ["/dns/run.example.org/tcp/7452", "/dns/run.example.org/udp/7452/quic-v1"])
    ]


def test_a_coordinator_that_answers_is_found_without_hivemind() -> None:
    """Its import takes seconds; only a search among other nodes needs it."""
    code = "import sys, peer.archive.opening; assert 'hivemind' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
