"""Who is asked for a state, and how a download of it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.state import TrainState
from barnraise.contract.state_index import WantedState
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import Unreachable
from barnraise.core.ids import BlobHash, PublicKey, Round, StateHash
from barnraise.network.state_download import AT_ONCE, MOST_ASKED, download_state, likely_holders
from barnraise.runtime.blob_store import BlobStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm
from tests.support.parts import ADA, BEN, HASH_A, HASH_B

TIP = Tip(Position(Round(4), BlobHash(HASH_B)), StateHash(HASH_A))


def test_who_trains_from_the_state_is_asked_first() -> None:
    behind = parts.presence(ADA, round=3, state=HASH_B)
    at_it = parts.presence(BEN, round=4, state=HASH_A)
    left_it = parts.presence(parts.STRANGER, round=5, state=HASH_B)
    assert likely_holders([behind, left_it, at_it], TIP) == [BEN.public, parts.STRANGER.public, ADA.public]


def test_of_a_thousand_volunteers_a_few_are_asked() -> None:
    present = [parts.presence().model_copy(update={"owner": f"{number:064x}"}) for number in range(1000)]
    asked = likely_holders(present, TIP)
    assert len(asked) == len({*asked}) == MOST_ASKED


def test_half_of_those_that_are_asked_are_the_first_ones_whatever_others_claim() -> None:
    first = [parts.presence(state=HASH_B).model_copy(update={"owner": f"{n:064x}"}) for n in range(20)]
    claiming = [parts.presence(state=HASH_A).model_copy(update={"owner": f"ff{n:062x}"}) for n in range(99)]
    asked = likely_holders([*first, *claiming], TIP)
    half = MOST_ASKED // 2
    assert asked == [each.owner for each in (*claiming[:half], *first[:half])]


@dataclass
class SlowSwarm(FakeSwarm):
    """Nobody holds the first tensor that is asked for, and the others take forever."""

    begun: list[BlobHash] = field(default_factory=list)
    ended: list[BlobHash] = field(default_factory=list)

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        if name in self.held:
            return await super().fetch(name, limit, holders)
        self.begun.append(name)
        try:
            await asyncio.sleep(0 if len(self.begun) == 1 else 60)
            return await super().fetch(name, limit, holders)
        finally:
            self.ended.append(name)


def test_a_download_that_fails_leaves_nothing_under_way(tmp_path: Path) -> None:
    """Its caller fetches another state next, and removes what is here of this one."""
    values = {f"{n}": np.full(3, n, np.float32) for n in range(2 * AT_ONCE)}
    state, blobs = TrainState(values, {}, 0), BlobStore(tmp_path / "blobs")
    wanted = WantedState(state.hash(), 0, state.layout.digest(), ())
    swarm = SlowSwarm(blobs, held={wanted.index: parts.state_blobs(state)[wanted.index]})

    async def download() -> None:
        with pytest.raises(Unreachable):
            await download_state(wanted, swarm.as_swarm, blobs, [PublicKey(ADA.public)])
        assert sorted(swarm.ended) == sorted(swarm.begun)
        await asyncio.sleep(0)
        assert len(swarm.begun) < len(values), "what was not begun is not asked for"

    asyncio.run(download())
