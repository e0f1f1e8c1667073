"""Who is asked for a state."""

from __future__ import annotations

from barnraise.contract.tip import Position, Tip
from barnraise.core.ids import BlobHash, Round, StateHash
from barnraise.network.state_download import MOST_ASKED, likely_holders
from tests.support import parts
from tests.support.parts import ADA, BEN, HASH_A, HASH_B

TIP = Tip(Position(Round(4), BlobHash(HASH_B)), StateHash(HASH_A))


def test_who_trains_from_the_state_is_asked_first() -> None:
    behind = parts.presence(ADA, round=3, state=HASH_B)
    at_it = parts.presence(BEN, round=4, state=HASH_A)
    left_it = parts.presence(parts.STRANGER, round=5, state=HASH_B)
    assert likely_holders([behind, left_it, at_it], TIP) == [BEN.public, parts.STRANGER.public, ADA.public]


def test_of_a_thousand_volunteers_a_few_are_asked() -> None:
    assert len(likely_holders([parts.presence()] * 1000, TIP)) == MOST_ASKED
