"""Which holder is asked for which piece next. Pure: a function of what is known.

Rarest pieces first, so that every piece soon has two holders; ties by a seed that differs between
askers, so that they take different pieces from the owner and trade them (BitTorrent's local rarest
first; Legout et al. 2006, "Rarest First and Choke Algorithms Are Enough").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from barnraise.contract.pieces import PIECE_BYTES
from barnraise.core.ids import PublicKey

MAX_PIPELINE = 3
"""Requests in flight to one holder: enough for a round trip of 300 ms at 20 Mbit/s."""
UNKNOWN_RATE = 250_000.0
"""Bytes a second that are expected of an idle holder before its first piece."""
DUPLICATE_SPEEDUP = 4.0
"""A piece in flight is requested once more where another holder should deliver it this many times sooner."""


@dataclass(frozen=True)
class InFlight:
    """A piece that was requested and has not arrived."""

    piece: int
    since: float
    """When it was requested, in seconds."""


@dataclass(frozen=True)
class HolderView:
    """A holder that can be asked now, and what is known of it."""

    holder: PublicKey
    has: int
    """The pieces that it holds, bit by bit."""
    in_flight: tuple[InFlight, ...] = ()
    """This blob's pieces in flight from it, oldest first."""
    free: int = MAX_PIPELINE
    """Requests that it may be sent on top of those in flight, of this blob or another."""
    rate: float | None = None
    """Bytes a second that it served lately."""
    last_resort: bool = False
    """After a fault: asked only for what no trusted holder has."""


@dataclass(frozen=True)
class Pick:
    """Request this piece from this holder."""

    holder: PublicKey
    piece: int


@dataclass(frozen=True)
class NothingToPick:
    """Request nothing until something changes."""


def pick_next(
    missing: int,
    holders: Sequence[HolderView],
    owner: PublicKey,
    *,
    share: int,
    seed: int,
    turn: int,
    now: float,
) -> Pick | NothingToPick:
    """The next request, by the first rule that offers a wanted piece.

    missing: the pieces that are not here, bit by bit. share: those that this node rather than others gets
    from the owner (`share_of`). turn: a number that differs at each call.
    """
    wanted = missing & ~_requested(holders)
    ready = sorted((h for h in holders if h.free > 0), key=lambda h: -expected_rate(h, now))
    rules = (
        _only_the_owner_has(ready, holders, owner, wanted),
        _others_have(ready, owner, wanted),
        _the_owner_is_faster(ready, holders, owner, wanted, now),
        _only_the_distrusted_have(ready, holders, wanted),
    )
    for holder, offered in (offer for rule in rules for offer in rule):
        if offered:
            rare = _rarest(offered, holders)
            ours = rare & share if holder.holder == owner else 0
            return Pick(holder.holder, _choose(ours or rare, seed, turn))
    if wanted & _union(holders):  # a holder is busy now, and has it
        return NothingToPick()
    return _duplicate_request(missing, ready, holders, now)


def share_of(key: PublicKey, askers: Collection[PublicKey], count: int) -> int:
    """The pieces of `count` that `key` requests from the owner first, so that the owner sends each once.

    All who know the same askers take different pieces without a message; what one of them does not get,
    the others request after their own.
    """
    ranks = sorted({key, *askers})
    share = 0
    for piece in range(ranks.index(key), count, len(ranks)):
        share |= 1 << piece
    return share


