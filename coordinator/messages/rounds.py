"""Renders the reasons of admission, of the open round and of its contributions."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.protocol import Misfit, TooNew, TooOld
from barnraise.core.errors import KeyBanned, KeyInUse, RefusedError, UserError
from barnraise.core.ids import short
from barnraise.core.units import format_count, format_seconds
from barnraise.fold.codec import format_sizes
from coordinator.reasons import entrance
from coordinator.reasons import rounds as reasons


def claim_refusal(reason: reasons.ClaimReason) -> RefusedError:
    """The answer to a claim to join that is refused."""
    match reason:
        case reasons.WrongRun(run, claimed):
            return RefusedError(f"this is the run {run}, not {claimed}", fix="Ask for this run's invite.")
        case reasons.ClockOff(seconds):
            side = "behind" if seconds > 0 else "ahead of"
            return RefusedError(
                f"your claim's time is {abs(seconds):.0f} s {side} the run's",
                fix="Join again. If it is refused again, update Barnraise: its claims state the run's time.",
            )
        case reasons.HasOtherInstance(seconds):
            return KeyInUse(
                f"another program takes part with your key; it sent a heartbeat {seconds:.0f} s ago",
                fix="A key is for one folder on one machine. Stop the other program, or give this one a new"
                " key: --data-dir with a new folder.",
            )
        case _:
            return _barred(reason)


_ANOTHER_INVITE = "Ask the run's maintainer for a new invite, which `coordinator invite` makes."


def _barred(reason: entrance.EntranceReason) -> RefusedError:
    match reason:
        case entrance.Banned(note):
            why = f": {note}" if note else ""
            return KeyBanned(
                f"this run has banned your key{why}",
                fix="If that is a mistake, ask the run's maintainer, who can lift it.",
            )
        case entrance.NotInvited():
            return RefusedError(
                "this run admits volunteers by invitation, and your invite has none", fix=_ANOTHER_INVITE
            )
        case entrance.InvitationInvalid():
            return RefusedError(
                "the invitation in your invite is not one that this run's key signed",
                fix="Copy the whole invite, in quotes. Invitations by a run key that was replaced are over. "
                f"{_ANOTHER_INVITE}",
            )
        case entrance.InvitationExpired(seconds):
            return RefusedError(
                f"the invitation in your invite ended {format_seconds(seconds)} ago", fix=_ANOTHER_INVITE
            )
        case entrance.InvitationUsedUp(uses):
            keys = "key" if uses == 1 else "keys"
            return RefusedError(
                f"the invitation in your invite is used up: it has admitted {uses} {keys}",
                fix=_ANOTHER_INVITE,
            )
        case entrance.InvitationRevoked():
            return RefusedError(
                "the run's maintainer has revoked the invitation in your invite", fix=_ANOTHER_INVITE
            )
        case entrance.NotOnList(key):
            return RefusedError(
                f"this run admits the keys on its list, and yours, {short(key)}…, is not on it",
                fix="Ask the run's maintainer to add it: `peer key RUN` prints the whole key, and"
                " `coordinator vouch RUN KEY` puts it on the list.",
            )
        case _:
            assert_never(reason)


def misfit_message(reason: Misfit) -> str:
    """That volunteers of a version are refused, for the maintainer."""
    match reason:
        case TooOld(theirs, ours):
            return f"refused a volunteer with Barnraise {theirs}: it is asked to install {ours} or newer"
        case TooNew(theirs, ours):
            return (
                f"refused a volunteer with Barnraise {theirs}, which no longer works with {ours}: to admit"
                f" it, update this coordinator: pip install -U 'barnraise>={theirs}'"
            )
        case _:
            assert_never(reason)


def refusal_message(reason: reasons.RefusalReason) -> str:
    """Why a contribution is refused."""
    match reason:
        case reasons.WrongRound(round, open):
            return f"it is for round {round}, the open one is {open}"
        case reasons.AfterDeadline(seconds):
            return f"it is {seconds:.0f} s after the deadline"
        case reasons.WrongBaseState(trained, base):
            return f"it starts from state {short(trained)}, the round's is {short(base)}"
        case reasons.WrongBlobSize(size, allowed):
            return f"its blob has {size} bytes, this run's have {format_sizes(allowed)}"
        case reasons.TooManyTokens(tokens, samples, sequence_length):
            return f"it claims {tokens} tokens from {samples} samples of {sequence_length}"
        case reasons.WrongRanges(named, samples):
            return f"its ranges name {named} of {samples} samples, or are not in order"
        case reasons.Unfetchable(problem, attempts):
            return f"{problem} ({attempts} attempts)"
        case reasons.InvalidBlob(problem):
            return problem
        case _:
            assert_never(reason)


def progress_message(reason: reasons.Progress) -> str:
    """Why the open round is still open, as `coordinator status` shows it."""
    match reason:
        case reasons.JustStarted():
            return "starting"
        case reasons.AwaitingHeartbeats():
            return "waiting for heartbeats"
        case reasons.AskingHolders(seconds):
            return f"asking volunteers for up to {seconds:.0f} s whether the run went further"
        case reasons.Resumed(seconds):
            return f"this program was paused for {seconds:.0f} s"
        case reasons.JustClosed(round, because):
            return f"round {round} closed: {close_message(because)}"
        case reasons.JustCertified(round, votes):
            return f"round {round} closed by the votes of {format_count(votes, 'closer')}"
        case reasons.FirstVolunteers() | reasons.AllSitOut() | reasons.TooFewInTime():
            return reopen_message(reason)
        case _:
            return wait_message(reason)


def close_message(reason: reasons.CloseReason) -> str:
    """Why a round closes: at most 400 characters, as `Close.reason` allows."""
    match reason:
        case reasons.AllContributed(1, 0):
            return "the only volunteer contributed"
        case reasons.AllContributed(contributions, 0):
            return f"all {contributions} volunteers contributed"
        case reasons.AllContributed(contributions, passed_over):
            return (
                f"{format_count(contributions, 'volunteer')} contributed, and {passed_over} did not for whom"
                " rounds no longer wait"
            )
        case reasons.RoundFull(contributions):
            return f"the round is full: {format_count(contributions, 'volunteer')} contributed"
        case reasons.DeadlinePassed(contributions, missing, others):
            who = f"without {_names(missing, others)}" if missing else "from every awaited volunteer"
            return f"the deadline passed: {format_count(contributions, 'contribution')}, {who}"
        case _:
            assert_never(reason)


def not_awaited_message(reason: reasons.NotAwaited) -> str:
    """Why a close does not wait for a volunteer that trains."""
    match reason:
        case reasons.MissedRounds(misses, owed):
            return (
                f"{format_count(misses, 'round')} waited for it in vain; after"
                f" {format_count(owed, 'contribution')} a close waits for it again"
            )
        case reasons.AllowanceSpent(0):
            return (
                "it is new, and rounds waited too long for others lately: no close waits until it contributed"
            )
        case reasons.AllowanceSpent(misses):
            return f"{format_count(misses, 'round')} waited for it in vain, and others waited too long lately"
        case _:
            assert_never(reason)


HALTED_FIX = (
    "Look at `coordinator peers RUN` and `coordinator verdicts RUN`, and ban who does harm. Then `coordinator"
    " rollback RUN --to ROUND` goes back, or `coordinator continue RUN` goes on from here"
)
"""What a maintainer does about a run that is halted."""


def no_rollback_message(reason: reasons.NoRollback | reasons.HarmAfterRollback) -> str:
    """Why the run does not go back to an earlier state by itself."""
    match reason:
        case reasons.NothingIsBanned():
            return "no key is banned"
        case reasons.NothingFolded():
            return "nothing of the banned keys is in the state"
        case reasons.LossesUnharmed():
            return "the losses did not rise: the state stays"
        case reasons.HarmAfterRollback(keys, rounds):
            who = ", ".join(short(key) for key in keys)
            return (
                f"the run halts: {who} did harm, and it went back {format_count(rounds, 'round')} ago already"
            )
        case _:
            assert_never(reason)


def decay_refusal(reason: reasons.DecayRefusal) -> UserError:
    """Why the run does not end by the decay that was ordered."""
    match reason:
        case reasons.DecayInForce(rounds, left):
            return UserError(
                f"the log has a decay over {format_count(rounds, 'round')} already, and the run ends in"
                f" {format_count(left, 'round')}",
                fix="Start without --decay. To decay otherwise, `coordinator rollback RUN --to ROUND` goes"
                " back to a state before it, which ends it.",
            )
        case reasons.PlannedDecayBegan():
            return UserError(
                "the learning rate falls already, as train.schedule plans it, up to the run's end",
                fix="Start without --decay.",
            )
        case reasons.RunOver(rounds):
            return UserError(
                f"the run is over after {format_count(rounds, 'round')}",
                fix="Start without --decay to serve what it trained.",
            )
        case _:
            assert_never(reason)


def void_decay_message(rounds: int) -> str:
    """What a rollback means for an ordered decay. rounds: its length."""
    return (
        f"the decay over {format_count(rounds, 'round')} that was ordered is void with it, and the run does"
        f" not end by it. To end the run, start the coordinator again with `--decay {rounds}`"
    )


def reopen_message(reason: reasons.ReopenReason) -> str:
    """Why a round's TRAIN phase restarts."""
    match reason:
        case reasons.FirstVolunteers(first, others):
            return f"the round's time starts with its first volunteers: {_names(first, others)}"
        case reasons.AllSitOut(idle):
            return f"no volunteer contributes to this round and {idle} sit it out: it restarts"
        case reasons.TooFewInTime(contributions, needed, seconds):
            return f"{_some_of(contributions, needed)} came in time; the round continues for {seconds:g} s"
        case _:
            assert_never(reason)


