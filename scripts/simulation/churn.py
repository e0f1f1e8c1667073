"""Volunteers of `scripts.benchmarks.simulation` that come and go, and the coordinator's own session.

Joins, heartbeats, commits, closes, folds, checkpoints and the archive are the program's; time and the network
are simulated.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field, replace
from typing import cast

import psutil

from barnraise.contract.heartbeat import heartbeat_seconds
from barnraise.contract.records import Commit, Head, JoinClaim, Presence, Record, blob_name
from barnraise.contract.rounds import Window, seconds_between
from barnraise.contract.spec import RunSpec
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.network.gossip_policy import MAX_COUNTED, RecordCache
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.rounds.coordinator_api import CoordinatorApi
from coordinator.rounds.session import Session
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING
from scripts.benchmarks.simulated_volunteer import SimulatedVolunteer, drawn
from scripts.benchmarks.simulation import Simulation
from scripts.simulation.sizes import Size, sizes
from tests.support.coordinators import NODE, FakeSwarm, until_published

STEP_SECONDS = (60.0, 120.0)
"""An event of a simulated volunteer: several steps of a fast machine, one of a slow one."""
TICK_SECONDS = 10.0
BLOB_BYTES = 22_000_000
"""As of an adapter of rank 16 on an 8B model at 4 bits: for the time that it takes to send."""
NEVER = Millis(0)


@dataclass
class CachedSwarm(FakeSwarm):
    """The coordinator's node: what it receives goes through the program's cache of records."""

    cache: RecordCache = field(default_factory=lambda: RecordCache(limit=MAX_COUNTED))
    now: Millis = NEVER

    @property
    def head(self) -> Head | None:
        return self.cache.head

    def receive(self, record: Signed[Record], now: Millis) -> None:
        """As from a stream."""
        self.cache.receive(record, now)

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        return self.cache.commits(round)

    async def peers(self) -> list[Presence]:
        return self.cache.present(self.now)

    async def publish(self, record: Record) -> bool:
        self.receive(Signed(record, PublicKey("0" * 64), b""), self.now)
        self.published = [record]
        return True


@dataclass(frozen=True)
class ChurnResult:
    """What was seen in the simulated hours."""

    volunteers: int
    keys: int
    """That joined, over all the time."""
    rounds: int
    contributions: float
    """Folded per round."""
    seconds: float
    """From one close to the next, mean."""
    longest: float
    """Longest time from one close to the next."""
    sizes: dict[str, Size]
    """The largest that each collection was."""
    memory: list[int]
    """Resident bytes of this program, simulated volunteers included, at the end of each hour."""

    def exceeded(self) -> dict[str, Size]:
        return {name: size for name, size in self.sizes.items() if size.entries > size.bound}


class Churn(Simulation):
    """A run whose volunteers leave; for each that leaves, another joins with a new key."""

    def __init__(self, spec: RunSpec, volunteers: int, store: RunStore, seed: int, half_life: float) -> None:
        super().__init__(spec, 0, BLOB_BYTES, seed)
        self._target, self._half_life = volunteers, half_life
        self._draws = random.Random(seed)
        self._numbers_drawn = 0
        self._events: list[tuple[float, int, PublicKey]] = []
        self._members: list[PublicKey] = []
        self.swarm = CachedSwarm(store.blobs)
        publisher = publisher_of(store, lambda: self.now)
        self.session = Session(
            store, publisher, self.swarm.as_swarm, lambda: self.now, CoordinatorAddresses((NODE,)), TIMING
        )
        self.api = CoordinatorApi(store, publisher, self.session, lambda: self.now, TIMING)
        self._store = store
        self._closes: list[Millis] = []
        self._folded_total = 0
        self._largest: dict[str, Size] = {}
        self._contributors: set[PublicKey] = set()

    async def simulate(self, hours: float) -> ChurnResult:
        """Let the run go on for `hours` of its clock."""
        for _ in range(self._target):
            await self._join()
        self.session._started = self.now
        self._store.reopen(self.now)
        await self.session.announce_head()
        self._follow_head()
        end = self.now + hours * 3_600_000
        tick, beat, memory = float(self.now), 0, list[int]()
        while tick < end:
            while self._events and self._events[0][0] <= tick:
                when, number, key = heapq.heappop(self._events)
                if key in self._nodes:
                    self.now = Millis(round(when))
                    pause = self._act(self._nodes[key])
                    heapq.heappush(self._events, (when + pause * 1000, number, key))
            self.now = self.swarm.now = Millis(round(tick))
            await self._come_and_go()
            self._send_heartbeats(beat)
            beat += 1
            await self._tick()
            tick += TICK_SECONDS * 1000
            if beat % round(3600 / TICK_SECONDS) == 0:
                memory.append(psutil.Process().memory_info().rss)
        rounds = len(self._closes)
        between = [seconds_between(*pair) for pair in zip(self._closes, self._closes[1:], strict=False)]
        return ChurnResult(
            volunteers=self._target,
            keys=self._numbers_drawn,
            rounds=rounds,
            contributions=self._folded_total / max(1, rounds),
            seconds=sum(between) / max(1, len(between)),
            longest=max(between, default=math.inf),
            sizes=self._largest,
            memory=memory,
        )

    # Volunteers.

    async def _join(self) -> None:
        number, self._numbers_drawn = self._numbers_drawn, self._numbers_drawn + 1
        node = drawn(number, self._draws, self._authority, self._spec.name, self.now, self._hashes[-1])
        node = replace(node, step_seconds=self._draws.uniform(*STEP_SECONDS), base=Round(len(self._closed)))
        key = node.identity.public
        claim = JoinClaim(
            run=self._spec.name,
            owner=key,
            instance="0" * 16,
            name=f"volunteer-{number}",
            credit=True,
            at=self.now,
        )
        await self.api.join(sign(node.identity, claim))
        self._nodes[key] = node
        self._members.append(key)
        heapq.heappush(self._events, (float(self.now), number, key))

    async def _come_and_go(self) -> None:
        """Half of the volunteers leave in each half-life: some say so, others vanish."""
        leaving = self._target * math.log(2) / self._half_life * TICK_SECONDS
        for _ in range(int(leaving) + (self._draws.random() < leaving % 1)):
            place = self._draws.randrange(len(self._members))
            self._members[place], self._members[-1] = self._members[-1], self._members[place]
            node = self._nodes.pop(self._members.pop())
            if self._draws.random() < 0.5:
                node.doing = "leaving"
                self._receive(node)
            await self._join()

    def _send_heartbeats(self, tick: int) -> None:
        """Of each volunteer once in its interval."""
        every = max(1, round(heartbeat_seconds(self._target) / TICK_SECONDS))
        for key in self._members[tick % every :: every]:
            self._receive(self._nodes[key])

    def _receive(self, node: SimulatedVolunteer) -> None:
        presence = Presence(
            run=self._spec.name, owner=node.identity.public, instance="0" * 16,
            admission=node.admission, name="volunteer",
            round=node.base, state=node.state, tokens=node.tokens, tokens_per_second=100.0,
            doing=node.doing, parts=1, keeps=node.base, at=self.now,
        )  # fmt: skip
        self.swarm.receive(Signed(presence, node.identity.public, b""), self.now)

    # The coordinator.

    @property
    def _window(self) -> Window:
        return self._store.snapshot.window

    async def _tick(self) -> None:
        while self._arriving and self._arriving[0][0] <= self.now:
            _, owner = heapq.heappop(self._arriving)
            if owner in self._nodes and owner in self._commits:
                commit = self._commits.pop(owner)
                self.swarm.held[blob_name(commit)] = self._blobs.pop(commit.blob)
                self.swarm.receive(sign(self._nodes[owner].identity, commit), self.now)
        before = self._store.snapshot
        await self.session.tick()
        await self.session.contributions.wait()
        after = self._store.snapshot
        if after.round > before.round:
            self._closes.append(self.now)
            self._folded_total += len(before.accepted)
            self._contributors |= before.accepted.keys()
            self._closed.append(
                (len(before.accepted), self._first_commit or float(self.now), float(self.now))
            )
            self._first_commit = 0.0
            self._commits, self._blobs, self._arriving = {}, {}, []  # fetches are cancelled
            self._line_free = float(self.now)
            self._hashes.append(after.tip.state)
            self.swarm.held = {}
            if after.unpublished:
                await until_published(cast(Publisher, self.session.publisher))
        self._follow_head()
        for name, size in sizes(self.session, self.api, self.swarm.cache, len(self._contributors)).items():
            if name not in self._largest or size.entries > self._largest[name].entries:
                self._largest[name] = size

    def _follow_head(self) -> None:
        head = self.swarm.head
        assert isinstance(head, Head)
        self._turns, self._checkpoint = head.turns, Round(head.checkpoint_round)
