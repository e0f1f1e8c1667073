"""Verdicts: what audits decided about a key, with the figures, so that anybody can decide again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from barnraise.contract.audit_figures import Figures
from barnraise.contract.evidence import Account, Claim, account_of
from barnraise.contract.field_types import Run, Time
from barnraise.core.signed import Signable
from barnraise.core.strict import Hex64

MAX_FIGURES = 12
"""The newest ones. What the earlier ones add up to is in `wealth` and `recent`."""


class Verdict(Signable):
    """Signed by the run key, in the entry of the log that changes the key's standing."""

    DOMAIN = b"barnraise/Verdict/1\n"

    run: Run
    key: Hex64
    claim: Claim
    """harm: the key is suspended, or banned where it was suspended. clean: it begins again on probation."""
    wealth: Annotated[float, Field(ge=0)]
    """Of the account before these figures."""
    recent: float
    """As of `Account`, before these figures."""
    figures: Annotated[tuple[Figures, ...], Field(min_length=1, max_length=MAX_FIGURES)]
    at: Time

    @property
    def account(self) -> Account:
        """What the figures lead to."""
        before = Account(self.wealth, self.recent)
        return account_of((each.score for each in self.figures), self.claim, before)

    @property
    def follows(self) -> bool:
        """Whether the verdict follows from its figures."""
        return self.account.proves(self.claim)
