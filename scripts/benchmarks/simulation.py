"""A swarm on a simulated network: decisions, records, codec and fold are real, time and lines are simulated.

Volunteers differ in speed (a step takes 1 to 50 times the fastest one's) and in their lines. Blobs
spread as a fluid: pieces are forwarded, so that all uplinks together feed all downlinks.
"""

from __future__ import annotations

import heapq
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from barnraise.contract.certificates import Certificate
from barnraise.contract.close_rules import fold_order
from barnraise.contract.heartbeat import heartbeat_seconds
from barnraise.contract.records import Commit, Head, open_record, seal
from barnraise.contract.rotation import has_turn, turns_for
from barnraise.contract.rounds import Window
from barnraise.contract.run_keys import Signers
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Layout, TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round, RunId, blob_hash
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder, blob_sizes
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from coordinator.rounds.closing import CloseNow, Reopen, Situation, decide_close
from coordinator.rounds.commit_check import Fits, check_commit
from coordinator.rounds.conduct import Conduct
from peer.volunteer.actions import (
    CatchUp,
    HeadFacts,
    Hold,
    LocalWork,
    Merge,
    Publish,
    Train,
    View,
    activity,
)
from peer.volunteer.contribution_state import ContributionEvent
from peer.volunteer.policy import plan
from scripts.benchmarks.record_costs import Sizes, record_costs
from scripts.benchmarks.simulated_volunteer import SimulatedVolunteer, drawn
from scripts.benchmarks.simulation_result import SimulationResult

LAYOUT = Layout((("a", (32, 64)), ("b", (2048,))))
"""The parameters that are encoded and folded; their blob stands for one of `blob_bytes`."""
COORDINATOR_LINE = 100
"""Mbit/s in each direction."""
COORDINATOR = tuple(
    f"/ip4/203.0.113.77/{transport}/p2p/12D3KooWJYZ6Wn9mFJdTt8zdTmS7WcAGVLTUUYkZ6sgNyS1SgqNU"
    for transport in ("tcp/40000", "udp/40000/quic-v1")
)
"""The coordinator's addresses in a head."""
POLL_SECONDS = 1.0
_START = 1_000_000

R = TypeVar("R")


