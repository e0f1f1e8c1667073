"""Which holder is asked for which piece next. A function of what is known; no clock, no network.

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
"""Requests under way at one holder: enough for a round trip of 300 ms at 20 Mbit/s."""
UNKNOWN_RATE = 250_000.0
"""Bytes a second expected of an idle holder that has not given a piece yet."""
DUPLICATE_SPEEDUP = 4.0
"""A piece on its way is asked for once more where it should come so many times sooner."""


@dataclass(frozen=True)
class InFlight:
    """A piece on its way."""

    piece: int
    since: float
    """When it was asked for, in seconds."""


@dataclass(frozen=True)
class HolderView:
    """A holder that can be asked now, and what is known of it."""

    holder: PublicKey
    has: int
    """The pieces it holds, bit by bit."""
    in_flight: tuple[InFlight, ...] = ()
    """This blob's pieces on their way from it, oldest first."""
    free: int = MAX_PIPELINE
    """Requests that it may be sent on top of those under way, of this blob or another."""
    rate: float | None = None
    """Bytes a second it gave lately."""
    last_resort: bool = False
    """It has lost standing: only for what nobody else has."""


@dataclass(frozen=True)
class Pick:
    holder: PublicKey
    piece: int


@dataclass(frozen=True)
class NothingToPick:
    """Nothing is to be asked for until something changes."""


def pick_next(
    missing: int,
    sources: Sequence[HolderView],
    owner: PublicKey,
    *,
    share: int,
    seed: int,
    turn: int,
    now: float,
) -> Pick | NothingToPick:
    """The next request, or Rest.

    missing: the pieces not here, bit by bit. share: those that we rather than others get from the owner
    (`share_of`). turn: a number that differs at each call.
    In this order: from the owner what only it has; from others, the fastest first; from the owner what
    others hold too, where they are busy and slower together than it; from those of bad standing what
    only they have; and again what should come much sooner from another.
    """
    wanted = missing & ~_requested(sources)
    ready = sorted((s for s in sources if s.free > 0), key=lambda s: -expected_rate(s, now))
    for source, offered in _offers(ready, sources, owner, wanted, now):
        if offered:
            rare = _rarest(offered, sources)
            ours = rare & share if source.holder == owner else 0
            return Pick(source.holder, _choose(ours or rare, seed, turn))
    return NothingToPick() if wanted & _union(sources) else _duplicate_request(missing, ready, sources, now)


def share_of(key: PublicKey, askers: Collection[PublicKey], count: int) -> int:
    """The pieces of `count` that `key` gets from the owner first, so that the owner sends each once.

    All who know the same askers take different pieces without a word; what one of them does not get,
    the others take after their own.
    """
    ranks = sorted({key, *askers})
    share = 0
    for piece in range(ranks.index(key), count, len(ranks)):
        share |= 1 << piece
    return share


def pipeline_depth(rate: float | None) -> int:
    """Requests to have under way at a holder of this rate: none is chosen long before it is answered,
    when others may have the piece, and a slow holder's uplink goes to what nobody asked for yet."""
    return min(MAX_PIPELINE, 1 + int((UNKNOWN_RATE if rate is None else rate) // PIECE_BYTES))


def expected_rate(source: HolderView, now: float) -> float:
    """Bytes a second to expect: what it gave lately, or less where an answer is overdue."""
    waited = max((now - flight.since for flight in source.in_flight), default=0.0)
    overdue = MAX_PIPELINE * PIECE_BYTES / waited if waited > 0 else math.inf
    return min(UNKNOWN_RATE if source.rate is None else source.rate, overdue)


def _offers(
    ready: Sequence[HolderView], sources: Sequence[HolderView], owner: PublicKey, wanted: int, now: float
) -> list[tuple[HolderView, int]]:
    """Who may be asked for which of the wanted pieces, in the order to be tried."""
    others = [s for s in sources if s.holder != owner and not s.last_resort]
    elsewhere = _union(others)
    owners = [s for s in ready if s.holder == owner and not s.last_resort]
    offers = [(s, s.has & wanted & ~elsewhere) for s in owners]
    offers += [(s, s.has & wanted) for s in ready if s.holder != owner and not s.last_resort]
    together = sum(expected_rate(s, now) for s in others if s.has & wanted)
    offers += [(s, s.has & wanted) for s in owners if together < expected_rate(s, now)]
    trusted = _union([s for s in sources if not s.last_resort])
    offers += [(s, s.has & wanted & ~trusted) for s in ready if s.last_resort]
    return offers


def _duplicate_request(
    missing: int, ready: Sequence[HolderView], sources: Sequence[HolderView], now: float
) -> Pick | NothingToPick:
    """A piece that comes too slowly, from the holder that should give it soonest."""
    for source in ready:
        soon = (
            (len(source.in_flight) + MAX_PIPELINE - source.free + 1)
            * PIECE_BYTES
            / expected_rate(source, now)
        )
        for other in sources:
            for place, flight in enumerate(other.in_flight, start=1):
                late = place * PIECE_BYTES / expected_rate(other, now) > DUPLICATE_SPEEDUP * soon
                held = source.has & missing & (1 << flight.piece)
                if late and held and other is not source and _requests_for(flight.piece, sources) == 1:
                    return Pick(source.holder, flight.piece)
    return NothingToPick()


def _requests_for(piece: int, sources: Sequence[HolderView]) -> int:
    return sum(flight.piece == piece for source in sources for flight in source.in_flight)


def _requested(sources: Sequence[HolderView]) -> int:
    return _bits(flight.piece for source in sources for flight in source.in_flight)


def _bits(pieces: Iterable[int]) -> int:
    found = 0
    for piece in pieces:
        found |= 1 << piece
    return found


def _union(sources: Sequence[HolderView]) -> int:
    found = 0
    for source in sources:
        found |= source.has
    return found


def _rarest(offered: int, sources: Sequence[HolderView]) -> int:
    """Those of the offered pieces that the fewest sources hold."""
    at_least = [offered]  # at_least[k]: held by k of the sources looked at so far
    for source in sources:
        if more := at_least[-1] & source.has:
            at_least.append(more)
        for k in range(len(at_least) - 1, 0, -1):
            at_least[k] |= at_least[k - 1] & source.has
    for held in at_least[1:]:
        if rare := offered & ~held:
            return rare
    return offered


def _choose(pieces: int, seed: int, turn: int) -> int:
    """One of the pieces, by seed and turn."""
    digest = hashlib.sha256(f"{seed}/{turn}".encode()).digest()
    start = int.from_bytes(digest[:8], "little") % pieces.bit_length()
    above = pieces >> start
    return start + _lowest(above)


def _lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1
