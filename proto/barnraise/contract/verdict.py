"""Verdicts: what audits decided about a key, with the figures, so that anybody can decide again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from barnraise.contract.audit_figures import Figures
from barnraise.contract.evidence import Account, Claim, account_of
from barnraise.contract.field_types import Run, Time
from barnraise.contract.log_entries import Change
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signable, open_text
from barnraise.core.strict import Hex64

_LEVELS = {("suspended", "harm"), ("banned", "harm"), ("probation", "clean")}
"""What a key may become by each claim."""
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


def check_verdict(change: Change, run: str, run_key: PublicKey) -> Verdict | None:
    """The verdict of a change of standing, decided again from its figures; None where it needs none.

    run_key: the one in force. Raises MalformedRecord, BadSignature.
    """
    if change.cause != "audit":
        if change.verdict is not None:
            raise _unfounded(change, "it has a verdict, and another cause")
        return None
    if change.verdict is None:
        raise _unfounded(change, "it has no verdict")
    verdict = open_text(Verdict, change.verdict, signer=run_key).value
    if (verdict.run, verdict.key) != (run, change.key):
        raise _unfounded(change, "its verdict is on another key")
    if (change.level, verdict.claim) not in _LEVELS:
        raise _unfounded(change, f"its verdict is {verdict.claim!r}, and the key is {change.level}")
    if not verdict.follows:
        odds = f"{verdict.account.wealth:.3g}"
        raise _unfounded(change, f"its figures do not prove {verdict.claim!r}: the account is {odds}")
    return verdict


def _unfounded(change: Change, why: str) -> MalformedRecord:
    return MalformedRecord(
        f"the change of standing of {change.key[:8]} is unfounded: {why}", fix="Ask the run's maintainer."
    )
