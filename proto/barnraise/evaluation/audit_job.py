"""What the auditing program is asked, and what it answers. Both are JSON."""

from __future__ import annotations

from pydantic import Field

from barnraise.contract.audit_figures import Finding, Millionths
from barnraise.contract.spec import RunSpec
from barnraise.core.strict import Hex64, Strict


class Tried(Strict):
    """One contribution of the round."""

    key: Hex64
    blob: Hex64
    path: str
    """File of the blob."""
    audited: bool
    """Whether its effect on the loss is measured; the others are compared and give the round's direction."""
    trusted: bool
    """Whether its owner is trusted: what distances and directions are usual is seen by these."""
    taken: Millionths
    """Share of it that the fold takes: its norm is clipped."""
    seen: int | None
    """When its commit was first seen, in milliseconds: of two that are alike the later one is the copy. None
    where that is not known."""


class SecretSample(Strict):
    """A sample that nobody was assigned in the round."""

    path: str
    """File of the shard."""
    row: int
    shard: int | None = None
    """Its number in the run's data; None for a held-out one, or where it does not matter."""


class AuditJob(Strict):
    """One round's audit."""

    base: str
    """Folder of the base model."""
    spec: RunSpec
    round: int
    state: str
    """File with the tensors of the round's state."""
    sequence_length: int
    vocab_size: int
    contributions: tuple[Tried, ...] = Field(min_length=1)
    samples: tuple[SecretSample, ...]
    sketches: str
    """File with the sketches of earlier contributions; it is replaced by one that has this round's too."""
    seed: int
    """Of the sketches."""
    threads: int

    @property
    def forward_passes(self) -> int:
        """That the audit takes."""
        audited = sum(each.audited for each in self.contributions)
        return (1 + audited) * len(self.samples) if audited else 0


class Measured(Strict):
    """What was found in one contribution: as in `barnraise.contract.audit_report.AuditResult`."""

    key: Hex64
    blob: Hex64
    finding: Finding
    change: int
    error: int
    norm: float
    alignment: int
    taken: int
    audited: bool


class AuditReply(Strict):
    """What the program prints when it is done."""

    results: tuple[Measured, ...]
    forward_passes: int
    seconds: float
    """Of the process's own computing time, its start included."""
    pass_seconds: float
    """Of these, in forward passes."""

    @property
    def other_passes(self) -> float:
        """Forward passes that would take as long as the rest: starting, loading, comparing."""
        if not self.pass_seconds:
            return 0.0
        return self.forward_passes * (self.seconds - self.pass_seconds) / self.pass_seconds
