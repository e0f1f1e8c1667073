"""Places in the log: a `Position` between two entries, and a follower's `Tip`, which has the state too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from typing_extensions import assert_never

from barnraise.contract.certificates import Authorities
from barnraise.contract.charter import Charter
from barnraise.contract.log_entries import (
    Change,
    Close,
    Decay,
    Delegation,
    Entry,
    Resume,
    Rollback,
    StandingChange,
    Succession,
)
from barnraise.contract.run_keys import (
    NamedSuccessor,
    Successors,
    agreed,
    another_successor,
    check_named,
    generation_of,
    keys_of,
)
from barnraise.contract.schedule import NO_PROGRESS, Progress, decays, first_progress, is_over, rate_factor
from barnraise.contract.spec import RunSpec
from barnraise.contract.standing import NONE, Standing, Standings
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash, PublicKey, Round, StateHash


@dataclass(frozen=True)
class Position:
    """A place after an entry of the log, or after the charter."""

    round: Round
    """The open round."""
    previous: BlobHash
    """SHA-256 of the payload before this place: of an entry, or of the charter while there is none."""
    epoch: int = 0
    height: int = 0
    """Entries before this place."""
    closers: tuple[PublicKey, ...] = ()
    """Keys that certify entries of the open round by majority; none: the run key does alone."""
    next_closers: tuple[PublicKey, ...] | None = None
    """Those from the next round on, where a delegation names others."""
    successors: Successors = ()
    """Of the charter's run key."""
    standings: Standings = NONE
    """Of the keys that the log names."""
    void: tuple[tuple[Round, Round], ...] = ()
    """Rounds whose contributions are void, by rollbacks: the first and the last of each range, sorted. The
    state of the first is the one that the round after the last begins with."""
    halted: bool = False
    """No round closes until the maintainer has it continue, or go back."""
    progress: Progress = NO_PROGRESS
    """On which the learning rate and the end of the run depend."""

    def is_void(self, round: int) -> bool:
        """Whether the state of a round is void."""
        return any(first < round <= last for first, last in self.void)

    def folds(self, round: int) -> bool:
        """Whether the contributions to an earlier round are in the state of this place."""
        return not any(first <= round <= last for first, last in self.void)

    def has_effect(self, entry: Entry) -> bool:
        """Whether an entry of before this place counts here: rollbacks made closes, and each other, void."""
        match entry:
            case Close(round=round):
                return self.folds(round)
            case Rollback(round=round):
                return any(last == round for _, last in self.void)
            case _:
                return True

    @property
    def step(self) -> int:
        """Rounds that are folded into the state of this place: `TrainState.step`."""
        return steps_of(self.round, self.void)

    def rate_factor(self, spec: RunSpec) -> float:
        """The learning rate's factor in the open round."""
        return rate_factor(spec.train.schedule, self.step, self.progress)

    def is_over(self, spec: RunSpec) -> bool:
        """Whether the run has ended: the open round is never closed."""
        return is_over(spec.train.schedule, self.step, self.progress)

    def is_named_by(self, standings: str | None, void: Sequence[tuple[int, int]]) -> bool:
        """Whether an entry or a record says these standings and void rounds."""
        return (self.standings.name, self.void) == (standings, tuple(void))

    @property
    def named(self) -> tuple[PublicKey, ...]:
        """The keys of the closers now, and of those from the next round on."""
        return tuple(dict.fromkeys((*self.closers, *(self.next_closers or ()))))

    def run_keys(self, first: PublicKey) -> tuple[PublicKey, ...]:
        """All run keys, by generation. first: the charter's."""
        return keys_of(first, self.successors)

    def run_key(self, first: PublicKey) -> PublicKey:
        """The one that is in force. first: the charter's."""
        return self.run_keys(first)[generation_of(self.epoch)]

    def authorities(self, first: PublicKey) -> Authorities:
        """The keys that certify the next close, delegation or succession. first: the charter's run key."""
        return Authorities(self.closers or (self.run_key(first),))

    def resumers(self, epoch: int, first: PublicKey) -> Authorities:
        """The run key that certifies a resume that begins `epoch`: nobody where that is not known here."""
        generation, keys = generation_of(epoch), self.run_keys(first)
        may = generation_of(self.epoch) <= generation < len(keys)
        return Authorities((keys[generation],) if may else ())

    def after(self, entry: Entry) -> Position:
        """The place after `entry`, which continues the log from here."""
        here = replace(self, previous=entry.name, height=self.height + 1)
        match entry:
            case Close():
                return replace(here._next_round(), progress=entry.progress)
            case Delegation():
                return replace(here, next_closers=tuple(map(PublicKey, entry.closers)))
            case Succession(named=named):
                return replace(here, successors=agreed(self.successors, self._with(named)))
            case StandingChange(changes=changes, revoked=revoked, halted=halted):
                halts = self.halted if halted is None else halted
                return replace(here, standings=changed(self.standings, changes, revoked), halted=halts)
            case Rollback(to=to, changes=changes, tokens=tokens):
                void, standings = self.void_after(to), changed(self.standings, changes)
                back = replace(here._next_round(), standings=standings, void=void, halted=False)
                return replace(back, progress=self.progress.back_at(back.step, tokens))
            case Decay(rounds=rounds):
                return replace(here, progress=self.progress.ordered(self.step, rounds))
            case Resume():
                return replace(here, epoch=entry.epoch, closers=(), next_closers=None)
            case _:
                assert_never(entry)

    def _next_round(self) -> Position:
        closers = self.closers if self.next_closers is None else self.next_closers
        return replace(self, round=Round(self.round + 1), closers=closers, next_closers=None)

    def void_after(self, to: int) -> tuple[tuple[Round, Round], ...]:
        """The void rounds after a rollback to `to`."""
        return (*(each for each in self.void if each[1] < to), (Round(to), self.round))

    def _with(self, named: NamedSuccessor) -> Successors:
        return (*self.successors[: named.statement.generation - 1], named)


