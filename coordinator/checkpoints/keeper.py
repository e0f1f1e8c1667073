"""What a session, and the gRPC service, need of the part that keeps a run's checkpoints.

That is the publisher, or a follower's copies.
"""

from __future__ import annotations

from typing import Protocol

from barnraise.contract.records import Evaluation
from barnraise.core.signed import Signed
from coordinator.reasons.checkpoints import EvaluationProgress, EvaluationStatus


class CheckpointKeeper(Protocol):
    """Keeps checkpoints while rounds continue."""

    async def run(self) -> None:
        """Work until cancelled. Raises DiskFull, StateError."""

    async def write_checkpoint(self, *, leads: bool = True) -> None:
        """A checkpoint of the newest state is due. leads: whether this program announces heads.

        Raises DiskFull.
        """

    async def update_archive(self) -> None:
        """The log has grown. Raises DiskFull, StateError."""

    def record_evaluation(self, evaluation: Signed[Evaluation]) -> EvaluationProgress:
        """Record a vouched volunteer's evaluation. Raises RefusedError, Unreachable, DiskFull."""

    def pending_evaluation(self) -> EvaluationStatus | None:
        """The status of the newest checkpoint that waits for evaluators; None where none does."""
