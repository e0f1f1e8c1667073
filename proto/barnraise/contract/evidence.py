"""The sequential test that decides from audits whether a key does harm, and whether it has ceased to.

Each audit gives a *score* (`barnraise.contract.audit_figures`) in [FLOOR, 1]: 1 where a contribution raises
the loss of secret samples by as much as an honest one changes it, below 0 where it lowers the loss.

**Harm.** Hypothesis: the key is honest, so the expected score of each of its audits, given all before, is at
most TOLERANCE. It is about the whole score, the larger one of two ways to do harm; that it holds was measured
for kinds of honest contributions (`scripts/bench audits`, docs/PERFORMANCE.md). An account begins with 1 and
bets a share of it against the hypothesis in each audit:

    wealth ← wealth · (1 + bet · (score − TOLERANCE)),   0 ≤ bet < 1 / (TOLERANCE − FLOOR)

The bet is fixed before the score is known and the score is at least FLOOR, so the wealth is never negative,
and under the hypothesis it is a supermartingale. By Ville's inequality it ever reaches 1 / ALPHA with a
probability of at most ALPHA: the error rate holds for all of a key's life, at any time of looking.

**Clean.** Hypothesis: the key does harm, so the expected score is at least HARMFUL. The same account with
bets on lower scores; a key that goes on doing harm ever recovers with a probability of at most CLEAN_ALPHA.

A bet follows the recent scores. So the account of an honest key stays near 1 and one that was honest for long
is found as fast as a new one. Sources: Ville 1939; Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting" (J. R. Stat. Soc. B 86); Ramdas et al. 2023, "Game-theoretic statistics and safe
anytime-valid inference" (Stat. Sci. 38). Only additions, multiplications and divisions of doubles in a fixed
order, so every machine finds the same account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

UNIT = 1000
"""Scores are integers in thousandths."""
FLOOR = -100
"""The lowest score: good contributions cannot pay in advance for much harm."""
TOLERANCE = 100
HARMFUL = 200
ALPHA = 1e-4
CLEAN_ALPHA = 1e-2
SHARE = 0.9
"""Of the bet that could lose everything, which is placed at most."""
MEMORY = 0.5
"""Weight of the earlier scores in the mean that a bet follows."""
FIRST = TOLERANCE
"""That mean before the first score: no bet is placed on it."""
FULL_BET = 400
"""Mean from which the largest bet on harm is placed."""
MOST_WEALTH = 1e300
"""The largest account, far above what a claim needs. Records have no infinite numbers."""

Claim = Literal["harm", "clean"]
"""What an account bets on."""


@dataclass(frozen=True)
class Account:
    """What the scores of one key add up to, for one claim."""

    wealth: float = 1.0
    recent: float = FIRST / UNIT
    """Mean of the scores; the newest counts most."""

    def after(self, score: int, claim: Claim) -> Account:
        """The account after one more audit."""
        value = max(FLOOR, min(UNIT, score)) / UNIT
        gain = 1 + self._bet(claim) * (value - _boundary(claim))
        wealth = min(MOST_WEALTH, self.wealth * gain)
        return Account(wealth, MEMORY * self.recent + (1 - MEMORY) * value)

    def _bet(self, claim: Claim) -> float:
        """Positive on higher scores, negative on lower ones; fixed before the score is known."""
        distance = self.recent - _boundary(claim)
        if claim == "harm":
            most, full = SHARE / ((TOLERANCE - FLOOR) / UNIT), (FULL_BET - TOLERANCE) / UNIT
            return most * max(0.0, min(1.0, distance / full))
        most, full = SHARE / ((UNIT - HARMFUL) / UNIT), HARMFUL / UNIT
        return most * min(0.0, max(-1.0, distance / full))

    def proves(self, claim: Claim) -> bool:
        """Whether the claim holds, with the claim's error rate."""
        return self.wealth * (ALPHA if claim == "harm" else CLEAN_ALPHA) >= 1


def _boundary(claim: Claim) -> float:
    return (TOLERANCE if claim == "harm" else HARMFUL) / UNIT


def account_of(scores: Iterable[int], claim: Claim, before: Account | None = None) -> Account:
    """The account after several audits. before: where they continue from."""
    account = before or Account()
    for score in scores:
        account = account.after(score, claim)
    return account
