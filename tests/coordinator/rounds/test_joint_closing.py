"""Three closers with real run stores close rounds together, and one that was away follows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from barnraise.consensus.lies import LieKind, open_lie
from barnraise.consensus.statements import VoteMessage
from barnraise.consensus.vote_store import VoteStore
from barnraise.consensus.wire import encode
from barnraise.contract.archive import PROOFS
from barnraise.contract.certificates import Vote
from barnraise.contract.entry_order import with_order
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Close, Rollback, parse_entry
from barnraise.contract.pieces import Wanted
from barnraise.contract.records import blob_name
from barnraise.contract.run_keys import name_successor
from barnraise.core.errors import TrustError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.core.signed import sign
from barnraise.fold.log import Link, Step, in_effect
from barnraise.network.mail import Mail
from barnraise.network.swarm import Swarm
from coordinator.rounds.delegating import Delegating, request_closers
from coordinator.rounds.joint_closing import JointClosing, LogIsVoid, joint_closing
from coordinator.run_folder import ARCHIVE, DELEGATION
from coordinator.store.next_entry import decay_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, opened_store

CLOSERS = [parts.AUTHORITY, *(Identity.from_seed(bytes([n]) * 32) for n in (7, 8))]


@dataclass
class Hub:
    """The network of three closers: mail, and blobs that any present one serves."""

    now: int = parts.NOW
    stores: dict[PublicKey, RunStore] = field(default_factory=dict)
    joints: dict[PublicKey, JointClosing] = field(default_factory=dict)
    away: set[PublicKey] = field(default_factory=set)
    mail: list[tuple[PublicKey, bytes]] = field(default_factory=list)

    async def settle(self) -> list[str]:
        """Let time pass until nothing is sent, and enter what was agreed on. Returns who entered an entry."""
        entered: list[str] = []
        for _ in range(20):
            for key, joint in self.joints.items():
                if key not in self.away:
                    joint.tick()
                    await asyncio.gather(*joint._checks.values())
                    entered += [key for _ in enter(joint, await joint.next_steps([]))]
            sent, self.mail = self.mail, []
            for to, data in sent:
                if to not in self.away:
                    with suppress(TrustError):  # as `Mail` does: the sender may close no longer
                        self.joints[to].agreement.receive(data)
        return entered


@dataclass
class Node:
    """What a closer uses of its swarm."""

    hub: Hub
    own: PublicKey
    mail: Any = None

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        blobs = self.hub.stores[self.own].blobs
        for holder in holders:
            theirs = self.hub.stores[holder].blobs if holder in self.hub.stores else None
            if theirs is not None and holder not in self.hub.away and name in theirs:
                blobs.put(theirs.get(name))
        if name not in blobs:
            raise Unreachable("nobody has it", fix="It is fetched again.")
        return blobs.path(name)

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        return await self.fetch(wanted.blob, wanted.size, holders)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    keys = tuple(identity.public for identity in CLOSERS[1:])
    spec = parts.run_spec()
    spec = spec.model_copy(update={"closers": spec.closers.model_copy(update={"keys": keys})})
    made = Hub()
    with ExitStack() as stack:
        for identity in CLOSERS:
            folder = tmp_path / identity.public[:8]
            store = stack.enter_context(opened_store(folder, spec, published=False))
            node = Node(made, identity.public)
            node.mail = cast(Mail, _Outbox(made))
            votes = VoteStore.begin(folder / "votes.json", identity.public)
            made.stores[identity.public] = store
            made.joints[identity.public] = joint_closing(
                store,
                cast(Swarm, node),
                identity,
                votes,
                lambda: Millis(made.now),
                KeysInForce.of(store.charter),
            )
        yield made


@dataclass
class _Outbox:
    hub: Hub
    deliver: Any = None

    def send(self, to: PublicKey, data: bytes) -> None:
        self.hub.mail.append((to, data))


def enter(joint: JointClosing, steps: Sequence[Step]) -> Sequence[Step]:
    """As the session does."""
    counting = in_effect(joint.store.snapshot.position, steps)
    for step in steps:
        joint.enter(step)
        if step in counting and isinstance(step, Link):
            joint.store.fold(step)
        elif step in counting and isinstance(step.entry, Rollback):
            joint.store.rebuild()
    return steps


def accept(store: RunStore) -> None:
    """Accept two contributions to the open round, which this closer alone holds."""
    for owner in (parts.ADA, parts.BEN):
        accept_of(store, owner)


def accept_of(store: RunStore, owner: Identity) -> None:
    commit, blob = contribution(store, owner, (owner is parts.BEN) + 10 * store.snapshot.round)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)


def propose(hub: Hub, identity: Identity) -> None:
    accept(hub.stores[identity.public])
    hub.joints[identity.public].propose("all contributed", parts.NOW)


def states(hub: Hub) -> list[tuple[int, str]]:
    tips = [store.snapshot.tip for store in hub.stores.values()]
    return [(tip.round, tip.state) for tip in tips]


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


def test_a_close_lists_what_was_accepted_before_its_closer_could_propose_it(hub: Hub) -> None:
    """The coordinator, which would propose at once, is away."""
    first, second, third = (identity.public for identity in CLOSERS)
    hub.away = {first}
    store, proposed = hub.stores[second], list[BlobHash]()
    for owner in (parts.ADA, parts.BEN):
        accept_of(store, owner)
        for _ in range(2):
            hub.now += 1
            proposed = propose_accepted(hub, second)
    assert len(proposed) == 2, "the same is not proposed twice"
    hub.now += 60_000
    asyncio.run(hub.settle())
    assert {hub.stores[key].snapshot.position.previous for key in (second, third)} == {proposed[1]}
    close = parse_entry(store.blobs.get(proposed[1]))
    assert isinstance(close, Close)
    assert len(close.commits) == 2
    assert proposed[0] not in store.blobs, "it counts no longer"


def test_a_closer_that_voted_proposes_nothing_else(hub: Hub) -> None:
    first, second, _ = (identity.public for identity in CLOSERS)
    accept_of(hub.stores[first], parts.ADA)
    proposed = propose_accepted(hub, first)
    for key in (second, first):  # its ballot begins, and is promised
        hub.joints[key].agreement.receive(next(data for to, data in reversed(hub.mail) if to == key))
    accept_of(hub.stores[first], parts.BEN)
    assert propose_accepted(hub, first) == proposed


def test_after_an_amendment_no_close_is_proposed(hub: Hub) -> None:
    first, second, _ = (identity.public for identity in CLOSERS)
    delegate(hub, second)
    amendment = list(hub.joints[first]._proposing._entries)
    accept(hub.stores[first])
    assert propose_accepted(hub, first) == amendment


def propose_accepted(hub: Hub, key: PublicKey) -> list[BlobHash]:
    """Have a closer propose a close. Returns all that it proposed at its place of the log."""
    joint = hub.joints[key]
    joint.propose("all contributed", Millis(hub.now))
    return list(joint._proposing._entries)


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


def delegate(hub: Hub, *keys: str) -> None:
    """Have the coordinator propose other closers."""
    first = CLOSERS[0]
    store = hub.stores[first.public]
    request_closers(store.folder, keys)
    entry = Delegating(store).entry(Millis(hub.now))
    assert entry is not None
    hub.joints[first.public].propose_amendment(entry)


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
