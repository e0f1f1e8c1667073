"""Taking turns: with many volunteers each contributes to one round in several, so that nobody's bytes grow.

Between two turns a volunteer trains on, folds what the others sent, and keeps its own work.
"""

from __future__ import annotations

import hashlib
import math

from barnraise.core.ids import PublicKey, Round

AIM = 0.75
"""Of `round.max_contributions` that a round is meant to fold: turns are drawn, so their number varies."""


def turns_for(volunteers: int, limit: int) -> int:
    """Rounds until everybody had a turn once, so that about AIM · `limit` contribute to each."""
    return 1 if volunteers <= limit else math.ceil(volunteers / (AIM * limit))


def has_turn(seed: int, round: Round, owner: PublicKey, turns: int) -> bool:
    """Whether `owner` contributes to `round`: once in `turns` rounds, at a place drawn by its key."""
    place = int.from_bytes(hashlib.sha256(f"barnraise/turn/1/{seed}/{owner}".encode()).digest()[:8], "big")
    return (place + round) % turns == 0