class Simulation:
    """Volunteers and a coordinator on one simulated clock; `run` moves it from event to event."""

    def __init__(self, spec: RunSpec, volunteers: int, blob_bytes: int, seed: int) -> None:
        self._spec, self._blob_bytes = spec, blob_bytes
        self._numbers = np.random.default_rng(seed)
        self._authority = Identity.from_seed(bytes([1]) * 32)
        zeros = TrainState({name: np.zeros(shape, np.float32) for name, shape in LAYOUT})
        self._state = zeros
        self._tip = Tip(Position(Round(0), blob_hash(b"")), zeros.hash())
        self.now = Millis(_START)
        self._opens, self._checkpoint = self.now, Round(0)
        self._turns = turns_for(volunteers, spec.round.max_contributions)
        draws = random.Random(seed)
        nodes = (
            drawn(number, draws, self._authority, spec.name, self.now, self._tip.state)
            for number in range(volunteers)
        )
        self._nodes = {node.identity.public: node for node in nodes}
        self._hashes = [self._tip.state]
        self._arriving: list[tuple[float, PublicKey]] = []
        self._commits: dict[PublicKey, Commit] = {}
        self._blobs: dict[str, bytes] = {}
        self._accepted: dict[PublicKey, Commit] = {}
        self._first_commit = 0.0
        self._line_free = 0.0
        self._closed: list[tuple[int, float, float]] = []
        """By round: contributions, first commit, close."""
        self._cpu = 0.0
        self._late = self._sent = 0
        self._warm_up = 0
        pooled = sum(node.up for node in self._nodes.values()) + COORDINATOR_LINE * 125_000
        self._share = pooled / (volunteers + 1)
        """Bytes per second for each receiver when all uplinks are busy."""

    def run(self, rounds: int, warm_up: int = 2) -> SimulationResult:
        """Simulate `warm_up` + `rounds` rounds, and measure the latter."""
        events = [(float(self.now), number, key) for number, key in enumerate(self._nodes)]
        heapq.heapify(events)
        poll, beat = float(self.now), float(self.now)
        self._warm_up = warm_up
        while len(self._closed) < warm_up + rounds:
            when, number, key = heapq.heappop(events)
            while poll <= when:
                self.now = Millis(round(poll))
                self._coordinate()
                if poll >= beat:
                    self._receive_heartbeats()
                    beat = poll + heartbeat_seconds(len(self._nodes)) * 1000
                poll += POLL_SECONDS * 1000
            self.now = Millis(round(when))
            pause = self._act(self._nodes[key])
            heapq.heappush(events, (when + pause * 1000, number, key))
        return self._found(rounds)

    # A volunteer.

    def _act(self, node: SimulatedVolunteer) -> float:
        """Carry out the action that the policy chooses; returns the seconds until its next decision."""
        open_round = Round(len(self._closed))
        action = plan(self._view(node))
        node.doing = activity(action, node.doing)
        match action:
            case Train():
                return node.step(self._spec.train.batch * self._spec.data.sequence_length)
            case Publish():
                self._publish(node)
            case CatchUp():
                node.exchange_until = self._folded_at(node, open_round)
                node.timer.folded(Millis(round(node.exchange_until)))
                node.folded = open_round
                if node.lifecycle.taken:
                    node.lifecycle.advance(ContributionEvent.LIST)  # a late one changes no decision
            case Merge():
                node.rebase(self._hashes, self.now)
            case Hold():
                node.stood += POLL_SECONDS
                return POLL_SECONDS
        return 0.001

    def _view(self, node: SimulatedVolunteer) -> View:
        return View(
            now=self.now,
            window=self._window,
            head=HeadFacts(
                away=None,
                differs=node.state != self._hashes[node.base],
                checkpoint=self._checkpoint,
                turn=has_turn(self._spec.seed, node.base, node.identity.public, self._turns),
                swarm_tokens=0,
            ),
            work=LocalWork(node.base, node.lifecycle.state, node.tokens, node.steps),
            exchange=node.exchanging(self.now),
            durations=node.timer.measured(self.now),
            leaving=False,
        )

    def _publish(self, node: SimulatedVolunteer) -> None:
        update = {
            name: self._numbers.standard_normal(shape, dtype=np.float32) * np.float32(1e-3)
            for name, shape in LAYOUT
        }
        blob = bytes(encode_with_feedback(self._spec.codec, update, node.residual, LAYOUT))
        node.residual = update
        name = blob_hash(blob)
        self._blobs[name] = blob
        samples = -(-node.tokens // self._spec.data.sequence_length)
        commit = node.commit(self._spec.name, name, len(blob), node.tokens, samples)
        node.tokens = node.steps = 0
        node.lifecycle.advance(ContributionEvent.TAKE)
        node.lifecycle.advance(ContributionEvent.SIGN)
        node.timer.published(self.now)
        sent = self.now + self._blob_bytes / node.up * 1000
        node.timer.sent(self.now, Millis(round(sent)))
        self._line_free = max(self._line_free, self.now) + self._blob_bytes / (COORDINATOR_LINE * 125)
        self._commits[commit_owner(commit)] = commit
        heapq.heappush(self._arriving, (max(sent, self._line_free), commit_owner(commit)))
        self._first_commit = self._first_commit or float(self.now)
        self._sent += 1

    def _folded_at(self, node: SimulatedVolunteer, open_round: Round) -> float:
        """When a volunteer that begins to catch up now has all blobs. Contributors began earlier."""
        rate = min(node.down, self._share)
        until = float(self.now)
        for contributions, first, closed in self._closed[node.base : open_round]:
            begins = first if node.lifecycle.taken else closed
            size = (contributions - (1 if node.lifecycle.taken else 0)) * self._blob_bytes
            node.received += size
            until = max(until, begins + size / rate * 1000)
        return until

    # The coordinator.

    @property
    def _window(self) -> Window:
        return Window(Round(len(self._closed)), self._opens, self._spec.round)

    def _coordinate(self) -> None:
        while self._arriving and self._arriving[0][0] <= self.now:
            _, owner = heapq.heappop(self._arriving)
            self._timed(partial(self._consider, self._commits[owner]))
        decision = self._timed(lambda: decide_close(self._situation()))
        match decision:
            case CloseNow():
                self._close()
            case Reopen():
                self._opens, self._turns = self.now, self._turns if self._accepted else 1

    def _consider(self, commit: Commit) -> None:
        if len(self._accepted) >= self._spec.round.max_contributions:
            return
        verdict = check_commit(
            commit, self._window, self.now, self._tip.state, blob_sizes(self._spec.codec, LAYOUT),
            self._spec.data.sequence_length,
        )  # fmt: skip
        if isinstance(verdict, Fits):
            wire = seal(self._nodes[commit_owner(commit)].identity, commit)
            open_record(
                wire, run=RunId(self._spec.name), signers=Signers(self._authority.public), now=self.now
            )
            Decoder(self._blobs[commit.blob], self._spec.codec, LAYOUT)
            self._accepted[commit_owner(commit)] = commit

    def _situation(self) -> Situation:
        round = Round(len(self._closed))
        contributing = {
            key: node
            for key, node in self._nodes.items()
            if node.doing != "waiting" and has_turn(self._spec.seed, round, key, self._turns)
        }
        there = {key: node for key, node in contributing.items() if node.base >= round - 1}
        return Situation(
            now=self.now,
            window=self._window,
            accepted=self._accepted,
            pending=frozenset(key for _, key in self._arriving if self._commits[key].round == round),
            expected={key: "" for key, node in there.items() if node.doing == "training"},
            late={key: "" for key, node in there.items() if node.doing == "late"},
            min_contributions=self._spec.round.min_contributions,
            conduct=Conduct.first(self._spec.round),
            last_accepted=self._window.opens,
            idle=len(self._nodes) - len(contributing),
        )

    def _close(self) -> None:
        seed, round = self._spec.seed, Round(len(self._closed))
        ordered = sorted(self._accepted.values(), key=lambda c: fold_order(seed, round, commit_owner(c)))
        blobs = [self._blobs[commit.blob] for commit in ordered]

        def folded() -> TrainState:
            parts = [
                Contribution.unlimited(Decoder(blob, self._spec.codec, LAYOUT), commit.tokens)
                for blob, commit in zip(blobs, ordered, strict=True)
            ]
            return fold(self._state, parts, self._spec)

        state = self._timed(folded)
        again = folded()  # as a volunteer does, from the same blobs
        assert again.hash() == state.hash(), "replicas differ"
        self._state = state
        made = sum(commit.round == round for commit in self._commits.values())
        self._late += made - len(ordered)
        self._commits, self._arriving = {}, []
        self._tip = Tip(Position(Round(round + 1), self._tip.previous), state.hash())
        self._hashes.append(self._tip.state)
        self._closed.append((len(ordered), self._first_commit or float(self.now), float(self.now)))
        self._opens, self._accepted, self._first_commit = self.now, {}, 0.0
        self._checkpoint = Round(round // self._spec.checkpoint.every * self._spec.checkpoint.every)
        self._turns = turns_for(len(self._nodes), self._spec.round.max_contributions)
        if len(self._closed) == self._warm_up:
            self._start_measuring()

    def _receive_heartbeats(self) -> None:
        """Check every volunteer's heartbeat, as the coordinator does."""
        values = [node.presence(self._spec.name, self.now) for node in self._nodes.values()]
        run = RunId(self._spec.name)

        def check() -> None:
            for value in values:
                open_record(value, run=run, signers=Signers(self._authority.public), now=self.now)

        self._timed(check)

    # What is measured.

    def _timed(self, work: Callable[[], R]) -> R:
        began = time.process_time()
        found = work()
        self._cpu += time.process_time() - began
        return found

    def _start_measuring(self) -> None:
        self._cpu = 0.0
        self._late = self._sent = 0
        for node in self._nodes.values():
            node.stood = node.received = 0.0

    def _found(self, rounds: int) -> SimulationResult:
        nodes = list(self._nodes.values())
        measured = self._closed[-rounds:]
        seconds = (measured[-1][2] - self._closed[-rounds - 1][2]) / 1000
        contributions = statistics.mean(count for count, _, _ in measured)
        exchange = statistics.mean(closed - first for _, first, closed in measured) / 1000
        down = statistics.mean(node.received for node in nodes) / rounds
        deliveries = down * len(nodes) + contributions * self._blob_bytes
        return SimulationResult(
            volunteers=len(nodes),
            turns=self._turns,
            contributions=contributions,
            seconds=seconds / rounds,
            down=down,
            up=deliveries / (len(nodes) + 1),
            costs=record_costs(len(nodes), contributions, seconds / rounds, exchange, self._record_sizes()),
            still=statistics.mean(node.stood for node in nodes) / seconds,
            coordinator_cpu=self._cpu / rounds,
            coordinator_down=contributions * self._blob_bytes,
            late=self._late / max(1, self._sent),
        )

    def _record_sizes(self) -> Sizes:
        head = Head(
            run=self._spec.name, round=len(self._closed), epoch=0, height=len(self._closed),
            entry=self._tip.state,
            certificate=Certificate(ballot=0, signatures=(("0" * 64, "0" * 128),)), state=self._tip.state,
            opens=int(self.now), turns=self._turns, volunteers=len(self._nodes), tokens=10**8,
            checkpoint=self._tip.state, checkpoint_round=self._checkpoint, at=int(self.now),
            bootstrap=COORDINATOR,
        )  # fmt: skip
        volunteer = next(iter(self._nodes.values()))
        return Sizes(
            head=len(seal(self._authority, head)),
            presence=len(volunteer.presence(self._spec.name, self.now)),
            commit=len(volunteer.sample_commit(self._spec.name, self._blob_bytes)),
        )


def commit_owner(commit: Commit) -> PublicKey:
    return PublicKey(commit.owner)
