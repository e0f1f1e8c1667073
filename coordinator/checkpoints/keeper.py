"""What a session needs of the keeper of a run's checkpoints: the publisher, or a follower's copies."""

from __future__ import annotations

from typing import Protocol


class CheckpointKeeper(Protocol):
    """Keeps checkpoints while rounds continue."""

    async def run(self) -> None:
        """Work until cancelled. Raises DiskFull, StateError."""

    async def write_checkpoint(self) -> None:
        """A checkpoint of the newest state is due. Raises DiskFull."""

    async def update_archive(self) -> None:
        """The log has grown."""
