"""What a volunteer is told of its own measurements: how its steps and its line fit the run's rounds."""

from __future__ import annotations

from barnraise.contract.spec import RoundSpec
from peer.volunteer.policy import LONG_EXCHANGE, overlaps

FEW_STEPS, MANY_STEPS = 5, 500
"""Inner steps between two exchanges: fewer hardly pay for the exchange, more drift apart. About 30 to
100 did best (Douillard et al. 2023; Charles et al. 2025)."""


def of_steps(step_seconds: float, batch: int, spec: RoundSpec) -> str:
    """How many inner steps this machine takes in a round, and what that means."""
    steps = spec.seconds / step_seconds
    if spec.steps is not None:
        steps = min(steps, spec.steps)
    pace = f"a step of {batch} samples takes {step_seconds:.1f} s here"
    if steps < 1:
        return f"{pace}, longer than a round of {spec.seconds:g} s: it counts a round later, and nobody waits"
    told = f"{pace}: about {steps:.0f} in a round of {spec.seconds:g} s"
    if steps < FEW_STEPS:
        return f"{told}. That is few, and each counts all the same"
    if steps > MANY_STEPS:
        return f"{told}. That is many: shorter rounds would keep the replicas closer together"
    return told


def of_exchange(exchange_seconds: float, train_seconds: float, spec: RoundSpec) -> str:
    """Whether training waits for the exchange or goes on beside it, and why."""
    share = exchange_seconds / max(train_seconds, 1e-9)
    told = f"the exchange of a round took {exchange_seconds:.1f} s, {share:.0%} of its training"
    goes_on = overlaps(spec, exchange_seconds, train_seconds)
    then = "training goes on meanwhile" if goes_on else "training waits for it"
    if spec.overlap != "auto":
        return f"{told}; {then}, as the run says"
    return f"{told}, more than {LONG_EXCHANGE:.0%}: {then}" if goes_on else f"{told}: {then}"
