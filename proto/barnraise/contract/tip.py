"""The position of a follower in the log."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.core.ids import BlobHash, Round, StateHash


@dataclass(frozen=True)
class Tip:
    """A position in the log: `round` is the next round to fold, `state` its base state."""

    round: Round
    previous: BlobHash
    """Blob hash of the close of round - 1; the spec digest while round is 0."""
    state: StateHash


def genesis_tip(charter: Charter) -> Tip:
    return Tip(Round(0), BlobHash(charter.spec.digest()), charter.genesis_hash)
