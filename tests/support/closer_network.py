"""Closers on a simulated network, in simulated time: crashes, partitions, slow, lost and repeated messages.

Each node keeps a log of certified entries and one machine for the place after it, as a program does. Nothing
but the log and the record outlives a crash.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from barnraise.consensus.ballots import Ballots, Pace
from barnraise.consensus.events import (
    Candidate,
    CatchUp,
    Checked,
    Decide,
    Effect,
    Event,
    Flush,
    Inform,
    Learned,
    Obtain,
    Received,
    Send,
    Tick,
    Transition,
)
from barnraise.consensus.lies import Lie, Witness
from barnraise.consensus.machine import step
from barnraise.consensus.state import Closer, Record, Seat, start
from barnraise.consensus.statements import Message, Place, Value, place_of
from barnraise.contract.double_signing import Certified
from barnraise.contract.log_entries import Close, Delegation
from barnraise.contract.tip import Position
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round
from tests.support import closers
from tests.support.closer_search import check_flushes

GRACE = 30_000
TICK = 100
PROMPT = GRACE // 100
"""Milliseconds that a message takes at most where the network is well."""
RUN_KEY = closers.key(0)
LATE = 0.05
"""Share of the ticks before which a closer accepts a late contribution: its close is another one then."""
NO_STATE = "0" * 64


@dataclass
class Weather:
    """What the network does to messages."""

    lost: float = 0.0
    repeated: float = 0.0
    slowest: int = PROMPT
    """Milliseconds."""


@dataclass
class Node:
    """One closer's program."""

    key: PublicKey
    log: list[Certified] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    record: Record | None = None
    closer: Closer | None = None
    witness: Witness = field(default_factory=Witness)
    alive: bool = True
    lives: int = 0
    announced: int = 0

    @property
    def position(self) -> Position:
        return self.positions[-1]

    @property
    def place(self) -> Place:
        here = self.position
        return Place(closers.RUN, here.epoch, here.height, here.round)


