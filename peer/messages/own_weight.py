"""What a volunteer's contribution counted, and why it is less than its tokens."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.weights import (
    ClaimLimited,
    KeyShareLimited,
    Limited,
    NoWeight,
    OnProbation,
    ProbationShareLimited,
)
from peer.volunteer.own_weight import OwnWeight


def own_weight_message(found: OwnWeight) -> str:
    """One line; the limits follow in the order in which they apply."""
    share = found.weight / found.total if found.total else 0.0
    if not found.limited:
        return f"round {found.round}: all {found.tokens:,} tokens count, {share:.1%} of the round"
    counted = f"{found.weight:,} of {found.tokens:,} tokens count, {share:.1%} of the round"
    limits = "; ".join(_limit(each, found.weight) for each in found.limited)
    return f"round {found.round}: {counted}: {limits}"


def _limit(limit: Limited, weight: int) -> str:
    match limit:
        case NoWeight(level):
            again = ", and counts again when its audits find no harm" if level == "suspended" else ""
            return f"this key is {level}{again}"
        case ClaimLimited(most):
            return f"a contribution counts as {most:,} tokens at most, by the median of the trusted ones"
        case OnProbation(work, needed):
            first = "; it counts once the log has its first" if work == weight == 0 else ""
            return f"this key is on probation, with {work} of {needed} audited contributions{first}"
        case KeyShareLimited(share):
            return f"one key counts as {float(share):.0%} of a round at most"
        case ProbationShareLimited(share):
            return f"all keys on probation together count as {float(share):.0%} of a round at most"
        case _:
            assert_never(limit)
