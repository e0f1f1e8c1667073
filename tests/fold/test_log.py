"""The log: every close is checked before it is folded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from barnraise.contract.certificates import Authorities, certify, check_certificate
from barnraise.contract.close_rules import fold_order
from barnraise.contract.double_signing import contradict, open_proof, proof_of
from barnraise.contract.log_entries import Delegation, NeedsNewer, Resume, parse_entry, vote_on
from barnraise.contract.records import Commit
from barnraise.contract.spec import Dense, Sgd
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip, genesis_tip
from barnraise.core.errors import BadSignature, MalformedBlob, MalformedRecord, NewerVersion, StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Round, StateHash, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.fold.codec import encode_in_place
from barnraise.fold.fold import fold
from barnraise.fold.log import (
    Link,
    advance,
    amended,
    certified,
    check_blob,
    check_step,
    contributions_of,
    read_step,
)
from tests.support.parts import (
    ADA,
    AUTHORITY,
    BEN,
    HASH_A,
    HASH_B,
    LAYOUT,
    STRANGER,
    amendment,
    charter,
    commit,
    link,
    run_spec,
    state,
    tensors,
    votes,
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


def closed(tip: Tip, **other: object) -> tuple[Link, list[bytes]]:
    """A close that continues from `tip`, and its blobs."""
    owners = sorted((ADA, BEN), key=lambda owner: fold_order(0, tip.round, owner.public))
    parts = [contribute(owner, tip, 2 * tip.round + 1 + n) for n, owner in enumerate(owners)]
    place = {"epoch": tip.epoch, "height": tip.position.height} | other
    found = link([signed for signed, _ in parts], previous=tip.previous, **place)
    return found, [blob for _, blob in parts]


def follow(rounds: int) -> tuple[Tip, TrainState]:
    tip, current = START, GENESIS
    for _ in range(rounds):
        step, blobs = closed(tip)
        tip, current = advance(tip, current, step, blobs, CHARTER)
    return tip, current


def test_the_log_starts_at_the_charter_and_the_first_state() -> None:
    assert Tip(Position(Round(0), BlobHash(CHARTER.digest)), GENESIS.hash()) == START


def test_a_follower_folds_each_close() -> None:
    step, blobs = closed(START)
    tip, after = advance(START, GENESIS, step, blobs, CHARTER)
    decoders = [check_blob(c, b, CHARTER, LAYOUT) for c, b in zip(step.commits, blobs, strict=True)]
    parts = contributions_of(START.position, step, decoders, SPEC)
    expected = fold(GENESIS, parts, SPEC)
    assert after.hash() == expected.hash() == tip.state
    assert (tip.round, tip.previous) == (1, blob_hash(step.close.payload))


def test_two_followers_have_the_same_tip() -> None:
    assert follow(4)[0] == follow(4)[0]
    assert follow(4)[0].round == 4


def test_a_follower_continues_from_a_checkpoint() -> None:
    tip, current = follow(2)
    for _ in range(2):
        step, blobs = closed(tip)
        tip, current = advance(tip, current, step, blobs, CHARTER)
    assert tip == follow(4)[0]


@pytest.mark.parametrize(
    "other",
    [{"previous": HASH_B}, {"height": 1}, {"epoch": 1}, {"round": 1}],
    ids=lambda other: next(iter(other)),
)
def test_a_close_that_does_not_continue_the_chain_is_a_state_error(other: dict[str, Any]) -> None:
    step = closed(START)[0]
    entry = step.close.model_copy(update=other)
    with pytest.raises(StateError):
        check_step(START.position, Link(entry, step.commits, votes(entry)), CHARTER)


def test_a_close_from_another_state_is_a_state_error() -> None:
    step, blobs = closed(START)
    other = Tip(START.position, StateHash(HASH_A))
    with pytest.raises(StateError):
        advance(other, GENESIS, step, blobs, CHARTER)


def test_any_flipped_byte_of_a_close_is_refused() -> None:
    step = closed(START)[0]
    payload = step.close.payload
    for place in range(0, len(payload), 7):
        broken = bytearray(payload)
        broken[place] ^= 1 << place % 8
        with pytest.raises((BadSignature, MalformedRecord, NewerVersion)):
            check_step(START.position, read_step(bytes(broken), step.certificate, CHARTER), CHARTER)


@pytest.mark.parametrize("field", ["run", "epoch", "height", "round", "kind", "entry", "ballot"])
def test_a_certificate_vouches_for_one_entry_at_one_place(field: str) -> None:
    """Each field of a vote is signed."""
    vote = vote_on(closed(START)[0].close, 0)
    value = getattr(vote, field)
    other = HASH_B if field == "entry" else value + 1 if isinstance(value, int) else "other"
    certificate = certify([AUTHORITY], vote.model_copy(update={field: other}))
    with pytest.raises(BadSignature):
        check_certificate(vote, certificate, Authorities((AUTHORITY.public,)))


def test_an_entry_of_another_run_is_refused() -> None:
    step = closed(START, run="other")[0]
    with pytest.raises(MalformedRecord):
        read_step(step.close.payload, step.certificate, CHARTER)


# Delegations and resumes


def test_after_a_delegation_a_majority_of_the_closers_certifies_from_the_next_round_on() -> None:
    closers = sorted((ADA, BEN, STRANGER), key=lambda closer: closer.public)
    named = amendment(Delegation, START.position, closers=tuple(closer.public for closer in closers))
    tip = amended(START, named, CHARTER)
    tip, current = advance(tip, GENESIS, *closed(tip), CHARTER)
    step, blobs = closed(tip)
    with pytest.raises(BadSignature):
        advance(tip, current, step, blobs, CHARTER)
    for by, ok in (
        ((ADA,), False),
        ((ADA, BEN), True),
        ((ADA, AUTHORITY), False),
        ((ADA, BEN, STRANGER), True),
    ):
        voted = replace(step, certificate=votes(step.close, *by, ballot=3))
        if ok:
            assert advance(tip, current, voted, blobs, CHARTER)[0].round == 2
        else:
            with pytest.raises(BadSignature):
                advance(tip, current, voted, blobs, CHARTER)


def test_a_resume_begins_an_epoch_in_which_the_run_key_closes_alone() -> None:
    tip, current = follow(2)
    delegated = amended(tip, amendment(Delegation, tip.position, closers=(ADA.public,)), CHARTER)
    resumed = amended(delegated, amendment(Resume, delegated.position), CHARTER)
    assert (resumed.epoch, resumed.round, resumed.state) == (1, 2, tip.state)
    assert resumed.position.authorities(AUTHORITY.public).keys == (AUTHORITY.public,)
    assert advance(resumed, current, *closed(resumed), CHARTER)[0].round == 3


@pytest.mark.parametrize("by", [ADA, STRANGER])
def test_only_the_run_key_resumes(by: Identity) -> None:
    step = amendment(Resume, START.position)
    with pytest.raises(BadSignature):
        amended(START, replace(step, certificate=votes(step.entry, by)), CHARTER)


def test_a_resume_has_a_later_epoch() -> None:
    with pytest.raises(StateError):
        amended(START, amendment(Resume, START.position, epoch=0), CHARTER)
    assert amended(START, amendment(Resume, START.position, epoch=7), CHARTER).epoch == 7


# Entries of a newer version


def newer(**other: object) -> bytes:
    """An entry of the kind `ban`, which this version does not know."""
    fields = json.loads(amendment(Resume, START.position).entry.payload)
    return json.dumps(fields | {"kind": "ban", "needs": "7.1", "who": ADA.public} | other).encode()


@pytest.mark.parametrize("other", [{}, {"kind": "resume", "version": 2}], ids=["kind", "version"])
def test_a_certified_entry_of_a_newer_version_names_it(other: dict[str, object]) -> None:
    entry = parse_entry(newer(**other))
    assert isinstance(entry, NeedsNewer)
    step = read_step(newer(**other), votes(entry), CHARTER)
    with pytest.raises(NewerVersion) as caught:
        check_step(START.position, step, CHARTER)
    assert caught.value.release == "7.1"
    with pytest.raises(BadSignature):
        check_step(START.position, read_step(newer(**other), votes(entry, ADA), CHARTER), CHARTER)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b"[" * 5000, b"\xff", newer(epoch=-1), newer(needs="x"), newer(previous="1"),
        closed(START)[0].close.payload + b" ", b" " + closed(START)[0].close.payload,
        closed(START)[0].close.payload.replace(b'"epoch":0', b'"epoch":0,"epoch":0'),
        closed(START)[0].close.payload[:-1] + b',"more":1}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_canonical_entry_are_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedRecord):
        parse_entry(payload)


# Double signing


def test_two_closes_of_a_round_in_one_epoch_are_a_proof() -> None:
    ours, theirs = closed(START)[0], closed(START, reason="another one")[0]
    proof = proof_of(certified(ours), certified(theirs))
    authorities = Authorities((AUTHORITY.public,))
    assert open_proof(proof.payload, run=CHARTER.run, authorities=authorities) == proof
    assert proof_of(certified(theirs), certified(ours)) == proof
    with pytest.raises(BadSignature):
        open_proof(proof.payload, run=CHARTER.run, authorities=Authorities((ADA.public,)))
    with pytest.raises(MalformedRecord):
        open_proof(proof.payload, run="other", authorities=authorities)
    with pytest.raises(MalformedRecord):
        open_proof(proof.payload[:-1], run=CHARTER.run, authorities=authorities)


@pytest.mark.parametrize(
    ("other", "contradicts"),
    [
        ({}, False),
        ({"entry": HASH_B}, True),
        ({"entry": HASH_B, "epoch": 1}, False),
        ({"entry": HASH_B, "height": 5}, True),
        ({"entry": HASH_B, "height": 5, "round": 5}, False),
        ({"entry": HASH_B, "round": 5}, True),
        ({"entry": HASH_B, "height": 5, "kind": "delegation"}, False),
        ({"entry": HASH_B, "run": "other"}, False),
    ],
)
def test_which_entries_contradict_each_other(other: dict[str, object], contradicts: bool) -> None:
    vote = vote_on(closed(START)[0].close, 0)
    assert contradict(vote, vote.model_copy(update=other)) is contradicts


def test_two_resumes_of_one_epoch_contradict_each_other() -> None:
    first = vote_on(amendment(Resume, START.position).entry, 0)
    second = vote_on(amendment(Resume, follow(2)[0].position).entry, 0)
    assert contradict(first, second)


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
    step, blobs = closed(START)
    with pytest.raises(MalformedBlob, match="not the one that its commit names"):
        advance(START, GENESIS, step, [blobs[0], spoil(blobs[1])], CHARTER)


def test_a_malformed_blob_stops_the_fold() -> None:
    noise = b"x" * 50
    signed = sign(ADA, commit(ADA, base=START.state, blob=blob_hash(noise), size=50))
    with pytest.raises(MalformedBlob):
        advance(START, GENESIS, link([signed], previous=START.previous), [noise], CHARTER)


def test_only_the_authority_closes() -> None:
    step, blobs = closed(START)
    with pytest.raises(BadSignature):
        advance(START, GENESIS, replace(step, certificate=votes(step.close, ADA)), blobs, CHARTER)
    assert CHARTER.authority_key == AUTHORITY.public
