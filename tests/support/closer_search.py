"""All that three closers can do within bounds: every order, loss and repetition of messages, every crash.

The network is the set of all messages that were ever sent. Any of them may arrive next, again, or never. A
crash takes all but the record from a closer. So each reachable state of a run with any delays, losses,
duplicates and restarts is visited, as far as the highest ballot allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace

from barnraise.consensus.events import Checked, Effect, Event, Flush, Obtain, Received, Send, Transition
from barnraise.consensus.lies import lie_in, witnessed
from barnraise.consensus.machine import step
from barnraise.consensus.proposer import begin
from barnraise.consensus.state import Closer, Record, start
from barnraise.consensus.statements import (
    Message,
    PromiseMessage,
    ProposalMessage,
    RefusalMessage,
    Value,
    VoteMessage,
)
from barnraise.consensus.turn import Turn
from barnraise.core.ids import BlobHash, Millis
from tests.support import closers

NOW = Millis(0)
BEGIN, CRASH, CHECK = _ALWAYS = (-1, -2, -3)
Global = tuple[int, int, int, int]
"""Three closers, and the messages sent."""


@dataclass(frozen=True)
class Bounds:
    """What the search covers."""

    ballots: int
    """The highest ballot."""
    votes_arrive: bool = False
    """Whether votes are delivered. An acceptor does nothing on a vote until it decides; then it is silent,
    as one that crashed. So without it no other pair of votes can be sent."""
    refusals_arrive: bool = False
    """Whether refusals are delivered: they end a ballot, as a crash does, and let numbers be skipped."""
    checks: bool = False
    """Whether entries of others have to be checked first, which takes time."""
    crashes: bool = True
    amnesia: bool = False
    """Whether a crash takes the record too: the search then has to find two decisions."""


@dataclass
class Search:
    """A search from three fresh closers, each of which would close by an entry of its own."""

    bounds: Bounds
    transitions: set[Transition] = field(default_factory=set)
    certified: set[Value] = field(default_factory=set)
    """Entries that got a majority's votes in one ballot somewhere."""
    forks: int = 0
    """States in which two entries have majorities."""
    lies: int = 0
    """Steps after which two statements prove a lie: an honest closer makes none."""
    _ids: dict[Hashable, int] = field(default_factory=dict)
    _closers: list[Closer] = field(default_factory=list)
    _messages: list[Send] = field(default_factory=list)
    _message_ids: dict[Send, int] = field(default_factory=dict)
    _steps: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    _void: dict[int, int] = field(default_factory=dict)
    _inboxes: list[int] = field(default_factory=lambda: [0, 0, 0])
    _votes: int = 0
    _contradicted: list[int] = field(default_factory=list)
    """For each message, the earlier ones that prove a lie together with it."""
    _decided: dict[int, set[Value]] = field(default_factory=dict)

    def run(self) -> int:
        """Visit all states, or those before the first fork. Returns how many."""
        first = tuple(self._id(self._restarted(index, closers.fresh())) for index in range(3))
        root: Global = (first[0], first[1], first[2], 0)
        seen, queue = {root}, deque([root])
        while queue and not self.forks:
            for after in self._after(queue.popleft()):
                if after not in seen:
                    seen.add(after)
                    self._check(after[3])
                    queue.append(after)
        return len(seen)

    def _after(self, state: Global) -> Iterator[Global]:
        sent = state[3]
        for index in range(3):
            before = state[index]
            for event in (*_ALWAYS, *self._deliverable(index, before, sent)):
                after, messages = self._step(index, before, event)
                if after != before or messages & ~sent:
                    self._check_lies(sent | messages, messages & ~sent)
                    moved = [*state]
                    moved[index] = after
                    yield moved[0], moved[1], moved[2], sent | messages

    def _deliverable(self, index: int, local: int, sent: int) -> Iterator[int]:
        """Messages to a closer, without those that change nothing there."""
        return _bits(sent & self._inboxes[index] & ~self._void.get(local, 0))

    def _arrives(self, message: Message) -> bool:
        return self.bounds.votes_arrive or not isinstance(message, VoteMessage)

    def _is_kept(self, message: Message) -> bool:
        return self.bounds.refusals_arrive or not isinstance(message, RefusalMessage)

    def _step(self, index: int, local: int, event: int) -> tuple[int, int]:
        """The closer after an event, and the messages that it sent."""
        known = self._steps.get((local, event))
        if known is None:
            known = self._steps[local, event] = self._new_step(index, local, event)
            if event >= 0 and known == (local, 0):
                self._void[local] = self._void.get(local, 0) | 1 << event
        return known

    def _new_step(self, index: int, local: int, event: int) -> tuple[int, int]:
        closer = self._closers[local]
        if event == CRASH:
            record = closers.fresh() if self.bounds.amnesia else closer.record
            return self._id(self._restarted(index, record)) if self.bounds.crashes else local, 0
        turn = Turn(closer, NOW)
        if event == CHECK:
            if closer.pending is None or not self.bounds.checks:
                return local, 0
            self._take(turn, Checked(closer.pending.signed.value.value))
        elif event == BEGIN:
            if closer.decided is not None or self._next_ballot(closer) > self.bounds.ballots:
                return local, 0
            begin(turn)
        else:
            self._take(turn, Received(self._messages[event].message))
        while not self.bounds.checks and any(isinstance(effect, Obtain) for effect in turn.effects):
            obtain = next(effect for effect in turn.effects if isinstance(effect, Obtain))
            turn.effects.remove(obtain)
            self._take(turn, Checked(obtain.value))
        check_flushes(closer.record, turn.effects)
        self.transitions.update(turn.transitions)
        messages = 0
        for effect in turn.effects:
            if isinstance(effect, Send) and self._is_kept(effect.message):
                messages |= 1 << self._message_id(effect)
        return self._id(turn.closer), messages

    def _take(self, turn: Turn, event: Event) -> None:
        stepped = step(turn.closer, event, NOW)
        turn.closer = stepped.closer
        turn.effects.extend(stepped.effects)
        turn.transitions.extend(stepped.transitions)

    def _next_ballot(self, closer: Closer) -> int:
        return closer.ballots.next_of(closer.key, max(closer.record.promised, closer.heard))

    def _restarted(self, index: int, record: Record) -> Closer:
        closer = start(closers.seat(index, 3), record)
        own = closers.value(index)
        return replace(closer, candidate=own, checked=closer.checked | {own})

    def _id(self, closer: Closer) -> int:
        closer = replace(closer, due=None, contended=0)  # the search has no clock
        found = self._ids.get(closer)
        if found is None:
            found = self._ids[closer] = len(self._closers)
            self._closers.append(closer)
        return found

    def _message_id(self, sent: Send) -> int:
        found = self._message_ids.get(sent)
        if found is None:
            found = self._message_ids[sent] = len(self._messages)
            self._messages.append(sent)
            self._contradicted.append(self._contradicted_by(sent.message))
            if isinstance(sent.message, VoteMessage):
                self._votes |= 1 << found
            if self._arrives(sent.message):
                self._inboxes[closers.INDEX[sent.to]] |= 1 << found
        return found

    def _contradicted_by(self, message: Message) -> int:
        said = witnessed(message)
        return sum(
            1 << index
            for index, other in enumerate(self._messages)
            if any(lie_in(one, two) for one in said for two in witnessed(other.message))
        )

    def _check_lies(self, sent: int, new: int) -> None:
        self.lies += any(self._contradicted[bit] & sent for bit in _bits(new))

    def _check(self, sent: int) -> None:
        votes = sent & self._votes
        decided = self._decided.get(votes)
        if decided is None:
            decided = self._decided[votes] = majorities([self._messages[bit].message for bit in _bits(votes)])
            self.certified |= decided
        self.forks += len(decided) > 1


def majorities(messages: list[Message]) -> set[Value]:
    """The entries that a majority of three voted for in one ballot."""
    voters: dict[tuple[int, Value], set[str]] = {}
    for message in messages:
        if isinstance(message, VoteMessage):
            vote = message.signed.value
            about = vote.ballot, Value(BlobHash(vote.entry), vote.kind)
            voters.setdefault(about, set()).add(message.signed.signer)
    return {value for (_, value), keys in voters.items() if len(keys) >= 2}


def check_flushes(before: Record, effects: list[Effect]) -> None:
    """What is sent is in a record that was flushed before."""
    flushed = before
    for effect in effects:
        match effect:
            case Flush(record):
                flushed = record
            case Send(message=PromiseMessage(promise)):
                assert flushed.promised >= promise.value.ballot
            case Send(message=VoteMessage(vote)):
                assert flushed.voted is not None
                assert flushed.voted.ballot == vote.value.ballot
            case Send(message=ProposalMessage(proposal)):
                assert flushed.promised >= proposal.value.ballot


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        mask ^= low
        yield low.bit_length() - 1
