"""From a head back along the log: whether it continues from a volunteer's place, or its newest part."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from barnraise.contract.certificates import Authorities, Certificate, check_certificate
from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified, DoubleSigned, contradict, proof_of
from barnraise.contract.head_proof import certifiers_at, is_certified
from barnraise.contract.log_entries import Close, Entry, Resume
from barnraise.contract.run_keys import Successors, generation_of, keys_of
from barnraise.contract.standing import NONE, read_standings
from barnraise.contract.tip import Position, first_position
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash, PublicKey, Round
from barnraise.fold.log import Link, Step, Unreadable, certified, check_step, read_step

Read = Callable[[BlobHash], Awaitable[bytes]]
"""An entry's payload, or a list of standings, by its name. Raises Unreachable, TrustError."""


MAX_UNPROVED, MAX_UNPROVED_BYTES = 2**15, 2**29
"""Entries that are read before their closers are known: with rounds of 5 minutes, those of 110 days."""


class LogEnd(Protocol):
    """Where a log ends, as a head says it."""

    @property
    def epoch(self) -> int:
        """Of its newest entry."""

    @property
    def height(self) -> int:
        """Its number of entries."""

    @property
    def entry(self) -> str:
        """The name of its newest entry."""

    @property
    def certificate(self) -> Certificate | None:
        """Of its newest entry."""


@dataclass(frozen=True)
class Continues:
    """The log goes on from the place by these steps, oldest first; each is checked."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class IsVoid:
    """The run resumed at an earlier place: what followed there in the older epoch is void."""

    resume: Resume


@dataclass(frozen=True)
class Differs:
    """The log is another one, and the certificate that would prove it is not known here."""


Walk = Continues | IsVoid | DoubleSigned | Differs


@dataclass(frozen=True)
class Place:
    """Where a program is in the log."""

    position: Position
    passed: Mapping[int, Certified]
    """The entries that it passed since it began, by height, as they were certified."""

    def passed_by(self, head: LogEnd) -> bool:
        """Whether the head's newest entry is one that was passed, or none can be compared with it."""
        known = self.passed.get(head.height - 1)
        return head.epoch < self.position.epoch or known is None or known.vote.entry == head.entry


async def walk(head: LogEnd, place: Place, read: Read, charter: Charter) -> Walk:
    """How `head` continues from `place`. Raises Unreachable, TrustError, NewerVersion."""
    position = place.position
    if head.epoch < position.epoch or (head.epoch, head.entry) == (position.epoch, position.previous):
        return Continues(())
    found = await _steps_back(head, position, read, charter, functools.partial(_is_decided, position))
    if not found:
        return Continues(())
    oldest = found[-1].entry
    if (oldest.previous, oldest.height) == (position.previous, position.height):
        return Continues(_checked(position, found[::-1], charter))
    resumes = [step for step in found if _begins_later_epoch(step, position)]
    if resumes:
        resume = resumes[-1].entry
        assert isinstance(resume, Resume)
        _check_vote(resumes[-1], position.resumers(resume.epoch, charter.authority_key))
        return IsVoid(resume)
    return _compare(found[-1], place, charter)


@dataclass(frozen=True)
class NewestPart:
    """The newest entries of a log, oldest first, and the place before them; each is checked."""

    start: Position
    steps: tuple[Step, ...]


async def newest_part(
    head: LogEnd, successors: Successors, read: Read, charter: Charter, closes: int
) -> NewestPart:
    """The newest `closes` closes of a head's log, and what is between them.

    successors: of the charter's run key, as the head says.

    It begins where the entries show that the run key certifies alone. While closers vote they do not show
    who they are: the log is read back to a resume, to such a place, or to the charter. Raises Unreachable,
    TrustError, NewerVersion.
    """
    start = first_position(charter)
    keys = keys_of(charter.authority_key, successors)
    found = await _steps_back(head, start, read, charter, lambda back: _is_enough(back, closes, keys))
    if _is_enough(found, closes, keys):
        last = found.pop()
        _check_vote(last, Authorities(_run_key_of(last, keys)))
        start = (await _before(last.entry, successors, read)).after(last.entry)
    return NewestPart(start, _checked(start, found[::-1], charter))


async def _before(entry: Entry, successors: Successors, read: Read) -> Position:
    """The place before a close or a resume, which the run key certifies alone."""
    assert isinstance(entry, Close | Resume), "other entries begin no part of a log"
    name = entry.standings
    return Position(
        Round(entry.round),
        BlobHash(entry.previous),
        entry.epoch,
        entry.height,
        successors=successors,
        standings=NONE if name is None else read_standings(await read(BlobHash(name)), name),
        void=tuple((Round(first), Round(last)) for first, last in entry.void),
        progress=entry.progress,
    )