def steps_of(round: int, void: Sequence[tuple[int, int]]) -> int:
    """Rounds that are folded into state[round]. void: as in `Position`, at that place."""
    return round - sum(1 + last - first for first, last in void)


def changed(standings: Standings, changes: Iterable[Change], revoked: Iterable[str] = ()) -> Standings:
    """The list after some changes."""
    items = ((PublicKey(each.key), Standing(each.level, each.work)) for each in changes)
    return standings.with_items(items, revoked)


@dataclass(frozen=True)
class Tip:
    """The place of a follower: all rounds below the position's are folded into `state`."""

    position: Position
    state: StateHash

    @property
    def round(self) -> Round:
        """The next round to fold."""
        return self.position.round

    @property
    def previous(self) -> BlobHash:
        """As in `Position`."""
        return self.position.previous

    @property
    def epoch(self) -> int:
        """As in `Position`."""
        return self.position.epoch

    @property
    def height(self) -> int:
        """As in `Position`."""
        return self.position.height


def first_position(charter: Charter) -> Position:
    """Where the log begins."""
    progress = first_progress(charter.spec.train.schedule)
    return Position(Round(0), BlobHash(charter.digest), closers=first_closers(charter), progress=progress)


def first_closers(charter: Charter) -> tuple[PublicKey, ...]:
    """The keys that close rounds by votes until a delegation names others; none: the run key does alone."""
    return closers_named(charter.spec, charter.authority_key)


def closers_named(spec: RunSpec, run_key: PublicKey) -> tuple[PublicKey, ...]:
    """As `first_closers`."""
    named = spec.closers.keys
    return tuple(sorted({run_key, *map(PublicKey, named)})) if named else ()


def holders(charter: Charter, position: Position | None = None) -> tuple[PublicKey, ...]:
    """Who has all that a run consists of: the coordinator, and the closers that follow it.

    position: the newest place in the log that is known.
    """
    here = first_position(charter) if position is None else position
    return tuple(dict.fromkeys((here.run_key(charter.authority_key), *here.named, *first_closers(charter))))


def certifiers(charter: Charter, successors: Successors = ()) -> tuple[Authorities, ...]:
    """Who may certify an entry without a delegation: a run key alone, or the charter's closers."""
    closers = first_closers(charter)
    alone = [Authorities((key,)) for key in keys_of(charter.authority_key, successors)]
    return (*alone, Authorities(closers)) if closers else tuple(alone)


def check_rollback(position: Position, entry: Rollback) -> None:
    """Refuse one to a state that is void, or that does not say its tokens. Raises MalformedRecord."""
    if position.is_void(entry.to):
        raise MalformedRecord(f"a rollback to round {entry.to}, whose state is void", fix="It is dropped.")
    counted = position.progress.tokens
    if (entry.tokens is None) != (counted is None) or (entry.tokens or 0) > (counted or 0):
        raise MalformedRecord(
            f"a rollback to a state of {entry.tokens} tokens, where {counted} are folded",
            fix="It is dropped.",
        )


def check_decay(position: Position, entry: Decay, spec: RunSpec) -> None:
    """Refuse one where the rate falls already, or another is ordered. Raises MalformedRecord."""
    falls = decays(spec.train.schedule, position.step, position.progress)
    if falls or position.progress.decay is not None:
        raise MalformedRecord(
            f"a decay over {entry.rounds} rounds, where the run ends already", fix="It is dropped."
        )


def check_succession(position: Position, entry: Succession, first: PublicKey) -> None:
    """Refuse a successor that the run key in force did not name, and every one but the first.

    first: the charter's run key. Raises BadSignature.
    """
    following = 1 + generation_of(position.epoch)
    keys, named = position.run_keys(first), entry.named
    if following < len(keys) and keys[following] != named.successor:
        raise another_successor(keys[following], named.successor)
    check_named(named, entry.run, keys[:following])


def genesis_tip(charter: Charter) -> Tip:
    """Where a follower begins."""
    return Tip(first_position(charter), charter.genesis_hash)
