"""Who has a turn in a round: the newest close says it, so that a restart and other closers agree.

The number of turns follows from contributions: those to a round, times its turns, are about the volunteers
that contribute. Heartbeats, which cost their senders nothing, can only lower it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.rotation import turns_for
from barnraise.core.ids import PublicKey
from coordinator.rounds.closing import Situation
from coordinator.store.run_store import RunStore

RECENT_ROUNDS = 4
"""Rounds whose turnout is averaged: turns are drawn, so it varies."""
GROWTH = 3
"""Volunteers without a place that count in a full round for each that had one."""
NEWCOMERS = 0.5
"""Of those, such that have not contributed yet: a heartbeat is all that is known of them. Without a place for
slow ones, the fastest would fill each round."""


@dataclass(frozen=True)
class Turnout:
    """How many contributed to a closed round, and how many more may have wanted to."""

    turns: int
    folded: int
    left_out: int = 0
    """Volunteers for whom a full round had no place, that announced a contribution or contributed lately."""
    newcomers: int = 0
    """Volunteers that train and have not contributed yet, likewise."""

    @property
    def volunteers(self) -> int:
        """About how many contribute to the rounds of a whole rotation."""
        left_out = min(self.left_out, GROWTH * self.folded)
        return self.turns * (self.folded + left_out + min(self.newcomers, math.ceil(NEWCOMERS * self.folded)))


def turnout_of(situation: Situation, announced: Collection[PublicKey]) -> Turnout:
    """Of the round at this time. announced: owners of contributions to it."""
    if not situation.full:
        return Turnout(situation.turns, situation.contributions)
    conduct = situation.conduct
    others = [key for key in {*situation.training, *announced} if key not in situation.accepted]
    waiting = [key for key in others if not conduct.of(key).owed]
    known = [
        key
        for key in waiting
        if key in announced or conduct.contributes(key, situation.window.round, situation.turns)
    ]
    return Turnout(situation.turns, situation.contributions, len(known), len(waiting) - len(known))


def next_turns(newest: Turnout, earlier: Sequence[Turnout], live: int, limit: int) -> int:
    """Turns of the next round. live: volunteers with heartbeats. limit: contributions of a round at most."""
    if newest.folded >= limit:
        counted = newest.volunteers
    else:
        recent = [newest]
        for each in earlier[::-1][: RECENT_ROUNDS - 1]:
            if each.folded >= limit:  # others may have had no place
                break
            recent.append(each)
        counted = sum(each.volunteers for each in recent) // len(recent)
    return turns_for(min(live, counted), limit)


def fewer_turns(turns: int) -> int:
    """Turns of a round that reopens because too few contributed."""
    return max(1, turns // 4)


def turns_of_open_round(store: RunStore) -> int:
    """`Close.turns` of the newest close; 1 before the first one, and where it is no longer stored."""
    for logged in reversed(store.snapshot.log):
        if logged.name not in store.blobs:
            return 1
        entry = parse_entry(store.blobs.get(logged.name))
        if isinstance(entry, Close):
            return entry.turns
    return 1