def _is_enough(found: list[Step], closes: int, keys: Sequence[PublicKey]) -> bool:
    """Whether the run key certifies alone behind the last of `found`, and the others are enough."""
    if not found:
        return False
    *newer, last = found
    # A close behind a delegation may be the last that the run key certifies: the next one shows it.
    alone = len(newer) > 0 and all(_is_alone(step, keys) for step in (last, newer[-1]))
    begins = isinstance(last.entry, Resume) or (isinstance(last, Link) and alone)
    return begins and sum(isinstance(step, Link) for step in newer) >= closes


def _is_alone(step: Step, keys: Sequence[PublicKey]) -> bool:
    """Whether the run key decided alone: with other closers it votes in ballots from 1 on."""
    voters = tuple(key for key, _ in step.certificate.signatures)
    return step.certificate.ballot == 0 and voters == _run_key_of(step, keys)


def _run_key_of(step: Step, keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    """That of the epoch of an entry; none where it is not among `keys`, the run keys by generation."""
    generation = generation_of(step.entry.epoch)
    return tuple(keys[generation : generation + 1])


async def _steps_back(
    head: LogEnd, position: Position, read: Read, charter: Charter, is_enough: Callable[[list[Step]], bool]
) -> list[Step]:
    """The head's entries, newest first, until they are enough, or the charter is reached.

    position: whose closers certify an entry of a newer version.
    """
    found: list[Step] = []
    name, certificate, height = BlobHash(head.entry), head.certificate, head.height
    unproved, known = Unproved(), certifiers_at(position, charter.authority_key)
    while certificate is not None and not is_enough(found):
        payload = await read(name)
        step = _read(payload, certificate, position, charter)
        if not any(is_certified(certified(step).vote, certificate, each) for each in known):
            unproved = unproved.and_one_of(len(payload))
        height -= 1
        if step.entry.height != height:
            raise MalformedRecord(
                f"an entry of height {step.entry.height} where {height} was expected", fix="It is dropped."
            )
        found.append(step)
        name, certificate = BlobHash(step.entry.previous), step.entry.certificate
    return found


def _is_decided(position: Position, found: list[Step]) -> bool:
    """Whether `found` leads down to the place, or below it where it does not lead there."""
    if not found:
        return False
    last = found[-1].entry
    joins = (last.previous, last.height) == (position.previous, position.height)
    return joins or (last.height < position.height and last.epoch <= position.epoch)


@dataclass(frozen=True)
class Unproved:
    """Entries of a walk whose closers are not known yet: one closer alone could make up any number."""

    entries: int = 0
    bytes: int = 0

    def and_one_of(self, size: int) -> Unproved:
        """With one more. Raises MalformedRecord where they are more than are read."""
        more = Unproved(self.entries + 1, self.bytes + size)
        if more.entries > MAX_UNPROVED or more.bytes > MAX_UNPROVED_BYTES:
            raise MalformedRecord(
                f"{more.entries} entries of the log in a row by closers that are not known here",
                fix="A checkpoint is taken instead, or the head of another closer.",
            )
        return more


def _read(payload: bytes, certificate: Certificate, position: Position, charter: Charter) -> Step:
    step = read_step(payload, certificate, charter)
    # What this version cannot read ends the walk: NewerVersion, or BadSignature.
    return check_step(position, step, charter) if isinstance(step, Unreadable) else step


def _checked(position: Position, steps: list[Step], charter: Charter) -> tuple[Step, ...]:
    for step in steps:
        position = position.after(check_step(position, step, charter).entry)
    return tuple(steps)


def _begins_later_epoch(step: Step, position: Position) -> bool:
    return isinstance(step.entry, Resume) and step.entry.epoch > position.epoch


def _check_vote(step: Step, authorities: Authorities) -> None:
    check_certificate(certified(step).vote, step.certificate, authorities)


def _compare(theirs: Step, place: Place, charter: Charter) -> Continues | DoubleSigned | Differs:
    """theirs: an entry that is not above the place."""
    _check_vote(theirs, place.position.authorities(charter.authority_key))
    ours, other = place.passed.get(theirs.entry.height), certified(theirs)
    if ours is None:
        return Differs()
    if ours.vote.entry == theirs.hash:  # the coordinator is behind
        return Continues(())
    return proof_of(ours, other) if contradict(ours.vote, other.vote) else Differs()
