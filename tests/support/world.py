"""A model of a run on a fake clock: one coordinator and several volunteers that apply the real rules.

Only what surrounds the decisions is simulated: the DHT, the transfer of blobs, the journal and the
saved work. Work is counted in tokens, to check that none is lost or counted twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from barnraise.contract.records import Commit
from barnraise.contract.rotation import has_turn
from barnraise.contract.rounds import Window
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, PublicKey, Round, StateHash
from coordinator.rounds.closing import (
    CloseNow,
    Decision,
    Reopen,
    Situation,
    conduct_after,
    decide_close,
    deserted_after,
)
from coordinator.rounds.commit_check import Misfit, check_commit
from coordinator.rounds.conduct import Conduct
from coordinator.rounds.turns import Turnout, fewer_turns, next_turns, turnout_of
from peer.timing import TIMING
from peer.volunteer.actions import (
    Action,
    CatchUp,
    Exchanging,
    HeadFacts,
    Hold,
    Leave,
    LocalWork,
    Merge,
    Publish,
    Train,
    View,
    activity,
)
from peer.volunteer.contribution_state import AFTER_CRASH, ContributionEvent, ContributionLifecycle
from peer.volunteer.durations import RoundTimer
from peer.volunteer.policy import plan
from peer.volunteer.reasons import ActionReason
from tests.support.world_peers import Head, Peer, Presence

SEED, BLOB_SIZE, LENGTH, CHECKPOINT_EVERY = 0, 100, 16, 3
BLOB_SIZES = range(BLOB_SIZE, BLOB_SIZE + 1)
TICK, PRESENCE_LIFE, HEAD_PAUSE = 500, 30_000, 5_000


@dataclass
class World:
    spec: RoundSpec
    now: int = 1_000_000
    up: bool = True
    opens: int = 1_000_000
    turns: int = 1
    peers: dict[PublicKey, Peer] = field(default_factory=dict)
    cut: set[PublicKey] = field(default_factory=set)
    """Volunteers without a network: they receive nothing, and what they send arrives afterwards."""
    presences: dict[PublicKey, Presence] = field(default_factory=dict)
    announced: dict[tuple[int, PublicKey], tuple[int, Commit]] = field(default_factory=dict)
    """By round and owner: when others see it, and the commit."""
    accepted: dict[PublicKey, Commit] = field(default_factory=dict)
    fetching: dict[PublicKey, Commit] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    closes: list[tuple[Commit, ...]] = field(default_factory=list)
    states: list[StateHash] = field(default_factory=lambda: [_state_after(())])
    """states[r] is the base of round r."""
    folded: dict[str, int] = field(default_factory=dict)
    """Tokens by blob, for the blobs that closes list."""
    work_in: dict[str, int] = field(default_factory=dict)
    """Tokens whose work a blob carries: trained in its round, and owed from before."""
    decision: Decision | None = None
    conduct: Conduct = field(init=False)
    turnout: Turnout = field(default_factory=lambda: Turnout(1, 0))
    turnouts: list[Turnout] = field(default_factory=list)
    last_accepted: int = 0
    deserted: bool = False
    """`Situation.deserted` of the next tick."""
    trained: int = 0
    dropped: int = 0
    """Tokens trained in a round that a crash or a late leave cut off."""
    actions: Counter[tuple[type[Action], ActionReason]] = field(default_factory=Counter)
    answers: Counter[tuple[type, type]] = field(default_factory=Counter)
    """Count of the coordinator's decisions, by type of the decision and of its reason."""
    heads: list[Head] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.conduct = Conduct.first(self.spec)
        self._announce_head()

    @property
    def round(self) -> Round:
        return Round(len(self.closes))

    @property
    def window(self) -> Window:
        return Window(self.round, Millis(self.opens), self.spec)

    @property
    def live(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.alive]

    # Events

    def join(self) -> Peer:
        number = len(self.peers)
        key = PublicKey(f"{number:064x}")
        head = self.heads[-1]
        peer = Peer(key, f"peer {number}" if number % 2 else "", head, head.round, head.state)
        peer.timer = RoundTimer(Millis(self.now))
        self.peers[key] = peer
        return peer

    def crash(self, peer: Peer) -> None:
        """Saved work is kept; tokens trained since the round started are lost."""
        self._drop(peer)
        peer.alive, peer.folded, peer.exchange_until = False, None, 0

    def restart(self, peer: Peer, *, stale: bool = False) -> None:
        """stale: the first head that it receives is an old one."""
        peer.alive, peer.leaving, peer.steps, peer.busy_until = True, False, 0, self.now
        peer.head = self.heads[0] if stale else self.heads[-1]
        before, peer.lifecycle = peer.lifecycle, ContributionLifecycle()
        if peer.pending is not None:
            assert peer.pending.round == peer.base
            peer.lifecycle.advance(ContributionEvent.RESUME)
        assert peer.lifecycle.state in AFTER_CRASH[before.state]
        peer.timer = RoundTimer(Millis(self.now))
        self._act(peer)

    def crash_coordinator(self) -> None:
        self.up = False
        self.fetching.clear()
        self.refused.clear()

    def cheat(self, **wrong: object) -> None:
        """An admitted key announces an invalid commit."""
        key = PublicKey("f" * 64)
        fields = self._commit_fields(key, self.round, self.states[-1], LENGTH) | wrong
        self.announced[self.round, key] = (self.now, Commit.model_validate(fields))

    def tick(self) -> None:
        """Half a second: each program reads the records and acts once."""
        self.now += TICK
        for peer in self.live:
            if self.heads[-1].at > peer.head.at and peer.key not in self.cut:
                peer.head = self.heads[-1]
            if self.now >= peer.busy_until:
                self._act(peer)
        if self.up:
            self._coordinate()

    # Volunteers

    def _act(self, peer: Peer) -> None:
        view = self._view(peer)
        peer.action = action = plan(view)
        self._note(action)
        match action:
            case Train():
                assert not view.head.differs, "trains from a state that is not the run's"
                peer.tokens += LENGTH
                peer.steps += 1
                peer.timer.stepped(LENGTH, peer.step / 1000)
                peer.busy_until = self.now + peer.step
                self.trained += LENGTH
            case Publish():
                assert view.exchange is Exchanging.IDLE
                self._publish(peer)
            case CatchUp(from_checkpoint=from_checkpoint):
                differs = view.head.differs
                assert view.exchange is Exchanging.IDLE
                assert peer.base < peer.head.round or differs
                assert not from_checkpoint or differs or peer.head.checkpoint > peer.base + 1
                self._catch_up(peer)
            case Merge():
                assert peer.folded is not None
                assert view.exchange is Exchanging.FOLDED
                if not peer.lifecycle.taken:
                    peer.steps = 0
                (peer.base, peer.state), peer.folded = peer.folded, None
                peer.lifecycle.advance(ContributionEvent.REBASE)
                peer.timer.rebased(Millis(self.now))
            case Hold():
                assert not peer.leaving
            case Leave():
                could_publish = peer.base == view.window.round and view.now < view.window.deadline
                free = not peer.lifecycle.taken and view.exchange is Exchanging.IDLE
                assert not (peer.tokens and could_publish and free), (
                    "left with tokens that it could have published"
                )
                peer.owed += peer.tokens
                peer.tokens = 0
                peer.alive, peer.folded, peer.exchange_until = False, None, 0
                self.presences.pop(peer.key, None)
                return
        if peer.key in self.cut:
            return
        before = self.presences.get(peer.key)
        doing = activity(action, "training" if before is None else before.doing)
        self.presences[peer.key] = Presence(peer.base, self._tokens_of(peer), Millis(self.now), doing)

    def _view(self, peer: Peer) -> View:
        head, age = peer.head, (self.now - peer.head.at) / 1000
        facts = HeadFacts(
            away=age if age > TIMING.silent_after else None,
            differs=head.round == peer.base and head.state != peer.state,
            checkpoint=head.checkpoint,
            turn=has_turn(SEED, peer.base, peer.key, head.turns),
            # The head's may be old; the peer's own are exact.
            swarm_tokens=max(head.tokens if head.round == peer.base else 0, self._tokens_of(peer)),
        )
        return View(
            now=Millis(self.now),
            window=Window(head.round, head.opens, self.spec),
            head=facts,
            work=LocalWork(peer.base, peer.lifecycle.state, peer.tokens, peer.steps),
            exchange=self._exchanging(peer),
            durations=peer.timer.measured(Millis(self.now)),
            leaving=peer.leaving,
            absence=2,
        )

    def _exchanging(self, peer: Peer) -> Exchanging:
        if self.now < peer.exchange_until:
            return Exchanging.BUSY
        return Exchanging.IDLE if peer.folded is None else Exchanging.FOLDED

    def _tokens_of(self, peer: Peer) -> int:
        """What it trained for the round of its state, sent or not."""
        if not peer.lifecycle.taken:
            return peer.tokens
        return 0 if peer.pending is None else peer.pending.tokens

    def _publish(self, peer: Peer) -> None:
        assert peer.tokens, "published nothing"
        assert peer.pending is None, "a second contribution before the first was settled"
        fields = self._commit_fields(peer.key, peer.base, peer.state, peer.tokens)
        peer.pending = commit = Commit.model_validate(fields)
        self.work_in[commit.blob] = peer.tokens + peer.owed
        peer.tokens = peer.steps = peer.owed = 0
        peer.lifecycle.advance(ContributionEvent.TAKE)
        peer.lifecycle.advance(ContributionEvent.SIGN)
        peer.exchange_until = self.now + peer.lag
        peer.timer.published(Millis(self.now))
        peer.timer.sent(Millis(self.now), Millis(self.now + peer.lag))
        self.announced[commit.round, peer.key] = (self.now + peer.lag, commit)

    def _catch_up(self, peer: Peer) -> None:
        if peer.pending is not None:
            listed = peer.pending.blob in self.folded
            if not listed:
                peer.owed += self.work_in[peer.pending.blob]
            peer.lifecycle.advance(ContributionEvent.LIST if listed else ContributionEvent.MISS)
            peer.pending = None
        state = self.states[peer.head.round]
        if peer.faulty:
            state, peer.faulty = StateHash("e" * 64), False
        peer.folded, peer.exchange_until = (peer.head.round, state), self.now + peer.fold
        peer.timer.folded(Millis(self.now + peer.fold))

    def _commit_fields(self, key: PublicKey, round: int, state: StateHash, tokens: int) -> dict[str, object]:
        blob = hashlib.sha256(f"{key}/{round}/{len(self.work_in)}".encode()).hexdigest()
        return {
            "run": "barn", "round": round, "base_state": state, "owner": key, "admission": "", "blob": blob,
            "pieces": blob,
            "size": BLOB_SIZE, "tokens": tokens, "samples": -(-tokens // LENGTH), "loss": 1.0,
            "ranges": (SampleRange(round=round, start=0, count=-(-tokens // LENGTH)),),
        }  # fmt: skip

    def _drop(self, peer: Peer) -> None:
        self.dropped += peer.tokens
        peer.tokens = 0

    # The coordinator

    def _coordinate(self) -> None:
        for owner, commit in list(self.fetching.items()):
            peer = self.peers[owner]
            if (peer.alive and owner not in self.cut) or commit.round != self.round:
                del self.fetching[owner]
                if peer.alive and commit.round == self.round and not self._full():
                    self.accepted[owner] = commit
                    self.last_accepted = self.now
        for (round, owner), (visible, commit) in self.announced.items():
            arrived = visible <= self.now and owner not in self.cut
            if round == self.round and arrived and not self._full():
                self._consider(owner, commit)
        situation = self._situation()
        self.decision = decide_close(situation)
        self.answers[type(self.decision), type(self.decision.reason)] += 1
        self.deserted = deserted_after(situation, self.decision, any_live=bool(self._present()))
        match self.decision:
            case CloseNow():
                tokens = {owner: commit.tokens for owner, commit in self.accepted.items()}
                self.conduct = conduct_after(situation, tokens, Millis(self.now))
                self.turnout = turnout_of(situation, self._announced())
                self._close(tuple(self.accepted.values()))
                self.refused.clear()
                self._announce_head()
            case Reopen():
                self.opens = self.now
                self.turns = fewer_turns(self.turns) if self.accepted else 1
                self.refused.clear()  # late commits are in time again
                self._announce_head()
        if self.now - self.heads[-1].at >= HEAD_PAUSE:
            self._announce_head()

    def _close(self, commits: tuple[Commit, ...]) -> None:
        assert self.spec.min_contributions <= len(commits) <= self.spec.max_contributions
        for commit in commits:
            assert (commit.round, commit.base_state) == (self.round, self.states[-1])
            assert commit.size == BLOB_SIZE
            assert commit.owner in self.peers
            assert commit.tokens <= commit.samples * LENGTH
            assert commit.blob not in self.folded, "one contribution is folded twice"
            self.folded[commit.blob] = self.work_in[commit.blob]
        self.closes.append(commits)
        self.states.append(_state_after([self.states[-1], *(commit.blob for commit in commits)]))
        turnout = self.turnout
        self.turns = next_turns(turnout, self.turnouts, len(self._present()), self.spec.max_contributions)
        self.turnouts.append(turnout)
        self.opens, self.accepted = self.now, {}

    def _full(self) -> bool:
        return len(self.accepted) >= self.spec.max_contributions

    def _announced(self) -> set[PublicKey]:
        """Owners of contributions to the open round."""
        return {
            key
            for (round, key), (at, _) in self.announced.items()
            if round == self.round and at <= self.now and key in self.peers
        }

    def _consider(self, owner: PublicKey, commit: Commit) -> None:
        if owner in self.accepted or owner in self.fetching or commit.blob in self.refused:
            return
        verdict = check_commit(commit, self.window, Millis(self.now), self.states[-1], BLOB_SIZES, LENGTH)
        if isinstance(verdict, Misfit):
            self.refused.add(commit.blob)
            self.answers[Misfit, type(verdict.reason)] += 1
        else:
            self.fetching[owner] = commit

    def _situation(self) -> Situation:
        present = self._present()
        contributing = {
            key: presence
            for key, presence in present.items()
            if presence.doing != "waiting" and has_turn(SEED, self.round, key, self.turns)
        }
        there = {key: p for key, p in contributing.items() if self.round - 1 <= p.round <= self.round}
        return Situation(
            now=Millis(self.now),
            window=self.window,
            accepted=self.accepted,
            pending=frozenset(self.fetching),
            expected={key: self.peers[key].name for key, p in there.items() if p.doing == "training"},
            late={key: self.peers[key].name for key, p in there.items() if p.doing == "late"},
            idle=len(present) - len(contributing),
            min_contributions=self.spec.min_contributions,
            conduct=self.conduct,
            last_accepted=Millis(max(self.opens, self.last_accepted)),
            turns=self.turns,
            swarm_tokens=self._swarm_tokens(present),
            begun=any(p.tokens for p in present.values() if p.round == self.round),
            deserted=self.deserted,
        )

    def _swarm_tokens(self, present: dict[PublicKey, Presence]) -> int:
        claimed = {key: p.tokens for key, p in present.items() if p.round == self.round}
        claimed |= {key: commit.tokens for key, commit in self.accepted.items()}
        return self.conduct.counted_tokens(claimed, (self.now - self.opens) / 1000)

    def _present(self) -> dict[PublicKey, Presence]:
        return {k: p for k, p in self.presences.items() if self.now - p.at < PRESENCE_LIFE}

    def _announce_head(self) -> None:
        checkpoint = Round(self.round // CHECKPOINT_EVERY * CHECKPOINT_EVERY)
        opens, now = Millis(self.opens), Millis(self.now)
        tokens = self._swarm_tokens(self._present())
        self.heads.append(Head(self.round, self.states[-1], opens, self.turns, tokens, checkpoint, now))

    def _note(self, action: Action) -> None:
        self.actions[type(action), without_numbers(action.reason)] += 1

    def check(self) -> None:
        """Assert that all trained tokens are in exactly one place."""
        peers = self.peers.values()
        pending = [peer.pending.blob for peer in peers if peer.pending is not None]
        flying = sum(self.work_in[blob] for blob in pending if blob not in self.folded)
        kept = sum(peer.tokens + peer.owed for peer in peers)
        folded = sum(self.folded.values())
        assert self.trained == folded + flying + kept + self.dropped, "work was lost or counted twice"


def _state_after(parts: Iterable[str]) -> StateHash:
    return StateHash(hashlib.sha256("/".join(parts).encode()).hexdigest())


def without_numbers(reason: ActionReason) -> ActionReason:
    """The same reason with 0 for each number: equal for equal situations."""
    numbers = {
        field.name: 0
        for field in dataclasses.fields(reason)
        if isinstance(getattr(reason, field.name), int | float)
    }
    return dataclasses.replace(reason, **numbers)  # type: ignore[arg-type]
