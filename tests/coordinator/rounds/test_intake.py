"""The states of announced contributions: each transition, and what holds across all of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from barnraise.contract.records import Commit
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed, sign
from coordinator.reasons.rounds import AfterDeadline, InvalidBlob, Unfetchable
from coordinator.rounds.intake import Fetching, Intake, Refused, Unfetched
from coordinator.timing import Timing
from tests.support.parts import ADA, BEN, commit

TIMING = replace(Timing(), fetch_attempts=3, refusals=2)


def announced(owner: Identity, number: int = 0) -> Signed[Commit]:
    return sign(owner, commit(owner).model_copy(update={"samples": number + 4}))


FIRST, SECOND, THIRD, BENS = announced(ADA), announced(ADA, 1), announced(ADA, 2), announced(BEN)


def test_a_new_commit_is_wanted_and_then_fetched() -> None:
    intake = Intake(TIMING)
    assert intake.wants(FIRST)
    intake.start(FIRST)
    assert intake.state(FIRST) == Fetching(0)
    assert intake.pending == {ADA.public}
    assert not intake.wants(FIRST)
    assert not intake.wants(SECOND), "one contribution of an owner is fetched at a time"
    assert intake.wants(BENS)


def test_an_accepted_contribution_leaves_the_table() -> None:
    intake = Intake(TIMING)
    intake.start(FIRST)
    intake.end(FIRST)
    assert intake.state(FIRST) is None
    assert not intake.pending


def test_a_commit_that_does_not_fit_is_refused_until_a_round_starts() -> None:
    intake = Intake(TIMING)
    intake.refuse(FIRST, AfterDeadline(1))
    assert intake.state(FIRST) == Refused(AfterDeadline(1))
    assert not intake.wants(FIRST)
    assert intake.wants(SECOND)
    intake.restart()
    assert intake.wants(FIRST)


def test_an_invalid_blob_is_refused() -> None:
    intake = Intake(TIMING)
    intake.start(FIRST)
    intake.refuse(FIRST, InvalidBlob("not finite"))
    intake.end(FIRST)
    assert intake.state(FIRST) == Refused(InvalidBlob("not finite"))
    assert intake.refused(PublicKey(ADA.public)) == (InvalidBlob("not finite"),)


def test_a_blob_that_cannot_be_fetched_is_tried_again_and_then_refused() -> None:
    intake = Intake(TIMING)
    for attempt in (1, 2):
        intake.start(FIRST)
        assert intake.fail(FIRST, "timeout") is None
        assert intake.pending, "the pause counts as fetching"
        intake.end(FIRST)
        assert intake.state(FIRST) == Unfetched(attempt)
        assert intake.wants(FIRST)
    intake.start(FIRST)
    assert intake.fail(FIRST, "timeout") == Unfetchable("timeout", 3)
    intake.end(FIRST)
    assert intake.state(FIRST) == Refused(Unfetchable("timeout", 3))


def test_a_commit_that_no_longer_fits_is_refused_after_an_attempt() -> None:
    intake = Intake(TIMING)
    intake.start(FIRST)
    intake.fail(FIRST, "timeout")
    intake.end(FIRST)
    intake.refuse(FIRST, AfterDeadline(1))
    assert intake.state(FIRST) == Refused(AfterDeadline(1))


def test_an_owner_with_too_many_refused_contributions_is_ignored() -> None:
    intake = Intake(TIMING)
    intake.refuse(FIRST, AfterDeadline(1))
    intake.refuse(SECOND, AfterDeadline(1))
    assert not intake.wants(THIRD)
    assert intake.wants(BENS)
    intake.restart()
    assert intake.wants(THIRD)


def test_a_fetch_outlives_the_start_of_a_round_and_its_attempts_start_from_zero() -> None:
    intake = Intake(TIMING)
    intake.start(FIRST)
    intake.fail(FIRST, "timeout")
    intake.restart()
    assert intake.state(FIRST) == Fetching(0)
    assert not intake.wants(FIRST)
    intake.end(FIRST)
    assert intake.state(FIRST) is None


class Announcements(RuleBasedStateMachine):
    """Any order of announcements, ends of fetches and starts of rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = Intake(TIMING)
        self.attempts: dict[bytes, int] = {}
        """Attempts since the last start of a round, by commit."""

    def fetching(self) -> list[Signed[Commit]]:
        return [each for each in COMMITS if isinstance(self.intake.state(each), Fetching)]

    @rule(commit=st.sampled_from([FIRST, SECOND, THIRD, BENS]), fits=st.booleans())
    def announce(self, commit: Signed[Commit], fits: bool) -> None:
        if not self.intake.wants(commit):
            return
        if fits:
            self.intake.start(commit)
            self.attempts[commit.wire] = self.attempts.get(commit.wire, 0) + 1
        else:
            self.intake.refuse(commit, AfterDeadline(1))

    @precondition(lambda self: bool(self.fetching()))
    @rule(data=st.data(), outcome=st.sampled_from(["accepted", "invalid", "unreachable"]))
    def fetch_ends(self, data: st.DataObject, outcome: str) -> None:
        commit = data.draw(st.sampled_from(self.fetching()))
        if outcome == "invalid":
            self.intake.refuse(commit, InvalidBlob("not finite"))
        if outcome == "unreachable":
            self.intake.fail(commit, "timeout")
        self.intake.end(commit)
        assert not isinstance(self.intake.state(commit), Fetching)

    @rule()
    def round_starts(self) -> None:
        self.intake.restart()
        self.attempts = {}
        assert all(isinstance(self.intake.state(each), Fetching | None) for each in COMMITS)

    @invariant()
    def one_fetch_for_each_owner(self) -> None:
        owners = [each.signer for each in self.fetching()]
        assert sorted(owners) == sorted(self.intake.pending)

    @invariant()
    def no_owner_is_refused_more_often_than_allowed(self) -> None:
        owners = (PublicKey(ADA.public), PublicKey(BEN.public))
        assert all(len(self.intake.refused(owner)) <= TIMING.refusals for owner in owners)

    @invariant()
    def a_refused_commit_is_not_wanted(self) -> None:
        refused = [each for each in COMMITS if isinstance(self.intake.state(each), Refused)]
        assert not any(map(self.intake.wants, refused))

    @invariant()
    def no_commit_is_fetched_more_often_than_allowed(self) -> None:
        for each in COMMITS:
            match self.intake.state(each):
                case Fetching(failed) | Unfetched(failed):
                    assert failed < TIMING.fetch_attempts


COMMITS = (FIRST, SECOND, THIRD, BENS)
TestAnnouncements = Announcements.TestCase
TestAnnouncements.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)
