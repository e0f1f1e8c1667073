"""Whose word a checkpoint's held-out loss is: pure."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.contract.charter import Charter
from barnraise.contract.evaluation_quorum import NoQuorum, Quorum, QuorumOutcome, QuorumPending, find_quorum
from barnraise.contract.evaluations import read_evaluations
from barnraise.contract.manifest import Manifest
from barnraise.core.errors import TrustError
from barnraise.core.ids import short
from barnraise.fold.replay import Cause, Difference


@dataclass(frozen=True)
class NoHeldOutLoss:
    """Nobody evaluated it."""


@dataclass(frozen=True)
class LossByCoordinator:
    """The run's key says so alone."""

    loss: float
    """Nats a token."""


@dataclass(frozen=True)
class LossByEvaluators:
    """Volunteers that the charter names signed what they found, and agree."""

    loss: float
    by: int
    of: int


HeldOutOrigin = NoHeldOutLoss | LossByCoordinator | LossByEvaluators


def without_evaluations(manifest: Manifest) -> HeldOutOrigin:
    """Of a checkpoint that has no evaluations of volunteers."""
    return NoHeldOutLoss() if manifest.held_out is None else LossByCoordinator(manifest.held_out.loss)


def by_evaluations(
    data: bytes, where: str, manifest: Manifest, charter: Charter
) -> LossByEvaluators | Difference:
    """Whether the evaluations in `data` come to the loss that the manifest says.

    where: their place in the archive. The manifest names their hash, so what is wrong in them the run's
    coordinator put there.
    """
    held_out, spec = manifest.held_out, charter.spec.checkpoint
    expected = f"evaluations of this state that come to {held_out}"
    try:
        signed = read_evaluations(data)
    except TrustError as error:
        return Difference("evaluations", where, expected, error.problem, Cause.COORDINATOR)
    about = (manifest.run, manifest.round, manifest.state)
    for each in signed:
        value = each.value
        if (value.run, value.round, value.state) != about or value.owner != each.signer:
            other = f"one of round {value.round} by {value.owner}, signed by {each.signer}"
            return Difference("evaluations", where, expected, other, Cause.COORDINATOR)
    of_owner = {each.signer: each.value for each in signed}
    outcome = find_quorum(of_owner.values(), spec.evaluators, spec.agree)
    if not isinstance(outcome, Quorum) or outcome.held_out != held_out:
        return Difference("evaluations", where, expected, _found(outcome), Cause.COORDINATOR)
    return LossByEvaluators(outcome.held_out.loss, len(outcome.by), len(spec.evaluators))


def _found(outcome: QuorumOutcome) -> str:
    match outcome:
        case Quorum(held_out):
            return f"evaluations that come to {held_out}"
        case QuorumPending(missing, evaluators):
            return f"evaluations that {missing} more of {evaluators} evaluators must agree with"
        case NoQuorum(required, evaluators, losses):
            found = ", ".join(f"{loss:.4f} by {short(key)}" for key, loss in losses)
            return f"no held-out loss that {required} of {evaluators} evaluators agree on: {found}"
        case _:
            assert_never(outcome)
