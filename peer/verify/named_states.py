"""The states that a mean names: found again by a replay, and added up as the coordinator did."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from barnraise.contract.archive import folder_of, place_of, round_tag
from barnraise.contract.manifest import MANIFEST, AveragedState, Manifest
from barnraise.contract.state import TrainState
from barnraise.core.errors import UserError
from barnraise.core.ids import StateHash
from barnraise.fold.averaging import RunningMean
from barnraise.fold.replay import Cause, Difference, Replay
from peer.archive.reading import RunArchive
from peer.verify.archive_reader import NOT_THERE, ArchiveReader
from peer.verify.checkpoint_reader import files_in, manifest_of, revision_of, state_in


@dataclass
class NamedStates:
    """Those of one manifest: none where it holds the state of its round."""

    manifest: Manifest
    signed: list[int] = field(default_factory=list)
    """Rounds of those that were taken from signed checkpoints, as the replay begins after them."""
    _left: list[AveragedState] = field(default_factory=list)
    _mean: RunningMean = field(default_factory=RunningMean)

    @classmethod
    def of(cls, manifest: Manifest) -> NamedStates:
        return cls(manifest, _left=list(manifest.mean_of))

    async def take_before(
        self, start: int, archive: RunArchive, archive_reader: ArchiveReader
    ) -> Difference | None:
        """Take the states before the round `start` from their checkpoints, which the run's key signed.

        Raises Unreachable, DiskFull.
        """
        while self._left and self._left[0].round < start:
            named = self._left.pop(0)
            state = await _state_of(named, self._where, archive, archive_reader)
            if isinstance(state, Difference):
                return state
            await asyncio.to_thread(self._mean.add, state.params)
            self.signed.append(named.round)
        return None

    def see(self, replay: Replay) -> Difference | None:
        """Add the state of `replay` where it is the next one; None unless it differs from what is named."""
        if not self._left or replay.tip.round != self._left[0].round:
            return None
        if (difference := replay.check_named(self._left.pop(0), self._where)) is not None:
            return difference
        self._mean.add(replay.state.params)
        return None

    def mean(self) -> StateHash | None:
        """The hash of their mean, after the replay came to all of them; None where there are none."""
        if not self.manifest.averaged:
            return None
        return TrainState(self._mean.mean(), {}, self.manifest.step).hash()

    @property
    def _where(self) -> str:
        return f"{place_of(self.manifest)}/{MANIFEST}"


async def _state_of(
    named: AveragedState, where: str, archive: RunArchive, archive_reader: ArchiveReader
) -> TrainState | Difference:
    place = f"{folder_of('trained', named.round)}/{MANIFEST}"
    expected = f"the state {named.state}, which {where} names"
    try:
        revision = revision_of(archive, round_tag(named.round))
    except UserError:
        return Difference("manifest", place, expected, NOT_THERE, Cause.ABSENT)
    manifest = await manifest_of(archive, revision)
    if isinstance(manifest, Difference):
        return manifest
    if manifest.state != named.state:
        return Difference("state", place, expected, f"the state {manifest.state}", Cause.COORDINATOR)
    files = await files_in(archive_reader, revision.folder, manifest)
    if isinstance(files, Difference):
        return files
    return await state_in(files, revision.folder, manifest, archive.charter)
