"""Which holder is asked for which piece: every piece arrives, the owner sends each about once."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnraise.contract.pieces import PIECE_BYTES, every_piece
from barnraise.network.blobs.piece_picker import (
    MAX_PIPELINE,
    HolderView,
    InFlight,
    NothingToPick,
    Pick,
    pick_next,
    pipeline_depth,
    share_of,
)
from tests.support.transfers import key

OWNER, ADA, BEN, CLEO = (key(name) for name in ("owner", "ada", "ben", "cleo"))
FAST, SLOW = 20.0 * PIECE_BYTES, 1.0 * PIECE_BYTES


def ask(
    missing: int, *holders: HolderView, share: int = 0, turn: int = 0, now: float = 0.0
) -> Pick | NothingToPick:
    return pick_next(missing, holders, OWNER, share=share, seed=7, turn=turn, now=now)


def in_flight(*pieces: int, since: float = 0.0) -> tuple[InFlight, ...]:
    return tuple(InFlight(piece, since) for piece in pieces)


# One decision


def test_the_owner_is_asked_first_for_what_only_it_has() -> None:
    chosen = ask(0b1111, HolderView(OWNER, 0b1111), HolderView(ADA, 0b0111, rate=FAST))
    assert chosen == Pick(OWNER, 3)


def test_others_are_asked_for_what_both_have() -> None:
    assert ask(0b1, HolderView(OWNER, 0b1, rate=FAST), HolderView(ADA, 0b1)) == Pick(ADA, 0)


def test_the_owner_helps_where_others_are_busy_and_slower() -> None:
    owner = HolderView(OWNER, 0b111, rate=FAST)
    slow = HolderView(ADA, 0b111, in_flight(0), free=0, rate=SLOW)
    quick = HolderView(BEN, 0b111, in_flight(1), free=0, rate=2 * FAST)
    assert isinstance(ask(0b111, owner, slow), Pick)
    assert ask(0b111, owner, slow, quick) == NothingToPick()


def test_the_fastest_is_asked_first_and_the_rarest_piece() -> None:
    fast, slow = HolderView(BEN, 0b110, rate=FAST), HolderView(ADA, 0b011, rate=SLOW)
    assert ask(0b111, slow, fast) == Pick(BEN, 2)


def test_a_node_requests_its_share_from_the_owner_first() -> None:
    assert {ask(0b1111, HolderView(OWNER, 0b1111), share=0b0100, turn=turn) for turn in range(20)} == {
        Pick(OWNER, 2)
    }
    assert isinstance(ask(0b1011, HolderView(OWNER, 0b1111), share=0b0100), Pick), "and then the other pieces"


def test_ties_differ_by_turn() -> None:
    assert len({ask(every_piece(50), HolderView(ADA, every_piece(50)), turn=turn) for turn in range(30)}) > 10


def test_a_last_resort_is_asked_only_for_what_no_other_holder_has() -> None:
    bad = HolderView(ADA, 0b11, rate=FAST, last_resort=True)
    assert ask(0b01, HolderView(BEN, 0b01, in_flight(5), free=0), bad) == NothingToPick()
    assert ask(0b11, HolderView(BEN, 0b01), bad) == Pick(BEN, 0)
    assert ask(0b10, HolderView(BEN, 0b01), bad) == Pick(ADA, 1)
    assert ask(0b10, HolderView(OWNER, 0b10, last_resort=True)) == Pick(OWNER, 1)


def test_a_late_piece_is_requested_once_more() -> None:
    stuck, idle = HolderView(ADA, 0b1, in_flight(0), rate=FAST), HolderView(BEN, 0b1, rate=FAST)
    assert ask(0b1, stuck, idle, now=0.01) == NothingToPick()
    assert ask(0b1, stuck, idle, now=5.0) == Pick(BEN, 0)
    twice = HolderView(BEN, 0b1, in_flight(0, since=5.0), rate=FAST)
    assert ask(0b1, stuck, twice, HolderView(CLEO, 0b1, rate=FAST), now=9.0) == NothingToPick(), (
        "but not a third time"
    )


def test_no_piece_is_requested_twice_while_others_are_wanted() -> None:
    stuck, busy = HolderView(ADA, 0b01, in_flight(0)), HolderView(BEN, 0b11, free=0, rate=FAST)
    assert ask(0b11, stuck, busy, HolderView(CLEO, 0b01, rate=FAST), now=99.0) == NothingToPick()


@given(st.integers(0, 40), st.integers(1, 8))
def test_shares_divide_the_pieces(count: int, n: int) -> None:
    keys = [key(str(number)) for number in range(n)]
    shares = [share_of(each, keys, count) for each in keys]
    assert sum(shares) == every_piece(count), "all, and none twice"
    assert max(bin(s).count("1") for s in shares) - min(bin(s).count("1") for s in shares) <= 1


@given(st.none() | st.floats(0, 1e9))
def test_slow_holders_get_few_requests(rate: float | None) -> None:
    assert 1 <= pipeline_depth(rate) <= MAX_PIPELINE


# A whole download


@dataclass
class Holder:
    has: int
    seconds: float
    """Per piece."""
    broken: str = ""
    """`junk`, `silent`, or empty for an honest holder."""
    in_flight: list[InFlight] = field(default_factory=list)
    served: int = 0


holders = st.builds(Holder, has=st.integers(0, 2**12 - 1), seconds=st.sampled_from([0.05, 0.3, 2.0]))
faulty = st.builds(
    Holder, has=st.integers(1, 2**12 - 1), seconds=st.just(0.05), broken=st.sampled_from(["junk", "silent"])
)
STALL = 20.0


@settings(deadline=None)
@given(st.lists(holders, min_size=1, max_size=5), st.lists(faulty, max_size=3))
def test_every_piece_of_an_honest_holder_arrives(honest: list[Holder], broken: list[Holder]) -> None:
    """With slow and faulty holders too; none is asked for a piece that it lacks, or after a fault."""
    by_key = {OWNER if not place else key(str(place)): holder for place, holder in enumerate(honest + broken)}
    available = 0
    for holder in honest:
        available |= holder.has
    missing, now, dropped = every_piece(12), 0.0, set()
    for turn in range(2000):
        views = [
            HolderView(
                k,
                h.has,
                tuple(h.in_flight),
                MAX_PIPELINE - len(h.in_flight),
                PIECE_BYTES / h.seconds if h.served else None,
            )
            for k, h in by_key.items()
            if k not in dropped
        ]
        match pick_next(missing, views, OWNER, share=0b1010, seed=3, turn=turn, now=now):
            case Pick(chosen, piece):
                assert chosen not in dropped
                assert by_key[chosen].has & missing & 1 << piece
                assert len(by_key[chosen].in_flight) < MAX_PIPELINE
                assert all(flight.piece != piece for flight in by_key[chosen].in_flight)
                by_key[chosen].in_flight.append(InFlight(piece, now))
            case NothingToPick():
                waiting = {k: h for k, h in by_key.items() if h.in_flight}
                if not waiting:
                    break
                k = min(waiting, key=lambda k: _answers(waiting[k]))
                holder, now = by_key[k], max(now, _answers(waiting[k]))
                flight = holder.in_flight.pop(0)
                if holder.broken:
                    dropped.add(k)
                    holder.in_flight.clear()
                else:
                    holder.served += 1
                    missing &= ~(1 << flight.piece)
    assert missing & available == 0
    assert sum(holder.served for holder in honest) <= 2 * 12


def _answers(holder: Holder) -> float:
    return holder.in_flight[0].since + (STALL if holder.broken == "silent" else holder.seconds)


@pytest.mark.parametrize("count", [1, 17_000])
def test_a_large_blob_is_picked_from(count: int) -> None:
    missing = every_piece(count)
    views = [
        HolderView(OWNER, missing),
        *(HolderView(key(str(n)), missing >> n, rate=FAST) for n in range(8)),
    ]
    assert isinstance(ask(missing, *views), Pick)
