"""What has to hold after each fault, decided from evidence: pure.

- Every state that a program printed is that of the reference, which folds the log by itself.
- Every contribution that was accepted for a closed round is in that round's close.
- Every contribution that a volunteer signed is in exactly one place: in a close, or still with its sender,
  which waits for the close or took it back. A test that damages a sender's file excuses what was in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from barnraise.contract.records import Commit, blob_name
from barnraise.core.ids import BlobHash, short


class Place(Enum):
    """Where a contribution is."""

    FOLDED = "in a close"
    PENDING = "with its sender, which waits for the close"
    RETURNED = "taken back by its sender"
    DAMAGED = "damaged by the test in its only place"
    LOST = "lost"


@dataclass(frozen=True)
class SenderEvidence:
    """What is known of one volunteer's contributions."""

    name: str
    signed: Mapping[BlobHash, Commit]
    """All that it ever saved as pending."""
    pending: BlobHash | None
    """The one that it waits for, whose bytes are in its folder."""
    took_back: Collection[int]
    """Rounds whose contribution it said to have missed the close."""
    excused: Collection[BlobHash]
    """Contributions that were pending in a folder that the test damaged."""


@dataclass(frozen=True)
class Evidence:
    """One moment of a run."""

    truth: Mapping[int, str]
    """The reference's state (shortened hash) at the start of each round."""
    printed: Mapping[str, Sequence[tuple[int, str]]]
    """By program: rounds and the states that it said they start from."""
    listed: Mapping[int, Collection[BlobHash]]
    """By closed round: the contributions in the close."""
    accepted: Mapping[int, Collection[BlobHash]]
    """By round: the contributions that the journal says were accepted."""
    senders: Sequence[SenderEvidence]


@dataclass(frozen=True)
class Verdict:
    """Violations in words, and the count of contributions by place."""

    violations: tuple[str, ...]
    places: Mapping[Place, int]

    def describe(self) -> str:
        """The counts as one line."""
        return ", ".join(f"{self.places.get(place, 0)} {place.value}" for place in Place)


def judge(evidence: Evidence) -> Verdict:
    """All violations, and where the contributions are."""
    places: Counter[Place] = Counter()
    violations = [*_false_states(evidence), *_accepted_but_not_listed(evidence)]
    for sender in evidence.senders:
        for name, commit in sender.signed.items():
            place = place_of(commit, sender, evidence)
            places[place] += 1
            if place is Place.LOST:
                violations.append(
                    f"the contribution {short(name)} of {sender.name} to round {commit.round} is in no close,"
                    " and its sender neither waits for the close nor took it back"
                )
    return Verdict(tuple(violations), places)


def place_of(commit: Commit, sender: SenderEvidence, evidence: Evidence) -> Place:
    """Where a contribution is: the first rule that holds."""
    name = blob_name(commit)
    if name in evidence.listed.get(commit.round, ()):
        return Place.FOLDED
    if name == sender.pending:
        return Place.PENDING
    if commit.round in sender.took_back:
        return Place.RETURNED
    if name in sender.excused:
        return Place.DAMAGED
    return Place.LOST


def _false_states(evidence: Evidence) -> Iterable[str]:
    for name, printed in evidence.printed.items():
        for round, state in printed:
            true = evidence.truth.get(round)
            if true is not None and state != true:
                yield f"{name} has state {state} in round {round}, the log leads to {true}"


def _accepted_but_not_listed(evidence: Evidence) -> Iterable[str]:
    for round, accepted in evidence.accepted.items():
        if round in evidence.listed:
            for name in set(accepted) - set(evidence.listed[round]):
                yield f"the contribution {short(name)} was accepted for round {round}, whose close lacks it"
