"""Two thousand keys claim to hold what a program needs: who holds it is still asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, cast

import pytest

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Presence, Record
from barnraise.contract.tip import Position, Tip
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.errors import Unreachable
from barnraise.core.ids import BlobHash, PublicKey, Round, StateHash
from barnraise.core.signed import Signed
from barnraise.network.gossip import Gossip
from barnraise.network.state_download import MOST_ASKED, likely_holders
from barnraise.network.swarm import Swarm
from coordinator.rounds.missing_files import _likely, fetch_missing_shards
from coordinator.timing import TIMING
from tests.support import parts
from tests.support.attackers import key_number

HOLDER = parts.ADA
TIP = Tip(Position(Round(4), BlobHash(parts.HASH_B)), StateHash(parts.HASH_A))


@cache
def crowd() -> tuple[Signed[Record], ...]:
    """Heartbeats that claim everything. Their signatures were checked where they arrived."""
    beat = parts.presence(keeps=0, round=4, state=TIP.state)
    owners = [key_number(number).public for number in range(2000)]
    return tuple(Signed(beat.model_copy(update={"owner": owner}), owner, b"") for owner in owners)


def present(*vouched: str) -> list[Presence]:
    """What a node names that received the crowd's heartbeats, and then the holder's."""

    async def nothing(*_: object) -> Any:
        return []

    keys = KeysInForce(parts.AUTHORITY.public, parts.keys().position, TrustSpec(mode="open", vouched=vouched))
    gossip = Gossip(
        parts.BEN, parts.RUN, keys, lambda: parts.NOW, store=nothing, look_up=nothing, open_stream=nothing,
        guard=parts.guard(), random=Random(1),
    )  # fmt: skip
    left_it: Record = parts.presence(
        HOLDER, round=5, state=parts.HASH_B
    )  # it has the state as the one before

    async def play() -> list[Presence]:
        for each in [*crowd(), Signed(left_it, HOLDER.public, b"")]:
            gossip._keep(each)
        return await gossip.peers()

    found = asyncio.run(play())
    assert len(found) == 2001
    return found


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_trusted_holder_is_asked_among_two_thousand_that_claim_to_be(is_trusted: bool) -> None:
    """Without trust it is one of many."""
    found = present(*([HOLDER.public] if is_trusted else []))
    asked = [
        likely_holders(found, TIP),
        _likely(found, lambda each: each.log is not None),
        _likely(found, lambda each: each.keeps <= 0),
    ]
    assert [len(each) for each in asked] == [MOST_ASKED] * 3
    assert [PublicKey(HOLDER.public) in each for each in asked] == [is_trusted] * 3


def test_shards_that_only_a_new_key_holds_are_found_behind_trusted_ones() -> None:
    """More trusted volunteers than are asked come first each time, and hold none of them."""
    volunteers = [parts.presence().model_copy(update={"owner": key_number(n).public}) for n in range(50)]
    holder, missing, asked = PublicKey(volunteers[-1].owner), {BlobHash(parts.HASH_A): 10}, Counter[bool]()

    class Volunteers:
        async def peers(self) -> list[Presence]:
            return volunteers

        async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> None:
            assert len(holders) == MOST_ASKED
            asked[holder in holders] += 1
            assert asked[False] < 100
            if holder not in holders:
                raise Unreachable("no holder has it", fix="")
            missing.clear()

    at_once, swarm = replace(TIMING, retry=0), cast(Swarm, Volunteers())
    asyncio.run(fetch_missing_shards(lambda: dict(missing), swarm, at_once))
    assert asked[True] == 1
