"""Where a checkpoint's held-out loss comes from, and whether its evaluations lead to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.evaluation_quorum import Quorum, QuorumOutcome, find_quorum
from barnraise.contract.evaluations import read_evaluations
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.core.errors import TrustError
from barnraise.core.ids import PublicKey
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class NoHeldOutLoss:
    """The checkpoint was not evaluated."""


@dataclass(frozen=True)
class LossByCoordinator:
    """Only the run's key signed it."""

    loss: float
    """Nats per token."""


@dataclass(frozen=True)
class LossByEvaluators:
    """Evaluators that the charter names signed their losses, and agree."""

    loss: float
    by: int
    """Evaluators who agree."""
    of: int
    """Evaluators that the charter names."""


HeldOutOrigin = NoHeldOutLoss | LossByCoordinator | LossByEvaluators


@dataclass(frozen=True)
class UnreadableEvaluations(Reason):
    """The file is not a list of signed evaluations."""

    problem: str


@dataclass(frozen=True)
class OtherEvaluation(Reason):
    """One evaluation is of another run or state, or signed by another key than its owner's."""

    round: int
    owner: PublicKey
    signer: PublicKey


@dataclass(frozen=True)
class EvaluationsDiffer(Reason):
    """The evaluations do not lead to the loss in the manifest.

    The coordinator is at fault: it signed the manifest, which names the hash of the evaluations.
    """

    where: str
    """Their place in the archive."""
    expected: HeldOut | None
    found: UnreadableEvaluations | OtherEvaluation | QuorumOutcome


def without_evaluations(manifest: Manifest) -> HeldOutOrigin:
    """Of a checkpoint that has no evaluations."""
    return NoHeldOutLoss() if manifest.held_out is None else LossByCoordinator(manifest.held_out.loss)


def by_evaluations(
    data: bytes, where: str, manifest: Manifest, charter: Charter
) -> LossByEvaluators | EvaluationsDiffer:
    """Whether the evaluations in `data` lead to the manifest's loss. where: their place in the archive."""
    expected, spec = manifest.held_out, charter.spec.checkpoint
    try:
        signed = read_evaluations(data)
    except TrustError as error:
        return EvaluationsDiffer(where, expected, UnreadableEvaluations(error.problem))
    checkpoint = (manifest.run, manifest.round, manifest.state)
    for each in signed:
        value = each.value
        if (value.run, value.round, value.state) != checkpoint or value.owner != each.signer:
            other = OtherEvaluation(value.round, PublicKey(value.owner), PublicKey(each.signer))
            return EvaluationsDiffer(where, expected, other)
    of_owner = {each.signer: each.value for each in signed}
    outcome = find_quorum(of_owner.values(), spec.evaluators, spec.agree)
    if not isinstance(outcome, Quorum) or outcome.held_out != expected:
        return EvaluationsDiffer(where, expected, outcome)
    return LossByEvaluators(outcome.held_out.loss, len(outcome.by), len(spec.evaluators))
