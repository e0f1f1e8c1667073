"""The words of the reasons of rounds; no other test asserts them."""

from __future__ import annotations

from typing import get_args

import pytest

from barnraise.core.ids import PublicKey, RunId, StateHash
from barnraise.core.reason import Reason
from coordinator.messages import rounds as messages
from coordinator.reasons import entrance
from coordinator.reasons import rounds as reasons

BARN, STATE = RunId("barn"), StateHash("ab" * 32)
LIFT = "If that is a mistake, ask the run's maintainer, who can lift it."
ANOTHER_INVITE = "Ask the run's maintainer for a new invite, which `coordinator invite` makes."
CLOCK_FIX = "Join again. If it is refused again, update Barnraise: its claims state the run's time."


@pytest.mark.parametrize(
    ("reason", "problem", "fix"),
    [
        (reasons.WrongRun(BARN, "shed"), "this is the run barn, not shed", "Ask for this run's invite."),
        (reasons.ClockOff(901.2), "your claim's time is 901 s behind the run's", CLOCK_FIX),
        (reasons.ClockOff(-901.2), "your claim's time is 901 s ahead of the run's", CLOCK_FIX),
        (
            reasons.HasOtherInstance(3.2),
            "another program takes part with your key; it sent a heartbeat 3 s ago",
            "A key is for one folder on one machine. Stop the other program, or give this one a new key:"
            " --data-dir with a new folder.",
        ),
        (entrance.Banned("sent noise"), "this run has banned your key: sent noise", LIFT),
        (entrance.Banned(""), "this run has banned your key", LIFT),
        (
            entrance.NotInvited(),
            "this run admits volunteers by invitation, and your invite has none",
            ANOTHER_INVITE,
        ),
        (
            entrance.InvitationInvalid(),
            "the invitation in your invite is not one that this run's key signed",
            "Copy the whole invite, in quotes. Invitations by a run key that was replaced are over. "
            f"{ANOTHER_INVITE}",
        ),
        (
            entrance.InvitationExpired(3 * 3600),
            "the invitation in your invite ended 3 h ago",
            ANOTHER_INVITE,
        ),
        (
            entrance.InvitationUsedUp(20),
            "the invitation in your invite is used up: it has admitted 20 keys",
            ANOTHER_INVITE,
        ),
        (
            entrance.InvitationUsedUp(1),
            "the invitation in your invite is used up: it has admitted 1 key",
            ANOTHER_INVITE,
        ),
        (
            entrance.InvitationRevoked(),
            "the run's maintainer has revoked the invitation in your invite",
            ANOTHER_INVITE,
        ),
        (
            entrance.NotOnList(PublicKey("cd" * 32)),
            "this run admits the keys on its list, and yours, cdcdcdcd…, is not on it",
            "Ask the run's maintainer to add it: `peer key RUN` prints the whole key, and `coordinator"
            " vouch RUN KEY` puts it on the list.",
        ),
    ],
)
def test_a_refused_claim(reason: reasons.ClaimReason, problem: str, fix: str) -> None:
    error = messages.claim_refusal(reason)
    assert (error.problem, error.fix) == (problem, fix)


