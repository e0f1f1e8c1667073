"""The rendering of holder outcomes."""

from __future__ import annotations

import pytest

from barnraise.core.ids import BlobHash
from barnraise.network.blobs.holder_outcomes import (
    BlobUnavailable,
    ConnectionFailed,
    Faulted,
    HolderOutcome,
    NotHeld,
    NothingMissing,
    Rejected,
    Untrusted,
    WrongSize,
    connection_failed,
    describe,
)
from barnraise.network.blobs.reputation import FaultKind
from tests.support.transfers import key

BLOB = BlobHash("ab" * 32)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Untrusted(), "is not trusted after an earlier fault"),
        (ConnectionFailed("EOFError"), "cannot be reached: EOFError"),
        (NothingMissing(), "holds nothing that is missing"),
        (NotHeld(), "does not hold it"),
        (WrongSize(3_145_728, 1000), "offers 3145728 bytes, not 1000"),
        (Rejected("other bytes"), "served it, but it was not accepted: other bytes"),
        (Faulted(FaultKind.BAD_HASH), "served bytes of a wrong hash"),
        (Faulted(FaultKind.BROKEN_PROMISE), "did not serve what it had offered"),
        (Faulted(FaultKind.FALSE_COMMIT), "signed a commit that is not its blob's"),
        (Faulted(FaultKind.STALLED), "stopped in the middle of an answer"),
        (Faulted(FaultKind.DISCONNECTED), "broke the connection or cannot be reached"),
    ],
)
def test_an_outcome_completes_a_sentence(outcome: HolderOutcome, words: str) -> None:
    assert describe(outcome) == words


def test_an_error_keeps_its_class_and_text() -> None:
    assert connection_failed(ConnectionRefusedError("no")) == ConnectionFailed("ConnectionRefusedError no")
    assert connection_failed(TimeoutError()) == ConnectionFailed("TimeoutError")


def test_the_error_lists_each_holder() -> None:
    ada = key("ada")
    error = BlobUnavailable(BLOB, {ada: NotHeld()}, (2, 7))
    assert error.problem == (
        f"no holder served all of the blob abababab: 2 of 7 pieces are here ({ada[:8]} does not hold it)"
    )
    assert BlobUnavailable(BLOB, {}).problem == (
        "no holder served all of the blob abababab (no holder is known)"
    )
