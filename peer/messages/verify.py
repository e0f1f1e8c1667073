"""Messages about what `peer verify` does, and its outcome."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.evaluation_quorum import NoQuorum, Quorum, QuorumOutcome, QuorumPending
from barnraise.core.ids import short
from barnraise.core.plain_text import one_line
from barnraise.core.units import format_bytes, format_count, format_rounds
from barnraise.fold.replay import Cause, Difference
from peer.messages.archive import archive_message
from peer.verify import events
from peer.verify.evaluations import (
    EvaluationsDiffer,
    HeldOutOrigin,
    LossByCoordinator,
    LossByEvaluators,
    NoHeldOutLoss,
    OtherEvaluation,
    UnreadableEvaluations,
)
from peer.verify.proof import FromAdapterSeed, FromBaseModel, FromCheckpoint, Proved, Start


def verify_message(event: events.VerifyEvent | events.ReplayProgress) -> str:
    match event:
        case events.CheckingFiles(run, round, state, files, size):
            size_text = format_bytes(size)
            return f"round {round} of {run}, state {short(state)}: checking {files} files, {size_text}"
        case events.ContributionsDropped(round):
            return f"the contributions of the rounds before {round} are no longer kept"
        case events.StartFromCheckpoint(round):
            return (
                f"starting from the checkpoint of round {round}, which the run's key signed: the rounds"
                " before it are not proved"
            )
        case events.InitializingAdapter(seed):
            return f"initializing the adapter from the run's seed, {seed}"
        case events.ReadingBaseModel(source):
            return f"reading the base model {source}"
        case events.CloserLied(closer, kind, round):
            return (
                f"proved: the closer {short(closer)}… lied in round {round} ({kind}). The log counts where a"
                " majority of closers certified it; the run's maintainer should name another closer"
            )
        case events.ReplayProgress(rounds, total):
            return f"replayed {rounds} of {total} rounds: {replay_rate(event)}"
        case _:
            return archive_message(event)


def replay_rate(progress: events.ReplayProgress) -> str:
    rate = progress.rounds / max(progress.seconds, 1e-9)
    return f"{progress.contributions} contributions, {rate:.1f} rounds/s"


def proof_message(proved: Proved) -> str:
    """What is proved, which keys and checkpoints are trusted for it, and how long it took."""
    trusted, run = f"the run's key {short(proved.key)}…", one_line(proved.run)
    if isinstance(proved.start, FromCheckpoint):
        trusted += f", and its signature on {_start(proved.start)}: the rounds before it are not proved"
    if proved.signed:
        trusted += f"; its signature on the states of {format_rounds(proved.signed)} as well"
    what = f"round {proved.round} of {run}, state {proved.state}, is {_replay(proved)}"
    if proved.mean_of:
        states = f"the mean of the states of {format_rounds(proved.mean_of)}"
        what = f"{states} of {run}, {proved.state}. Round {proved.round} is {_replay(proved)}"
    return (
        f"proved: {what}. The checkpoint's {format_count(proved.files, 'file')} hold exactly"
        f" {'that mean' if proved.mean_of else 'that state'}.\n"
        f"trusted: {trusted}.\n"
        f"{_held_out(proved.held_out)}"
        f"{_speed(proved)}"
    )


def difference_message(difference: Difference | EvaluationsDiffer) -> str:
    if isinstance(difference, EvaluationsDiffer):
        expected = f"evaluations of this state that lead to {difference.expected}"
        found, cause = _evaluations(difference.found), Cause.COORDINATOR
        return _difference("evaluations differ", difference.where, expected, found, cause)
    return _difference(
        f"{difference.what} differs",
        difference.where,
        difference.expected,
        difference.found,
        difference.cause,
    )


def _difference(problem: str, where: str, expected: str, found: str, cause: Cause) -> str:
    return (
        f"not proved: the {one_line(problem)}: {one_line(where)}\n"
        f"  expected: {one_line(expected)}\n"
        f"  found:    {one_line(found)}\n"
        f"  → {_cause(cause)}"
    )


def _evaluations(found: UnreadableEvaluations | OtherEvaluation | QuorumOutcome) -> str:
    match found:
        case UnreadableEvaluations(problem):
            return problem
        case OtherEvaluation(round, owner, signer):
            return f"one of round {round} by {owner}, signed by {signer}"
        case Quorum(held_out):
            return f"evaluations that lead to {held_out}"
        case QuorumPending(missing, evaluators):
            return f"evaluations that {missing} more of {evaluators} evaluators must agree with"
        case NoQuorum(required, evaluators, losses):
            each = ", ".join(f"{loss:.4f} by {short(key)}" for key, loss in losses)
            return f"no held-out loss that {required} of {evaluators} evaluators agree on: {each}"
        case _:
            assert_never(found)


def _start(start: Start) -> str:
    match start:
        case FromAdapterSeed(seed):
            return f"the adapter initialized from the run's seed {seed}"
        case FromBaseModel(source):
            return f"the base model {one_line(source)}"
        case FromCheckpoint(round):
            return f"the checkpoint of round {round}"
        case _:
            assert_never(start)


def _replay(proved: Proved) -> str:
    if not proved.rounds:
        return _start(proved.start)
    folded = format_count(proved.contributions, "contribution")
    volunteers = format_count(proved.volunteers, "volunteer")
    first, last = proved.round - proved.rounds, proved.round - 1
    return f"the fold of {folded} by {volunteers} in rounds {first} to {last} onto {_start(proved.start)}"


def _held_out(origin: HeldOutOrigin) -> str:
    match origin:
        case NoHeldOutLoss():
            return ""
        case LossByCoordinator(loss):
            return f"held-out loss {loss:.4f}: by the run's coordinator only.\n"
        case LossByEvaluators(loss, by, of):
            return f"held-out loss {loss:.4f}: signed by {by} of {format_count(of, 'vouched volunteer')}.\n"
        case _:
            assert_never(origin)


def _speed(proved: Proved) -> str:
    took = f"{format_count(proved.rounds, 'round')} in {proved.seconds:.1f} s"
    if proved.training is None:
        return took
    return f"{took}, {proved.training * proved.rounds / proved.seconds:.0f} × as fast as they were trained"


def _cause(cause: Cause) -> str:
    match cause:
        case Cause.SOURCE:
            return (
                "The run's key did not sign these bytes: the copy is damaged, truncated or forged. Try"
                " another source; the run itself may be sound."
            )
        case Cause.ABSENT:
            return (
                "The source does not have it: the copy is incomplete, or the run dropped it meanwhile. Run"
                " the command again, or try another source."
            )
        case Cause.COORDINATOR:
            return (
                "The run's key signed both, and they contradict each other: the coordinator is at fault, or"
                " another holder of its key. Do not use this checkpoint. To rule this machine out, verify on"
                " another one."
            )
        case Cause.BASE:
            return (
                "The base model here is not the one that the run began with, or the coordinator's charter is"
                " false. Give the right model with --base, or try on another machine."
            )
        case _:
            assert_never(cause)