def pipeline_depth(rate: float | None) -> int:
    """Requests to have in flight to a holder of this rate, 1 to MAX_PIPELINE.

    Few to a slow one: a piece is chosen shortly before it is served, when others may have it, and a slow
    uplink serves only what was requested.
    """
    return min(MAX_PIPELINE, 1 + int((UNKNOWN_RATE if rate is None else rate) // PIECE_BYTES))


def expected_rate(holder: HolderView, now: float) -> float:
    """Bytes a second to expect: what it served lately, or less where an answer is overdue."""
    waited = max((now - flight.since for flight in holder.in_flight), default=0.0)
    overdue = MAX_PIPELINE * PIECE_BYTES / waited if waited > 0 else math.inf
    return min(UNKNOWN_RATE if holder.rate is None else holder.rate, overdue)


# The rules. Each returns holders and the wanted pieces that they may be asked for, in the order to try.

Offers = list[tuple[HolderView, int]]


def _only_the_owner_has(
    ready: Sequence[HolderView], holders: Sequence[HolderView], owner: PublicKey, wanted: int
) -> Offers:
    elsewhere = _union(_trusted_others(holders, owner))
    return [(h, h.has & wanted & ~elsewhere) for h in ready if h.holder == owner and not h.last_resort]


def _others_have(ready: Sequence[HolderView], owner: PublicKey, wanted: int) -> Offers:
    return [(h, h.has & wanted) for h in _trusted_others(ready, owner)]


def _the_owner_is_faster(
    ready: Sequence[HolderView], holders: Sequence[HolderView], owner: PublicKey, wanted: int, now: float
) -> Offers:
    """Where the other holders are busy, and slower together than the owner."""
    others = sum(expected_rate(h, now) for h in _trusted_others(holders, owner) if h.has & wanted)
    owners = [h for h in ready if h.holder == owner and not h.last_resort]
    return [(h, h.has & wanted) for h in owners if others < expected_rate(h, now)]


def _only_the_distrusted_have(
    ready: Sequence[HolderView], holders: Sequence[HolderView], wanted: int
) -> Offers:
    trusted = _union([h for h in holders if not h.last_resort])
    return [(h, h.has & wanted & ~trusted) for h in ready if h.last_resort]


def _duplicate_request(
    missing: int, ready: Sequence[HolderView], holders: Sequence[HolderView], now: float
) -> Pick | NothingToPick:
    """A piece that arrives too slowly, from the holder that should deliver it soonest."""
    for holder in ready:
        queue = len(holder.in_flight) + MAX_PIPELINE - holder.free + 1
        soon = queue * PIECE_BYTES / expected_rate(holder, now)
        for other in holders:
            for place, flight in enumerate(other.in_flight, start=1):
                late = place * PIECE_BYTES / expected_rate(other, now) > DUPLICATE_SPEEDUP * soon
                held = holder.has & missing & (1 << flight.piece)
                if late and held and other is not holder and _requests_for(flight.piece, holders) == 1:
                    return Pick(holder.holder, flight.piece)
    return NothingToPick()


# Sets of pieces, as bits of an int.


def _trusted_others(holders: Sequence[HolderView], owner: PublicKey) -> list[HolderView]:
    return [h for h in holders if h.holder != owner and not h.last_resort]


def _requests_for(piece: int, holders: Sequence[HolderView]) -> int:
    return sum(flight.piece == piece for holder in holders for flight in holder.in_flight)


def _requested(holders: Sequence[HolderView]) -> int:
    return _bits(flight.piece for holder in holders for flight in holder.in_flight)


def _bits(pieces: Iterable[int]) -> int:
    found = 0
    for piece in pieces:
        found |= 1 << piece
    return found


def _union(holders: Sequence[HolderView]) -> int:
    found = 0
    for holder in holders:
        found |= holder.has
    return found


def _rarest(offered: int, holders: Sequence[HolderView]) -> int:
    """Those of the offered pieces that the fewest holders have."""
    at_least = [offered]  # at_least[k]: held by k of the holders counted so far
    for holder in holders:
        if more := at_least[-1] & holder.has:
            at_least.append(more)
        for k in range(len(at_least) - 1, 0, -1):
            at_least[k] |= at_least[k - 1] & holder.has
    for held in at_least[1:]:
        if rare := offered & ~held:
            return rare
    return offered


def _choose(pieces: int, seed: int, turn: int) -> int:
    """One of the pieces, by seed and turn."""
    digest = hashlib.sha256(f"{seed}/{turn}".encode()).digest()
    start = int.from_bytes(digest[:8], "little") % pieces.bit_length()
    return start + _lowest(pieces >> start)


def _lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1
