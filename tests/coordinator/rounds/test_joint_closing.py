"""Three closers with real run stores close rounds together, and one that was away follows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.consensus.lies import LieKind, open_lie
from barnraise.consensus.statements import VoteMessage
from barnraise.consensus.wire import encode
from barnraise.contract.archive import PROOFS
from barnraise.contract.certificates import Vote
from barnraise.contract.entry_order import with_order
from barnraise.contract.records import blob_name
from barnraise.contract.run_keys import name_successor
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.signed import sign
from coordinator.rounds.delegating import Delegating, request_closers
from coordinator.rounds.joint_closing import LogIsVoid
from coordinator.run_folder import ARCHIVE, DELEGATION
from coordinator.store.next_entry import decay_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_state import CoordinatorAddresses
from tests.support import parts
from tests.support.closing_hub import (
    CLOSERS,
    Hub,
    delegate,
    enter,
    propose,
    states,
    three_closers,
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with three_closers(tmp_path) as made:
        yield made


def test_all_fold_what_the_coordinator_proposes(hub: Hub) -> None:
    propose(hub, CLOSERS[0])
    assert len(asyncio.run(hub.settle())) == 3
    assert len(set(states(hub))) == 1
    assert states(hub)[0][0] == 1
    opens = {store.snapshot.opens for store in hub.stores.values()}
    assert opens == {hub.now}, "the next round opens at the time of the close"


def test_a_follower_closes_while_the_coordinator_is_away_and_it_follows_later(hub: Hub) -> None:
    first, second, _ = CLOSERS
    hub.away = {first.public}
    for _ in range(2):
        propose(hub, second)
        hub.now += 60_000
        asyncio.run(hub.settle())
    assert [round for round, _ in states(hub)] == [0, 2, 2]
    hub.away = set()
    propose(hub, first)
    asyncio.run(hub.settle())
    asyncio.run(hub.settle())
    assert len(set(states(hub))) == 1
    assert states(hub)[0][0] == 2, "what it proposed at an older place is void"


def test_what_a_close_lists_is_kept_until_the_close_is_entered(hub: Hub) -> None:
    first, second = (identity.public for identity in CLOSERS[:2])
    propose(hub, CLOSERS[0])
    commits = [signed.value for signed in hub.stores[first].snapshot.accepted.values()]
    joint = hub.joints[second]
    asyncio.run(joint._fetch_all(commits, [first]))
    assert all(joint.lists(blob_name(commit)) for commit in commits)
    asyncio.run(hub.settle())
    assert not any(joint.lists(blob_name(commit)) for commit in commits)


def test_one_closer_alone_closes_nothing(hub: Hub) -> None:
    hub.away = {CLOSERS[1].public, CLOSERS[2].public}
    propose(hub, CLOSERS[0])
    assert asyncio.run(hub.settle()) == []


def test_a_candidate_that_nobody_else_can_check_gets_no_vote(hub: Hub) -> None:
    """Its contributions are nowhere else."""
    lone = hub.stores[CLOSERS[0].public]
    propose(hub, CLOSERS[0])
    for commit in lone.snapshot.accepted.values():
        lone.blobs.remove(BlobHash(commit.value.blob))
    for joint in hub.joints.values():
        joint.timing = replace(joint.timing, retry=0.0)
    assert asyncio.run(hub.settle()) == []


def test_a_closer_that_was_away_copies_the_log_from_a_volunteer(hub: Hub) -> None:
    """Of the others, who certified it, none is there."""
    first, second, third = CLOSERS
    hub.away = {third.public}
    propose(hub, first)
    asyncio.run(hub.settle())
    hub.away = {first.public, second.public}
    hub.stores[parts.ADA.public] = hub.stores.pop(first.public)
    newest = hub.joints[first.public].agreement.newest
    behind = hub.joints[third.public]
    assert behind.seeks
    assert newest is not None
    behind.learn(newest, parts.ADA.public)
    asyncio.run(hub.settle())
    assert [round for round, _ in states(hub)] == [1, 1, 1]
    behind.learn(newest, parts.ADA.public)
    assert asyncio.run(behind.next_steps([])) == []
    assert behind.seeks, "it is no news"


def test_an_end_that_nobody_serves_is_tried_again_after_a_pause(hub: Hub) -> None:
    first, _, third = CLOSERS
    hub.away = {third.public}
    propose(hub, first)
    asyncio.run(hub.settle())
    newest = hub.joints[first.public].agreement.newest
    behind, served = hub.joints[third.public], hub.stores.pop(first.public)
    hub.stores.pop(CLOSERS[1].public)
    assert newest is not None
    tries = []
    for later in (0, 0, 60_000):
        hub.now += later
        behind.learn(newest, first.public)
        tries.append(len(asyncio.run(behind.next_steps([]))))
        hub.stores[first.public] = served
    assert tries == [0, 0, 1]


def test_what_follows_a_resume_in_an_older_epoch_is_void(hub: Hub) -> None:
    first, second, third = CLOSERS
    hub.away = {first.public}
    propose(hub, second)
    hub.now += 60_000
    asyncio.run(hub.settle())
    hub.stores[first.public].resume(Millis(hub.now))
    hub.away = set()
    with pytest.raises(LogIsVoid):
        follow(hub, third, after=first)


def test_a_resume_at_our_place_is_followed(hub: Hub) -> None:
    first, _, third = CLOSERS
    propose(hub, first)
    asyncio.run(hub.settle())
    hub.stores[first.public].resume(Millis(hub.now))
    follow(hub, third, after=first)
    position = hub.stores[third.public].snapshot.position
    assert (position.epoch, position.closers) == (1, ())
    assert not hub.joints[third.public].may_lead


def test_the_closers_decide_who_closes_after_them(hub: Hub) -> None:
    first, second, third = CLOSERS
    delegate(hub, second.public)
    asyncio.run(hub.settle())
    propose(hub, first)
    asyncio.run(hub.settle())
    named = tuple(sorted((first.public, second.public)))
    for key, store in hub.stores.items():
        assert store.snapshot.round == 1
        assert store.snapshot.position.closers == named
        assert hub.joints[key].keys.signers.closers == set(named)
    assert not hub.joints[third.public].agreement.takes_part
    hub.away = {third.public}
    propose(hub, first)
    asyncio.run(hub.settle())
    assert [hub.stores[one.public].snapshot.round for one in CLOSERS] == [2, 2, 1]
    hub.away = set()
    follow(hub, third, after=first)
    assert len(set(states(hub))) == 1, "who closes no longer follows the heads"


def follow(hub: Hub, follower: Identity, after: Identity) -> None:
    """Enter what a head says."""
    run, joint = hub.stores[after.public].snapshot, hub.joints[follower.public]
    head = run.head(Millis(hub.now), CoordinatorAddresses(), turns=1, volunteers=0, tokens=0)
    enter(joint, asyncio.run(joint.next_steps([head])))


def roll_back(hub: Hub, to: int) -> None:
    """Have the coordinator propose a rollback."""
    store, joint = hub.stores[CLOSERS[0].public], hub.joints[CLOSERS[0].public]
    entry = rollback_to(to, (), "noise", store.snapshot, store.blobs.get, Millis(hub.now))
    joint.propose_amendment(with_order(entry, CLOSERS[0]))


def test_the_closers_agree_on_a_rollback_and_one_that_was_away_passes_void_rounds_over(hub: Hub) -> None:
    first, _, third = CLOSERS
    propose(hub, first)
    asyncio.run(hub.settle())
    wanted = states(hub)[0][1]
    hub.away = {third.public}
    for _ in range(2):
        propose(hub, first)
        asyncio.run(hub.settle())
    void = {name for blobs in hub.stores[first.public].snapshot.history.kept[1:] for name in blobs}
    roll_back(hub, 1)
    asyncio.run(hub.settle())
    assert states(hub)[:2] == [(4, wanted)] * 2
    assert all(name not in hub.stores[first.public].blobs for name in void), "nobody has them any more"
    propose(hub, first)
    asyncio.run(hub.settle())
    hub.away = set()
    follow(hub, third, after=first)
    assert len(set(states(hub))) == 1
    assert states(hub)[2][0] == 5


def test_the_closers_agree_on_a_decay_and_close_nothing_after_its_end(hub: Hub) -> None:
    first, second, third = CLOSERS
    store = hub.stores[first.public]
    entry = with_order(decay_of(store.snapshot, 1, parts.NOW), parts.AUTHORITY)
    hub.joints[first.public].propose_amendment(entry)
    asyncio.run(hub.settle())
    hub.away = {third.public}
    for _ in range(2):
        propose(hub, first)
        asyncio.run(hub.settle())
    assert [each.snapshot.ended_after for each in hub.stores.values()] == [2, 2, None]
    propose(hub, second)
    asyncio.run(hub.settle())
    assert [state[0] for state in states(hub)] == [2, 2, 0]
    hub.away = set()
    follow(hub, third, after=first)
    assert len(set(states(hub))) == 1
    positions = {each.snapshot.position for each in hub.stores.values()}
    assert len(positions) == 1
    assert hub.stores[third.public].snapshot.ended_after == 2


def test_a_head_that_names_another_successor_is_ignored(hub: Hub) -> None:
    joint = hub.joints[CLOSERS[0].public]
    known, other = ((name_successor(parts.RUN, 1, CLOSERS[0], key),) for key in (parts.ADA, parts.BEN))
    joint.keys.heard(0, known, parts.RUN)
    head = joint.store.snapshot.head(Millis(hub.now), CoordinatorAddresses(), turns=1, volunteers=0, tokens=0)
    assert asyncio.run(joint.next_steps([head.model_copy(update={"successors": other})])) == []
    assert joint.keys.position.successors == known


def test_a_program_that_is_no_closer_closes_and_announces_nothing(hub: Hub) -> None:
    third = hub.joints[CLOSERS[2].public]
    assert third.may_lead
    delegate(hub, CLOSERS[1].public)
    asyncio.run(hub.settle())
    assert third.may_lead, "until the round ends"
    propose(hub, CLOSERS[0])
    asyncio.run(hub.settle())
    assert not third.may_lead
    assert not third.may_propose


def test_a_request_that_is_fulfilled_is_removed(hub: Hub) -> None:
    store = hub.stores[CLOSERS[0].public]
    request_closers(store.folder, tuple(identity.public for identity in CLOSERS[1:]))
    assert Delegating(store).entry(Millis(hub.now)) is None
    assert not (store.folder / DELEGATION).exists()


def test_a_proof_that_a_closer_lied_is_in_the_archive(hub: Hub) -> None:
    first, second, _ = CLOSERS
    store, position = hub.stores[first.public], hub.stores[first.public].snapshot.position
    for entry in (parts.HASH_A, parts.HASH_B):
        vote = Vote(
            run=parts.RUN,
            epoch=position.epoch,
            height=position.height,
            round=position.round,
            kind="close",
            entry=entry,
            ballot=7,
        )
        hub.joints[first.public].agreement.receive(encode(VoteMessage(sign(second, vote))))
    [path] = (store.folder / ARCHIVE / PROOFS).iterdir()
    lie = open_lie(path.read_bytes(), run=parts.RUN)
    assert (lie.closer, lie.kind) == (second.public, LieKind.TWO_VOTES)
