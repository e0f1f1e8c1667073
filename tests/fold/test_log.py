"""The log: every close is checked before it is folded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from barnraise.contract.records import Commit
from barnraise.contract.spec import Dense, Sgd
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Tip, genesis_tip
from barnraise.core.errors import BadSignature, MalformedBlob, MalformedRecord, StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Round, StateHash, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.fold.codec import encode_in_place
from barnraise.fold.fold import fold
from barnraise.fold.log import advance, check_blob, check_link, check_next
from tests.support.parts import (
    ADA,
    AUTHORITY,
    BEN,
    HASH_A,
    HASH_B,
    LAYOUT,
    charter,
    close,
    commit,
    run_spec,
    state,
    tensors,
)

SPEC = run_spec(Dense(bits=4, block=16), Sgd(lr=0.5, momentum=0.9))
GENESIS = state(0)
CHARTER = charter(SPEC, GENESIS)
START = genesis_tip(CHARTER)


def contribute(owner: Identity, tip: Tip, seed: int) -> tuple[Signed[Commit], bytes]:
    blob = bytes(encode_in_place(SPEC.codec, tensors(seed, scale=0.01), LAYOUT))
    made = commit(
        owner, round=tip.round, base=tip.state, blob=blob_hash(blob), size=len(blob), tokens=10 + seed
    )
    return sign(owner, made), blob


def closed(tip: Tip) -> tuple[bytes, list[bytes]]:
    """A close that continues from `tip`, and its blobs."""
    parts = [contribute(ADA, tip, 2 * tip.round + 1), contribute(BEN, tip, 2 * tip.round + 2)]
    wire = close([signed for signed, _ in parts], previous=tip.previous).wire
    return wire, [blob for _, blob in parts]


def follow(rounds: int) -> tuple[Tip, TrainState]:
    tip, current = START, GENESIS
    for _ in range(rounds):
        wire, blobs = closed(tip)
        tip, current = advance(tip, current, check_link(wire, CHARTER, tip.round), blobs, CHARTER)
    return tip, current


def test_the_log_starts_at_the_spec_and_the_first_state() -> None:
    assert Tip(Round(0), BlobHash(SPEC.digest()), GENESIS.hash()) == START


def test_a_follower_folds_each_close() -> None:
    wire, blobs = closed(START)
    link = check_link(wire, CHARTER, START.round)
    tip, after = advance(START, GENESIS, link, blobs, CHARTER)
    parts = [check_blob(c, b, CHARTER, LAYOUT) for c, b in zip(link.commits, blobs, strict=True)]
    expected = fold(GENESIS, parts, SPEC)
    assert after.hash() == expected.hash() == tip.state
    assert (tip.round, tip.previous) == (1, blob_hash(wire))


def test_two_followers_have_the_same_tip() -> None:
    assert follow(4)[0] == follow(4)[0]
    assert follow(4)[0].round == 4


def test_a_follower_continues_from_a_checkpoint() -> None:
    tip, current = follow(2)
    for _ in range(2):
        wire, blobs = closed(tip)
        tip, current = advance(tip, current, check_link(wire, CHARTER, tip.round), blobs, CHARTER)
    assert tip == follow(4)[0]


@pytest.mark.parametrize(
    ("tip", "why"),
    [
        (Tip(Round(0), START.previous, StateHash(HASH_A)), "starts from state"),
        (Tip(Round(0), BlobHash(HASH_B), START.state), "does not continue"),
        (Tip(Round(1), START.previous, START.state), "does not continue"),
    ],
)
def test_a_link_that_does_not_continue_the_chain_is_a_state_error(tip: Tip, why: str) -> None:
    link = check_link(closed(START)[0], CHARTER, Round(0))
    with pytest.raises(StateError, match=why):
        check_next(tip, link)


def test_a_close_for_another_round_is_refused() -> None:
    with pytest.raises(MalformedRecord):
        check_link(closed(START)[0], CHARTER, Round(1))


def test_any_flipped_byte_of_a_close_is_refused() -> None:
    wire = closed(START)[0]
    for place in range(0, len(wire), 7):
        broken = bytearray(wire)
        broken[place] ^= 1 << place % 8
        with pytest.raises((BadSignature, MalformedRecord)):
            check_link(bytes(broken), CHARTER, Round(0))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda blob: blob[:-1],
        lambda blob: blob + b"\0",
        lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]),
        lambda _: b"",
    ],
    ids=["short", "long", "changed", "empty"],
)
def test_another_blob_than_the_commit_names_stops_the_fold(spoil: Callable[[bytes], bytes]) -> None:
    wire, blobs = closed(START)
    with pytest.raises(MalformedBlob, match="not the one that its commit names"):
        advance(START, GENESIS, check_link(wire, CHARTER, Round(0)), [blobs[0], spoil(blobs[1])], CHARTER)


def test_a_malformed_blob_stops_the_fold() -> None:
    noise = b"x" * 50
    signed = sign(ADA, commit(ADA, base=START.state, blob=blob_hash(noise), size=50))
    link = check_link(close([signed], previous=START.previous).wire, CHARTER, Round(0))
    with pytest.raises(MalformedBlob):
        advance(START, GENESIS, link, [noise], CHARTER)


def test_only_the_authority_closes() -> None:
    signed, _ = contribute(ADA, START, 1)
    wire = close([signed], previous=START.previous, by=ADA).wire
    with pytest.raises(BadSignature):
        check_link(wire, CHARTER, Round(0))
    assert CHARTER.authority_key == AUTHORITY.public
