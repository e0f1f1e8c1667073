"""Why a round is not audited."""

from __future__ import annotations

from dataclasses import dataclass

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


NotAudited = BudgetSaved | NoSecretSamples | FilesMissing
