"""Why a round is not audited."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.audit_task import Disagreement
from barnraise.core.ids import PublicKey
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class BudgetSaved(Reason):
    """Audits take a share of what a volunteer computes: it is saved until it is enough."""

    audited: int
    """Contributions that would be audited."""


@dataclass(frozen=True)
class NoSecretSamples(Reason):
    """All samples of the drawn shards were assigned in this round."""


@dataclass(frozen=True)
class FilesMissing(Reason):
    """A shard of the data or a contribution is not here."""


@dataclass(frozen=True)
class AuditorSilent(Reason):
    """An auditor did not report on a round in time, or cannot audit it: the coordinator does."""

    auditor: PublicKey
    round: int
    seconds: float
    """That it had."""


@dataclass(frozen=True)
class AuditorWrong(Reason):
    """An auditor reported what a repeated trial does not show: it is not asked any more."""

    auditor: PublicKey
    wrong: Disagreement


AuditorReason = AuditorSilent | AuditorWrong
NotAudited = BudgetSaved | NoSecretSamples | FilesMissing
