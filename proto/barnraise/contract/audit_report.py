"""What an auditor found in the contributions of one round."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from barnraise.contract.audit_figures import Cosine, Finding, Millionths, Nano, Size
from barnraise.contract.field_types import RoundNumber, Run, Time
from barnraise.core.signed import Extensible
from barnraise.core.strict import Hex64, Strict

MAX_RESULTS = 128
"""Contributions in a report."""
MAX_AUDIT_REPORT_BYTES = 60_000


class AuditResult(Strict):
    """Of one contribution."""

    key: Hex64
    """Its owner."""
    blob: Hex64
    finding: Finding
    audited: bool
    """Whether it was tried: all are compared, a share is tried."""
    change: Nano
    """As in `Figures`; 0 where it was not tried."""
    error: Size
    norm: Annotated[float, Field(ge=0)]
    """Of its values."""
    alignment: Cosine
    """As in `Figures`; 0 where no other contribution is by a trusted key."""
    taken: Millionths
    """Share of it that the fold takes."""


class AuditReport(Extensible):
    """Signed by the coordinator and kept in its folder."""

    DOMAIN = b"barnraise/AuditReport/1\n"

    run: Run
    round: RoundNumber
    base_state: Hex64
    """Hash of the state that contributions were tried on."""
    owner: Hex64
    """Who signs it: the coordinator."""
    auditor: Annotated[Hex64 | None, Field(exclude_if=lambda auditor: auditor is None)] = None
    """The auditor that tried contributions for it; None where the coordinator tried all of them."""
    results: Annotated[tuple[AuditResult, ...], Field(min_length=1, max_length=MAX_RESULTS)]
    at: Time
