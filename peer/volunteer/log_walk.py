"""From a head back to a volunteer's place in the log: whether the log continues from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from barnraise.contract.certificates import Authorities, Certificate, check_certificate
from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified, DoubleSigned, contradict, proof_of
from barnraise.contract.log_entries import Resume
from barnraise.contract.records import Head
from barnraise.contract.tip import Position
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash
from barnraise.fold.log import Step, Unreadable, certified, check_step, read_step

Read = Callable[[BlobHash], Awaitable[bytes]]
"""An entry's payload by its name. Raises Unreachable, TrustError."""


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
    """Where a volunteer is in the log."""

    position: Position
    passed: Mapping[int, Certified]
    """The entries that it passed since it began, by height, as they were certified."""

    def passed_by(self, head: Head) -> bool:
        """Whether the head's newest entry is one that was passed, or none can be compared with it."""
        known = self.passed.get(head.height - 1)
        return head.epoch < self.position.epoch or known is None or known.vote.entry == head.entry


async def walk(head: Head, place: Place, read: Read, charter: Charter) -> Walk:
    """How `head` continues from `place`. Raises Unreachable, TrustError, NewerVersion."""
    position = place.position
    if head.epoch < position.epoch or (head.epoch, head.entry) == (position.epoch, position.previous):
        return Continues(())
    found = await _steps_back(head, position, read, charter)
    if not found:
        return Continues(())
    oldest = found[-1].entry
    if (oldest.previous, oldest.height) == (position.previous, position.height):
        return Continues(_checked(position, found[::-1], charter))
    resumes = [step for step in found if _begins_later_epoch(step, position)]
    if resumes:
        _check_vote(resumes[-1], Authorities((charter.authority_key,)))
        assert isinstance(resumes[-1].entry, Resume)
        return IsVoid(resumes[-1].entry)
    return _compare(found[-1], place, charter)


async def _steps_back(head: Head, position: Position, read: Read, charter: Charter) -> list[Step]:
    """The head's entries, newest first, down to the place, or below it where they do not lead there."""
    found: list[Step] = []
    name, certificate, height = BlobHash(head.entry), head.certificate, head.height
    while certificate is not None and not _is_decided(found, position):
        step = await _read(name, certificate, position, read, charter)
        height -= 1
        if step.entry.height != height:
            raise MalformedRecord(
                f"an entry of height {step.entry.height} where {height} was expected", fix="It is dropped."
            )
        found.append(step)
        name, certificate = BlobHash(step.entry.previous), step.entry.certificate
    return found


def _is_decided(found: list[Step], position: Position) -> bool:
    if not found:
        return False
    last = found[-1].entry
    joins = (last.previous, last.height) == (position.previous, position.height)
    return joins or (last.height < position.height and last.epoch <= position.epoch)


async def _read(
    name: BlobHash, certificate: Certificate, position: Position, read: Read, charter: Charter
) -> Step:
    step = read_step(await read(name), certificate, charter)
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
