"""What is new to a node, where it forwards it, and how rarely it polls."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.heartbeat import MISSED, heartbeat_seconds, part_of, parts_for
from barnraise.contract.records import Presence, Record
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.network import gossip_policy
from barnraise.network.gossip_policy import (
    FAN_OUT,
    MAX_ANSWERS_PER_SECOND,
    MAX_VOLUNTEERS,
    VERSIONS,
    WORKING_FAN_OUT,
    Novelty,
    RecordCache,
    forward_targets,
    poll_interval,
)
from barnraise.network.timing import TIMING
from tests.support import parts

KEYS = [Identity.from_seed(n.to_bytes(32, "big")) for n in range(100, 120)]
BEAT = 5.0


def head(round: int, at: int = parts.NOW) -> Signed[Record]:
    return sign(parts.AUTHORITY, parts.head(round=round, at=at))


def presence(of: Identity, at: int = parts.NOW) -> Presence:
    return parts.presence(of, at=at)


def commit(of: Identity, round: int, tokens: int = 7) -> Signed[Record]:
    return sign(of, parts.commit(of, round=round, tokens=tokens))


# Novelty


def test_the_newest_head_counts() -> None:
    known = RecordCache()
    seen = [
        known.receive(head(round, at), parts.NOW)
        for round, at in [(3, 10), (4, 20), (4, 20), (3, 15), (5, 21)]
    ]
    assert seen == [Novelty.NEW, Novelty.NEW, Novelty.DUPLICATE, Novelty.STALE, Novelty.NEW]
    assert known.head is not None
    assert known.head.round == 5


def test_the_newest_heartbeat_counts_until_it_is_too_old() -> None:
    known = RecordCache()
    for at, novelty in [
        (0, Novelty.NEW),
        (9000, Novelty.NEW),
        (9000, Novelty.DUPLICATE),
        (5000, Novelty.STALE),
    ]:
        assert known.receive(sign(parts.ADA, presence(parts.ADA, parts.NOW + at)), parts.NOW) is novelty
    bens: Signed[Record] = sign(parts.BEN, presence(parts.BEN, parts.NOW + 60_000))
    assert known.receive(bens, Millis(parts.NOW + 60_000)) is Novelty.NEW
    later = parts.NOW + 9000 + int(MISSED * BEAT * 1000)
    assert {p.owner for p in known.present(Millis(later))} == {parts.ADA.public, parts.BEN.public}
    assert {p.owner for p in known.present(Millis(later + 1))} == {parts.BEN.public}


def test_a_heartbeat_from_the_future_does_not_hide_the_next_ones() -> None:
    known, beats = RecordCache(), int(MISSED * BEAT * 1000)
    for at, novelty in [(beats + 1, Novelty.STALE), (beats, Novelty.NEW), (beats + 1, Novelty.STALE)]:
        assert known.receive(sign(parts.ADA, presence(parts.ADA, parts.NOW + at)), parts.NOW) is novelty


@pytest.mark.parametrize(
    ("open_round", "round", "novelty"),
    [
        (5, 3, Novelty.STALE),
        (5, 4, Novelty.NEW),
        (5, 5, Novelty.NEW),
        (5, 6, Novelty.NEW),
        (5, 7, Novelty.STALE),
    ],
)
def test_commits_count_around_their_round(open_round: int, round: int, novelty: Novelty) -> None:
    known = RecordCache()
    known.receive(head(open_round), parts.NOW)
    assert known.receive(commit(parts.ADA, round), parts.NOW) is novelty
    assert bool(known.commits(Round(round))) is (novelty is Novelty.NEW)


def test_the_commit_announced_last_counts() -> None:
    known, first, second = RecordCache(), commit(parts.ADA, 1, tokens=7), commit(parts.ADA, 1, tokens=8)
    known.receive(commit(parts.BEN, 1), parts.NOW)

    def adas() -> list[int]:
        return [c.value.tokens for c in known.commits(Round(1)) if c.signer == parts.ADA.public]

    assert (known.receive(first, parts.NOW), adas()) == (Novelty.NEW, [7])
    assert (known.receive(second, parts.NOW), adas()) == (Novelty.NEW, [8])
    assert (known.receive(first, parts.NOW), adas()) == (Novelty.DUPLICATE, [7])
    assert len(known.commits(Round(1))) == 2


def test_versions_of_one_commit_are_limited() -> None:
    known = RecordCache()
    received = [known.receive(commit(parts.ADA, 1, tokens), parts.NOW) for tokens in range(1, VERSIONS + 3)]
    assert received == [Novelty.NEW] * VERSIONS + [Novelty.STALE] * 2


def test_commits_of_past_rounds_are_dropped() -> None:
    known = RecordCache()
    known.receive(commit(parts.ADA, 0), parts.NOW)
    known.receive(commit(parts.ADA, 1), parts.NOW)
    known.receive(head(2), parts.NOW)
    assert (known.commits(Round(0)), len(known.commits(Round(1)))) == ([], 1)


def owners(known: RecordCache) -> set[str]:
    return {*known._present}


def test_who_is_present_keeps_its_place() -> None:
    assert MAX_VOLUNTEERS >= 1000
    known, beats = RecordCache(limit=2), round(MISSED * BEAT * 1000)
    for who, at in [(parts.ADA, 0), (parts.BEN, 1), (parts.ADA, 2), (parts.STRANGER, 3)]:
        known.receive(sign(who, presence(who, parts.NOW + at)), parts.NOW)
    assert owners(known) == {parts.ADA.public, parts.BEN.public}
    later = Millis(parts.NOW + beats + 2)  # Ben has fallen silent
    known.receive(sign(parts.STRANGER, presence(parts.STRANGER, later)), later)
    assert owners(known) == {parts.ADA.public, parts.STRANGER.public}


def test_a_trusted_volunteer_takes_the_place_of_another_one() -> None:
    trusted = {who.public for who in KEYS[:3]}
    known = RecordCache(limit=2, trusts=trusted.__contains__)
    novelties = [
        known.receive(sign(who, presence(who)), parts.NOW) for who in (parts.ADA, parts.BEN, *KEYS[:3])
    ]
    assert novelties == [Novelty.NEW] * 4 + [Novelty.STALE], "the last one finds only trusted ones"
    assert owners(known) == {who.public for who in KEYS[:2]}


def test_volunteers_that_fell_silent_are_forgotten() -> None:
    known, later = RecordCache(), Millis(parts.NOW + round(2 * MISSED * BEAT * 1000) + 1)
    for who in KEYS:
        known.receive(sign(who, presence(who)), parts.NOW)
    for who in KEYS[:10]:
        known.receive(sign(who, presence(who, later)), later)
    assert {*known._present} == {who.public for who in KEYS[:10]}


def test_the_number_of_commits_to_a_round_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_policy, "MAX_COMMITS", 3)
    known = RecordCache(trusts={KEYS[0].public}.__contains__)

    def receive(who: Identity, tokens: int = 7) -> Novelty:
        return known.receive(commit(who, 0, tokens), parts.NOW)

    assert [receive(parts.ADA), receive(parts.ADA, 8), receive(parts.BEN)] == [Novelty.NEW] * 3
    assert receive(parts.BEN, 8) is Novelty.STALE
    assert receive(parts.STRANGER) is Novelty.NEW, "in the place of an older one of an owner with two"
    assert [receive(parts.ADA), receive(KEYS[1])] == [Novelty.STALE] * 2
    assert receive(parts.ADA, 8) is Novelty.DUPLICATE, "its newest one is kept"
    assert receive(KEYS[0]) is Novelty.NEW
    others = {parts.BEN.public, parts.STRANGER.public}
    assert known.contributing == {*others, KEYS[0].public}, "it has the place of another one's"
    assert receive(KEYS[0], 8) is Novelty.NEW
    assert [receive(KEYS[1]), receive(parts.STRANGER)] == [Novelty.STALE, Novelty.DUPLICATE], (
        "a trusted key keeps both of its commits"
    )


# Forwarding


def first_ones(keys: list[PublicKey], count: int) -> list[PublicKey]:
    return keys[:count]


def targets_of(
    own: Identity, record: Record, novelty: Novelty = Novelty.NEW, present: Sequence[Identity] = KEYS
) -> set[str]:
    found = forward_targets(
        record,
        novelty,
        own=own.public,
        counting={parts.AUTHORITY.public},
        present=[presence(who) for who in present],
        draw=first_ones,
        signer=parts.AUTHORITY.public,
    )
    assert len(set(found)) == len(found)
    return set(found)


def public(*who: Identity) -> set[str]:
    return {each.public for each in who}


@pytest.mark.parametrize("novelty", Novelty)
def test_a_heartbeat_goes_to_the_coordinator_alone(novelty: Novelty) -> None:
    assert targets_of(KEYS[0], presence(KEYS[0]), novelty) == public(parts.AUTHORITY)
    assert targets_of(parts.AUTHORITY, presence(KEYS[0]), novelty) == set()
    assert targets_of(KEYS[1], presence(KEYS[0]), novelty) == set()


def test_a_commit_goes_to_the_coordinator_each_time_and_to_others_once() -> None:
    mine = commit(KEYS[0], 1).value
    assert targets_of(KEYS[0], mine) == public(parts.AUTHORITY, *KEYS[1 : FAN_OUT + 1])
    assert targets_of(KEYS[0], mine, Novelty.DUPLICATE) == public(parts.AUTHORITY)
    assert targets_of(KEYS[2], mine) == public(KEYS[1], *KEYS[3 : FAN_OUT + 2]), (
        "neither to its owner nor to itself"
    )
    assert targets_of(parts.AUTHORITY, mine) == public(*KEYS[1 : FAN_OUT + 1])
    assert targets_of(KEYS[2], mine, Novelty.DUPLICATE) == targets_of(KEYS[2], mine, Novelty.STALE) == set()


def test_a_head_is_forwarded_to_volunteers() -> None:
    record = head(1).value
    assert targets_of(parts.AUTHORITY, record) == public(*KEYS[:FAN_OUT])
    assert targets_of(KEYS[0], record) == public(*KEYS[1 : FAN_OUT + 1])
    assert targets_of(KEYS[0], record, Novelty.DUPLICATE) == set()
    assert targets_of(KEYS[0], record, present=KEYS[:3]) == public(*KEYS[1:3])


def test_where_most_only_send_heartbeats_those_that_contribute_get_a_head_too() -> None:
    silent, working = KEYS[:10], KEYS[10:13]
    found = forward_targets(
        head(1).value,
        Novelty.NEW,
        own=PublicKey(parts.AUTHORITY.public),
        counting=set(),
        present=[presence(who) for who in (*silent, *working)],
        draw=first_ones,
        signer=PublicKey(parts.AUTHORITY.public),
        contributing={PublicKey(who.public) for who in working},
    )
    assert set(found) == public(*silent[:FAN_OUT], *working[:WORKING_FAN_OUT])
    known = RecordCache()
    known.receive(commit(parts.ADA, 1), parts.NOW)
    assert known.contributing == {parts.ADA.public}


@pytest.mark.parametrize("volunteers", [3, 20, 100, 1000])
def test_nearly_all_nodes_receive_a_head_within_a_few_hops(volunteers: int) -> None:
    """Each knows as many others as an entry of the DHT lists, drawn at random."""
    draw = random.Random(0)
    keys = [PublicKey(f"{n:064x}") for n in range(volunteers)]
    blank = presence(parts.ADA)
    presences = {key: blank.model_copy(update={"owner": key}) for key in keys}
    listed = -(-volunteers // parts_for(volunteers))
    received = {PublicKey(parts.AUTHORITY.public)}
    sending, hops = set(received), 0
    while sending:
        hops += 1
        targets: set[PublicKey] = set()
        for own in sorted(sending):
            known = keys if own == parts.AUTHORITY.public else draw.sample(keys, listed)
            targets |= set(
                forward_targets(
                    head(1).value,
                    Novelty.NEW,
                    own=own,
                    counting={parts.AUTHORITY.public},
                    present=[presences[key] for key in known],
                    draw=draw.sample,
                    signer=parts.AUTHORITY.public,
                )
            )
        sending = targets - received
        received |= targets
    assert volunteers - (len(received) - 1) <= max(1, 0.02 * volunteers)
    assert hops <= 8


# Polling


@given(volunteers=st.integers(1, 5000), contributions=st.integers(1, 100))
def test_the_answers_of_a_node_are_bounded(volunteers: int, contributions: int) -> None:
    """At any size of the swarm: for the head, for a list of volunteers and for a round's commits."""
    entries = parts_for(volunteers)
    listed = -(-volunteers // entries)
    for readers, records in [(volunteers, 1), (listed, listed), (volunteers, contributions)]:
        seconds = poll_interval(readers, records)
        assert seconds >= TIMING.min_poll
        assert readers * records / seconds <= MAX_ANSWERS_PER_SECOND + 1e-9
    expiry = MISSED * heartbeat_seconds(volunteers)
    assert poll_interval(listed, listed) <= expiry / 3, "heartbeats are read again before they expire"


@given(volunteers=st.integers(0, 5000))
def test_an_entry_lists_8_to_16_volunteers(volunteers: int) -> None:
    entries = parts_for(volunteers)
    assert entries & (entries - 1) == 0
    assert volunteers / entries <= 16
    assert entries == 1 or volunteers / entries > 8


def test_a_volunteer_is_listed_where_its_key_says() -> None:
    found = {dht_key_of(presence(who).model_copy(update={"parts": 4})).key for who in KEYS}
    assert found == {f"{parts.RUN}/peers/4/{part}" for part in range(4)}
    assert all(part_of(who.public, 1) == 0 for who in KEYS)