REFUSALS: list[tuple[reasons.RefusalReason, str]] = [
    (reasons.WrongRound(2, 3), "it is for round 2, the open one is 3"),
    (reasons.AfterDeadline(1.4), "it is 1 s after the deadline"),
    (reasons.WrongBaseState("cd" * 32, STATE), "it starts from state cdcdcdcd, the round's is abababab"),
    (reasons.WrongBlobSize(99, range(100, 101)), "its blob has 99 bytes, this run's have 100"),
    (reasons.TooManyTokens(65, 4, 16), "it claims 65 tokens from 4 samples of 16"),
    (reasons.WrongRanges(3, 4), "its ranges name 3 of 4 samples, or are not in order"),
    (reasons.Unfetchable("no peer sent the blob", 5), "no peer sent the blob (5 attempts)"),
    (reasons.InvalidBlob("the blob of abababab is not finite"), "the blob of abababab is not finite"),
]
CLOSES: list[tuple[reasons.CloseReason, str]] = [
    (reasons.AllContributed(1), "the only volunteer contributed"),
    (reasons.AllContributed(2), "all 2 volunteers contributed"),
    (
        reasons.AllContributed(2, 1),
        "2 volunteers contributed, and 1 did not for whom rounds no longer wait",
    ),
    (reasons.RoundFull(2), "the round is full: 2 volunteers contributed"),
    (reasons.DeadlinePassed(1, ("ben",), 0), "the deadline passed: 1 contribution, without ben"),
    (reasons.DeadlinePassed(2, (), 0), "the deadline passed: 2 contributions, from every awaited volunteer"),
    (
        reasons.DeadlinePassed(2, ("ben", "cem", "dan"), 1),
        "the deadline passed: 2 contributions, without ben, cem, dan and 1 more",
    ),
]
NOT_AWAITED: list[tuple[reasons.NotAwaited, str]] = [
    (
        reasons.MissedRounds(1, 1),
        "1 round waited for it in vain; after 1 contribution a close waits for it again",
    ),
    (
        reasons.AllowanceSpent(0),
        "it is new, and rounds waited too long for others lately: no close waits until it contributed",
    ),
    (reasons.AllowanceSpent(2), "2 rounds waited for it in vain, and others waited too long lately"),
]
NO_ROLLBACK: list[tuple[reasons.NoRollback | reasons.HarmAfterRollback, str]] = [
    (reasons.NothingIsBanned(), "no key is banned"),
    (reasons.NothingFolded(), "nothing of the banned keys is in the state"),
    (reasons.LossesUnharmed(), "the losses did not rise: the state stays"),
    (
        reasons.HarmAfterRollback(("ab" * 32,), 3),
        "the run halts: abababab did harm, and it went back 3 rounds ago already",
    ),
]
PROGRESS: list[tuple[reasons.Progress, str]] = [
    (reasons.JustStarted(), "starting"),
    (reasons.Resumed(60.2), "this program was paused for 60 s"),
    (reasons.AwaitingHeartbeats(), "waiting for heartbeats"),
    (reasons.AskingHolders(60), "asking volunteers for up to 60 s whether the run went further"),
    (reasons.JustClosed(7, reasons.AllContributed(2)), "round 7 closed: all 2 volunteers contributed"),
    (reasons.JustCertified(7, 2), "round 7 closed by the votes of 2 closers"),
    (reasons.FirstVolunteers(("ada",), 0), "the round's time starts with its first volunteers: ada"),
    (reasons.AllSitOut(2), "no volunteer contributes to this round and 2 sit it out: it restarts"),
    (
        reasons.TooFewInTime(0, 1, 100.0),
        "0 of at least 1 contribution came in time; the round continues for 100 s",
    ),
    (
        reasons.RunHalted(),
        "the run is halted: audits banned keys soon after a rollback, and the losses rose again. Its"
        " maintainer decides: `coordinator rollback RUN --to ROUND` or `coordinator continue RUN`",
    ),
    (
        reasons.RunOver(500),
        "the run is over after 500 rounds, and no other opens. Volunteers leave by themselves; its archive"
        " and checkpoints are served until Ctrl-C",
    ),
    (reasons.NoVolunteers(), "no volunteer is connected: share the invite"),
    (reasons.SittingOut(2, 69.6), "2 sit this round out; it restarts in 70 s"),
    (reasons.MoreVolunteersNeeded(1, 2), "1 of at least 2 contributions: more volunteers must join"),
    (reasons.FetchingLast(1, 15.0), "1 contributed; fetching the last blobs, at most 15 s"),
    (reasons.StillTraining(("ben",), 0, 115.0), "training: ben; at most 115 s until the deadline"),
    (
        reasons.AwaitingContributions(1, ("ben", "cem", "dan"), 2, 15.0),
        "1 contributed; waiting for ben, cem, dan and 2 more, at most 15 s",
    ),
]


@pytest.mark.parametrize(("reason", "words"), REFUSALS)
def test_a_refused_contribution(reason: reasons.RefusalReason, words: str) -> None:
    assert messages.refusal_message(reason) == words


@pytest.mark.parametrize(("reason", "words"), CLOSES)
def test_a_close(reason: reasons.CloseReason, words: str) -> None:
    assert messages.close_message(reason) == words


@pytest.mark.parametrize(("reason", "words"), NOT_AWAITED)
def test_a_volunteer_for_whom_no_close_waits(reason: reasons.NotAwaited, words: str) -> None:
    assert messages.not_awaited_message(reason) == words


@pytest.mark.parametrize(("reason", "words"), NO_ROLLBACK)
def test_a_run_that_does_not_go_back(
    reason: reasons.NoRollback | reasons.HarmAfterRollback, words: str
) -> None:
    assert messages.no_rollback_message(reason) == words


DECAY_REFUSALS: list[tuple[reasons.DecayRefusal, str]] = [
    (
        reasons.DecayInForce(20, 3),
        "the log has a decay over 20 rounds already, and the run ends in 3 rounds",
    ),
    (
        reasons.PlannedDecayBegan(),
        "the learning rate falls already, as train.schedule plans it, up to the run's end",
    ),
    (reasons.RunOver(1), "the run is over after 1 round"),
]


@pytest.mark.parametrize(("reason", "words"), DECAY_REFUSALS)
def test_a_decay_that_is_refused(reason: reasons.DecayRefusal, words: str) -> None:
    error = messages.decay_refusal(reason)
    assert error.problem == words
    assert error.fix.startswith("Start without --decay")


@pytest.mark.parametrize(("reason", "words"), PROGRESS)
def test_progress(reason: reasons.Progress, words: str) -> None:
    assert messages.progress_message(reason) == words


def test_a_close_with_the_longest_names_fits_its_record() -> None:
    """`Close.reason` allows 400 characters; a name has 40 at most."""
    longest = messages.close_message(reasons.DeadlinePassed(10**9, ("x" * 40,) * 3, 10**9))
    assert len(longest) <= 400


@pytest.mark.parametrize(
    ("family", "rendered"),
    [
        (reasons.RefusalReason, REFUSALS),
        (reasons.CloseReason, CLOSES),
        (reasons.NotAwaited, NOT_AWAITED),
        (reasons.Progress, PROGRESS),
        (reasons.DecayRefusal, DECAY_REFUSALS),
    ],
    ids=["refusal", "close", "not awaited", "progress", "decay"],
)
def test_every_reason_has_an_example(family: object, rendered: list[tuple[Reason, str]]) -> None:
    assert {type(reason) for reason, _ in rendered} == set(get_args(family))