def wait_message(reason: reasons.WaitReason) -> str:
    """Why a round stays open."""
    match reason:
        case reasons.RunHalted():
            return (
                "the run is halted: audits banned keys soon after a rollback, and the losses rose again. Its"
                " maintainer decides: `coordinator rollback RUN --to ROUND` or `coordinator continue RUN`"
            )
        case reasons.RunOver(rounds):
            return (
                f"the run is over after {format_count(rounds, 'round')}, and no other opens. Volunteers leave"
                " by themselves; its archive and checkpoints are served until Ctrl-C"
            )
        case reasons.NoVolunteers():
            return "no volunteer is connected: share the invite"
        case reasons.SittingOut(idle, left):
            return f"{idle} sit this round out; it restarts in {left:.0f} s"
        case reasons.MoreVolunteersNeeded(contributions, needed):
            return f"{_some_of(contributions, needed)}: more volunteers must join"
        case reasons.FetchingLast(contributions, left):
            return f"{contributions} contributed; fetching the last blobs, at most {left:.0f} s"
        case reasons.StillTraining(missing, others, left):
            return f"training: {_names(missing, others)}; at most {left:.0f} s until the deadline"
        case reasons.AwaitingContributions(contributions, missing, others, left):
            return f"{contributions} contributed; waiting for {_names(missing, others)}, at most {left:.0f} s"
        case _:
            assert_never(reason)


def _some_of(contributions: int, needed: int) -> str:
    return f"{contributions} of at least {format_count(needed, 'contribution')}"


def _names(names: tuple[str, ...], others: int) -> str:
    return ", ".join(names) + (f" and {others} more" if others else "")
