"""With whom a node exchanges addresses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.core.ids import PublicKey
from barnraise.network.address_book import AddressBook
from barnraise.network.address_file import AddressFile
from barnraise.network.address_upkeep import AddressUpkeep
from tests.support import parts

AUTHORITY, BEN = parts.AUTHORITY.public, parts.BEN.public


class FakeSwarm:
    def __init__(self, answers: Collection[PublicKey]) -> None:
        self.answers = answers
        self.asked: list[PublicKey] = []

    async def exchange_addresses(self, peer: PublicKey) -> bool:
        self.asked.append(peer)
        return peer in self.answers


def exchanged(times: int, answers: Collection[PublicKey]) -> list[PublicKey]:
    swarm = FakeSwarm(answers)
    book = AddressBook(parts.RUN, KeysInForce.alone(AUTHORITY))
    file = AddressFile(Path("nowhere"), book)
    upkeep = AddressUpkeep(cast(Any, swarm), file, parts.ADA.public, book.keys, Random(0))

    async def play() -> None:
        for _ in range(times):
            await upkeep.exchange([BEN])

    asyncio.run(play())
    return swarm.asked


def test_the_coordinator_is_asked_first_and_then_any_node() -> None:
    asked = exchanged(20, {AUTHORITY, BEN})
    assert asked[0] == AUTHORITY
    assert set(asked) == {AUTHORITY, BEN}
    assert len(asked) == 20


@pytest.mark.parametrize("times", [5, 20])
def test_the_coordinator_is_asked_in_place_of_a_node_that_is_not_reached(times: int) -> None:
    asked = exchanged(times, {AUTHORITY})
    assert asked.count(AUTHORITY) == times
    assert all(later == AUTHORITY for peer, later in itertools.pairwise(asked) if peer == BEN)
