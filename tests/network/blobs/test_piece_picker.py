"""Whom to ask for which piece: every piece is found, the owner is spared, slow holders hold nothing up."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnraise.contract.pieces import PIECE_BYTES, every_piece
from barnraise.network.blobs.piece_picker import DEPTH, Ask, Flight, Rest, Source, depth, next_ask, share_of
from tests.support.carriers import key

OWNER, ADA, BEN, CLEO = (key(name) for name in ("owner", "ada", "ben", "cleo"))
FAST, SLOW = 20.0 * PIECE_BYTES, 1.0 * PIECE_BYTES


def ask(missing: int, *sources: Source, share: int = 0, turn: int = 0, now: float = 0.0) -> Ask | Rest:
    return next_ask(missing, sources, OWNER, share=share, seed=7, turn=turn, now=now)


def flights(*pieces: int, since: float = 0.0) -> tuple[Flight, ...]:
    return tuple(Flight(piece, since) for piece in pieces)


# One decision


def test_the_owner_is_asked_first_for_what_only_it_has() -> None:
    chosen = ask(0b1111, Source(OWNER, 0b1111), Source(ADA, 0b0111, rate=FAST))
    assert chosen == Ask(OWNER, 3)


def test_others_are_asked_for_what_they_have_too() -> None:
    assert ask(0b1, Source(OWNER, 0b1, rate=FAST), Source(ADA, 0b1)) == Ask(ADA, 0)


def test_the_owner_helps_where_others_are_busy_and_slower() -> None:
    owner = Source(OWNER, 0b111, rate=FAST)
    slow = Source(ADA, 0b111, flights(0), free=0, rate=SLOW)
    quick = Source(BEN, 0b111, flights(1), free=0, rate=2 * FAST)
    assert isinstance(ask(0b111, owner, slow), Ask)
    assert ask(0b111, owner, slow, quick) == Rest()


def test_the_fastest_is_asked_first_and_the_rarest_piece() -> None:
    fast, slow = Source(BEN, 0b110, rate=FAST), Source(ADA, 0b011, rate=SLOW)
    assert ask(0b111, slow, fast) == Ask(BEN, 2)


def test_a_share_is_taken_from_the_owner_first() -> None:
    assert {ask(0b1111, Source(OWNER, 0b1111), share=0b0100, turn=turn) for turn in range(20)} == {
        Ask(OWNER, 2)
    }
    assert isinstance(ask(0b1011, Source(OWNER, 0b1111), share=0b0100), Ask), "and then the others'"


def test_ties_differ_by_turn() -> None:
    assert len({ask(every_piece(50), Source(ADA, every_piece(50)), turn=turn) for turn in range(30)}) > 10


def test_who_lost_standing_is_asked_only_for_what_nobody_else_has() -> None:
    bad = Source(ADA, 0b11, rate=FAST, last=True)
    assert ask(0b01, Source(BEN, 0b01, flights(5), free=0), bad) == Rest()
    assert ask(0b11, Source(BEN, 0b01), bad) == Ask(BEN, 0)
    assert ask(0b10, Source(BEN, 0b01), bad) == Ask(ADA, 1)
    assert ask(0b10, Source(OWNER, 0b10, last=True)) == Ask(OWNER, 1)


def test_what_is_long_on_its_way_is_asked_for_once_more() -> None:
    stuck, idle = Source(ADA, 0b1, flights(0), rate=FAST), Source(BEN, 0b1, rate=FAST)
    assert ask(0b1, stuck, idle, now=0.01) == Rest()
    assert ask(0b1, stuck, idle, now=5.0) == Ask(BEN, 0)
    twice = Source(BEN, 0b1, flights(0, since=5.0), rate=FAST)
    assert ask(0b1, stuck, twice, Source(CLEO, 0b1, rate=FAST), now=9.0) == Rest(), "but not a third time"


def test_nothing_is_asked_twice_while_there_is_something_else_to_have() -> None:
    stuck, busy = Source(ADA, 0b01, flights(0)), Source(BEN, 0b11, free=0, rate=FAST)
    assert ask(0b11, stuck, busy, Source(CLEO, 0b01, rate=FAST), now=99.0) == Rest()


@given(st.integers(0, 40), st.integers(1, 8))
def test_shares_divide_the_pieces(count: int, n: int) -> None:
    keys = [key(str(number)) for number in range(n)]
    shares = [share_of(each, keys, count) for each in keys]
    assert sum(shares) == every_piece(count), "all, and none twice"
    assert max(bin(s).count("1") for s in shares) - min(bin(s).count("1") for s in shares) <= 1


@given(st.none() | st.floats(0, 1e9))
def test_slow_holders_get_few_requests(rate: float | None) -> None:
    assert 1 <= depth(rate) <= DEPTH


# A whole download


@dataclass
class Holder:
    has: int
    seconds: float
    """It takes for a piece."""
    broken: str = ""
    """junk, or silent"""
    flights: list[Flight] = field(default_factory=list)
    given: int = 0


holders = st.builds(Holder, has=st.integers(0, 2**12 - 1), seconds=st.sampled_from([0.05, 0.3, 2.0]))
crooks = st.builds(
    Holder, has=st.integers(1, 2**12 - 1), seconds=st.just(0.05), broken=st.sampled_from(["junk", "silent"])
)
STALL = 20.0


@settings(deadline=None)
@given(
    st.lists(holders, min_size=1, max_size=5), st.lists(crooks, max_size=3), st.randoms(use_true_random=False)
)
def test_all_that_somebody_honest_has_arrives(
    honest: list[Holder], bad: list[Holder], random: object
) -> None:
    """However slow, and whoever lies: nobody is asked for what it lacks, nor after its first fault."""
    there = {OWNER if not place else key(str(place)): holder for place, holder in enumerate(honest + bad)}
    available = 0
    for holder in honest:
        available |= holder.has
    missing, now, left = every_piece(12), 0.0, set()
    for turn in range(2000):
        sources = [
            Source(
                k,
                h.has,
                tuple(h.flights),
                DEPTH - len(h.flights),
                PIECE_BYTES / h.seconds if h.given else None,
            )
            for k, h in there.items()
            if k not in left
        ]
        match next_ask(missing, sources, OWNER, share=0b1010, seed=3, turn=turn, now=now):
            case Ask(chosen, piece):
                assert chosen not in left
                assert there[chosen].has & missing & 1 << piece
                assert len(there[chosen].flights) < DEPTH
                assert all(flight.piece != piece for flight in there[chosen].flights)
                there[chosen].flights.append(Flight(piece, now))
            case Rest():
                waiting = {k: h for k, h in there.items() if h.flights}
                if not waiting:
                    break
                k = min(waiting, key=lambda k: _answers(waiting[k]))
                holder, now = there[k], max(now, _answers(waiting[k]))
                flight = holder.flights.pop(0)
                if holder.broken:
                    left.add(k)
                    holder.flights.clear()
                else:
                    holder.given += 1
                    missing &= ~(1 << flight.piece)
    assert missing & available == 0
    assert sum(holder.given for holder in honest) <= 2 * 12


def _answers(holder: Holder) -> float:
    return holder.flights[0].since + (STALL if holder.broken == "silent" else holder.seconds)


@pytest.mark.parametrize("count", [1, 17_000])
def test_a_large_blob_is_planned_as_well(count: int) -> None:
    missing = every_piece(count)
    sources = [Source(OWNER, missing), *(Source(key(str(n)), missing >> n, rate=FAST) for n in range(8))]
    assert isinstance(ask(missing, *sources), Ask)