@dataclass
class Network:
    """All nodes, and the messages between them."""

    random: Random
    count: int
    delegations: float = 0.0
    """Share of the candidates that change who the closers are."""
    weather: Weather = field(default_factory=Weather)
    nodes: dict[PublicKey, Node] = field(default_factory=dict)
    side: dict[PublicKey, int] = field(default_factory=dict)
    """The part of a partition that each node is in."""
    now: int = 0
    decided: dict[tuple[int, int], str] = field(default_factory=dict)
    """The entry of each place: no two nodes may have different ones."""
    transitions: set[Transition] = field(default_factory=set)
    lies: list[Lie] = field(default_factory=list)
    _entries: dict[str, Close | Delegation] = field(default_factory=dict)
    _queue: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: int = 0

    def __post_init__(self) -> None:
        keys = tuple(map(closers.key, range(self.count)))
        first = Position(Round(0), BlobHash("c" * 64), closers=keys)
        for key in keys:
            self.nodes[key], self.side[key] = Node(key, positions=[first]), 0
        for node in self.nodes.values():
            self._arrive(node)
            self._later(self.random.randrange(TICK), partial(self._tick, node))

    # Faults

    def crash(self, node: Node) -> None:
        """End a program: it keeps its log and its record."""
        node.alive, node.closer, node.witness = False, None, Witness()

    def restart(self, node: Node) -> None:
        """Start it again."""
        if not node.alive:
            node.alive, node.lives = True, node.lives + 1
            self._arrive(node)

    def run_until(self, time: int) -> None:
        """Let everything happen that happens before `time`."""
        while self._queue and self._queue[0][0] <= time:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = time

    # Programs

    def _tick(self, node: Node) -> None:
        candidate = None if node.closer is None else node.closer.candidate
        if candidate is not None and candidate.kind == "close" and self.random.random() < LATE:
            self._feed(node, Candidate(self._candidate(node, 0.0)))
        self._feed(node, Tick())
        if self.delegations and node.alive:
            self._announce(node)
        self._later(TICK, lambda: self._tick(node))

    def _announce(self, node: Node) -> None:
        """Announce the newest entry: a node that was a closer may be the only one that has it."""
        if self.now * 10 // GRACE > node.announced:
            node.announced = self.now * 10 // GRACE
            for other in self.nodes.values():
                self._inform(node, other)

    def _arrive(self, node: Node) -> None:
        """Take part in the agreement on the next entry, as far as this node is one of its closers."""
        keys = node.position.authorities(RUN_KEY)
        node.closer = None
        if node.key not in keys.keys:
            return
        record = node.record if node.record and node.record.place == node.place else Record(node.place)
        pace = Pace(GRACE, seed=1)
        seat = Seat(node.key, closers.FakeSigner(node.key), Ballots.of(keys, RUN_KEY), pace)
        node.closer = start(seat, record)
        self._feed(node, Candidate(self._candidate(node, self.delegations)))

    def _candidate(self, node: Node, delegations: float) -> Value:
        here = node.position
        last = node.log[-1].certificate if node.log else None
        common = {
            "run": closers.RUN, "epoch": here.epoch, "height": here.height, "round": here.round,
            "previous": here.previous, "certificate": last, "at": self.now,
        }  # fmt: skip
        entry: Close | Delegation
        if self.random.random() < delegations:
            size = self.random.randint(1, self.count)
            chosen = tuple(sorted(self.random.sample(sorted(self.nodes), size)))
            entry = Delegation(closers=chosen, **common)  # type: ignore[arg-type]
        else:
            reason = f"{node.key[:2]}/{node.lives}"
            entry = Close.model_validate(
                {
                    "base_state": NO_STATE,
                    "commits": ("Y29tbWl0",),
                    "weights": (1,),
                    "reason": reason,
                    **common,
                }
            )
        self._entries[entry.name] = entry
        return Value(entry.name, entry.kind)

    def _feed(self, node: Node, event: Event) -> None:
        if not node.alive or node.closer is None:
            return
        before = node.closer.record
        stepped = step(node.closer, event, Millis(self.now))
        node.closer = stepped.closer
        self.transitions.update(stepped.transitions)
        check_flushes(before, list(stepped.effects))
        for effect in stepped.effects:
            self._do(node, effect)

    def _do(self, node: Node, effect: Effect) -> None:
        match effect:
            case Flush(record):
                node.record = record
            case Send(to, message):
                self._send(node, to, message)
            case Obtain(value, holders):
                self._obtain(node, node.lives, value, [self.nodes[key] for key in holders], tries=20)
            case Inform(to):
                self._inform(node, self.nodes[to])
            case CatchUp(holder):
                self._inform(self.nodes[holder], node)
            case Decide(certified):
                self._decide(node, certified)

    def _decide(self, node: Node, certified: Certified) -> None:
        place = place_of(certified.vote)
        entry = self.decided.setdefault(place.order, certified.vote.entry)
        assert entry == certified.vote.entry, f"two entries are certified at {place}"
        node.log.append(certified)
        node.positions.append(node.position.after(self._entries[entry]))
        self._later(0, lambda: self._arrive(node) if node.alive else None)

    # Messages

    def _send(self, node: Node, to: PublicKey, message: Message) -> None:
        for _ in range(1 + (self.random.random() < self.weather.repeated)):
            self._deliver(node, self.nodes[to], lambda: self._receive(self.nodes[to], message))

    def _receive(self, node: Node, message: Message) -> None:
        self.lies += node.witness.hear(message, self.nodes)
        if node.closer is None and place_of(message.signed.value).order > node.place.order:
            self._inform(self.nodes[message.signed.signer], node)
        self._feed(node, Received(message))

    def _inform(self, node: Node, other: Node) -> None:
        """Send a node the log that it lacks."""
        known = len(other.log)
        self._deliver(node, other, lambda: self._learn(other, node.log[known:]))

    def _learn(self, node: Node, entries: list[Certified]) -> None:
        for certified in entries:
            if place_of(certified.vote) != node.place:
                continue
            if node.closer is None:
                self._decide(node, certified)
            else:
                self._feed(node, Learned(certified))
            self._arrive(node)

    def _obtain(self, node: Node, life: int, value: Value, holders: list[Node], tries: int) -> None:
        if node.lives != life or tries == 0:
            return
        if any(self._connected(node, holder) for holder in holders):
            self._later(self._delay(), lambda: self._feed(node, Checked(value)))
        else:
            self._later(500, lambda: self._obtain(node, life, value, holders, tries - 1))

    def _connected(self, node: Node, other: Node) -> bool:
        return node.alive and other.alive and self.side[node.key] == self.side[other.key]

    def _deliver(self, node: Node, other: Node, action: Callable[[], None]) -> None:
        if self._connected(node, other) and self.random.random() >= self.weather.lost:
            self._later(self._delay(), lambda: action() if other.alive else None)

    def _delay(self) -> int:
        return self.random.randint(1, self.weather.slowest)

    def _later(self, delay: int, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._queue, (self.now + delay, self._numbers, action))
