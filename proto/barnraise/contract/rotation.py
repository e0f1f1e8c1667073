"""Rotation: with many volunteers each contributes to one round in several, which bounds the traffic per peer.

Between two turns a volunteer trains, folds the others' contributions, and keeps its own updates.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

from barnraise.core.ids import PublicKey, Round

TARGET_FILL = 0.75
"""Mean share of `round.max_contributions` that have their turn: turns are drawn, so the number varies."""


def turns_for(volunteers: int, limit: int) -> int:
    """Rounds in which each volunteer has one turn, so that about TARGET_FILL · `limit` contribute to each.

    limit: `round.max_contributions`.
    """
    return 1 if volunteers <= limit else math.ceil(volunteers / (TARGET_FILL * limit))


def has_turn(seed: int, round: Round, owner: PublicKey, turns: int) -> bool:
    """Whether `owner` contributes to `round`: once in `turns` rounds, at a place drawn by its key."""
    return (_place(seed, owner) + round) % turns == 0


@lru_cache(maxsize=2**14)
def _place(seed: int, owner: PublicKey) -> int:
    """Cached: the coordinator asks for every volunteer at every tick."""
    return int.from_bytes(hashlib.sha256(f"barnraise/turn/1/{seed}/{owner}".encode()).digest()[:8], "big")
