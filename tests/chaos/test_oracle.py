"""The oracle finds each kind of loss."""

from __future__ import annotations

from dataclasses import replace

from barnraise.contract.records import Commit, blob_name
from barnraise.core.ids import BlobHash
from scripts.chaos.oracle import Evidence, Place, SenderEvidence, judge
from tests.support import parts

COMMIT = parts.commit(parts.ADA)
NAME = blob_name(COMMIT)
OTHER = BlobHash("f" * 64)
ROUND = COMMIT.round
SENDER = SenderEvidence("ada", {NAME: COMMIT}, pending=None, took_back=(), excused=())
GOOD = Evidence(
    truth={0: "aaaaaaaa", 1: "bbbbbbbb"},
    printed={"coordinator": [(1, "bbbbbbbb")], "ada": [(0, "aaaaaaaa"), (1, "bbbbbbbb"), (2, "unknown")]},
    listed={ROUND: {NAME}},
    accepted={ROUND: {NAME}, ROUND + 1: {OTHER}},
    senders=[SENDER],
)
UNLISTED = replace(GOOD, listed={ROUND: set()}, accepted={})


def place(sender: SenderEvidence, evidence: Evidence = UNLISTED) -> tuple[Place, int]:
    """Where the one contribution is, and the number of violations."""
    verdict = judge(replace(evidence, senders=[sender]))
    (found,) = verdict.places
    return found, len(verdict.violations)


def test_a_run_without_losses_has_no_violation() -> None:
    verdict = judge(GOOD)
    assert verdict.violations == ()
    assert verdict.places == {Place.FOLDED: 1}


def test_a_replica_with_another_state_is_found() -> None:
    (violation,) = judge(replace(GOOD, printed={"ada": [(1, "cccccccc")]})).violations
    assert "ada" in violation


def test_an_accepted_contribution_that_the_close_lacks_is_found() -> None:
    (violation,) = judge(replace(GOOD, listed={ROUND: set()}, senders=[])).violations
    assert "accepted" in violation


def test_each_contribution_has_a_place() -> None:
    assert place(SENDER, GOOD) == (Place.FOLDED, 0)
    assert place(replace(SENDER, pending=NAME)) == (Place.PENDING, 0)
    assert place(replace(SENDER, took_back={ROUND})) == (Place.RETURNED, 0)
    assert place(replace(SENDER, excused={NAME})) == (Place.DAMAGED, 0)


def test_a_contribution_in_no_place_is_lost() -> None:
    assert place(SENDER) == (Place.LOST, 1)
    assert place(replace(SENDER, took_back={ROUND + 1})) == (Place.LOST, 1)


def test_the_place_is_the_commit_s_own() -> None:
    other: Commit = COMMIT.model_copy(update={"blob": OTHER})
    assert place(replace(SENDER, signed={blob_name(other): other}), GOOD) == (Place.LOST, 1)
