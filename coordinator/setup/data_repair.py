"""The prepared data of a chartered run, checked at a restart: damaged parts are built from the dataset again.

The same dataset gives the same shards on any machine, so the charter says whether what was built is what is
missing. Shards that cannot be built are fetched from volunteers, while the run goes on.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.charter import Charter
from barnraise.contract.shards import MAX_INDEX_BYTES, DataIndex, ShardRef
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import BarnraiseError, DiskFull, FileDamaged, MalformedBlob
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore, Intact
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import Batch, scratch_folder, write_atomic
from coordinator.messages.dataset import build_step
from coordinator.messages.recovery import data_message
from coordinator.reasons.dataset import BuiltDataset
from coordinator.reasons.recovery import DataChanged, DataDamaged, DataNotRebuilt, DataReason, DataRebuilt
from coordinator.run_folder import BLOBS, CHAT_TEMPLATE, HELD_OUT
from coordinator.setup.charter import resolved_spec

log = logging.getLogger("coordinator")


@dataclass(frozen=True)
class DataCheck:
    """What of the prepared data is not there."""

    index: bool
    """The index of the shards is missing, so which shards there are is not known."""
    shards: tuple[ShardRef, ...]
    held_out_index: bool
    held_out: tuple[ShardRef, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not (self.index or self.shards or self.held_out_index or self.held_out)


@dataclass(frozen=True)
class PreparedData:
    """The shards of a run, and its held-out part, in the run's folder."""

    charter: Charter
    folder: Path

    @property
    def _blobs(self) -> BlobStore:
        return BlobStore(self.folder / BLOBS)

    @property
    def _held_out(self) -> BlobStore:
        return BlobStore(self.folder / HELD_OUT)

    def check(self) -> DataCheck:
        """Read all of it, and set damaged files aside. Slow: 1 s for each gigabyte or so. Raises DiskFull."""
        index, held_out = self._index(), self._held_out_index()
        return DataCheck(
            index=index is None,
            shards=_not_intact(index, self._blobs),
            held_out_index=held_out is None,
            held_out=_not_intact(held_out, self._held_out),
        )

    def absent(self) -> dict[BlobHash, int]:
        """The shards that are not there, or their index, and the bytes that each has at most. Fast."""
        index = self._index()
        if index is None:
            return {self.charter.data_index_hash: MAX_INDEX_BYTES}
        return {ref.blob: ref.size for ref in index.shards if ref.blob not in self._blobs}

    def repair(self, spec: RunSpec, base: Path) -> None:
        """Check the data, and build it again where something is missing. Logs what it does. Raises DiskFull.

        spec: as the maintainer wrote it. base: folder of the base model.
        """
        found = self.check()
        if found.complete:
            return
        index = found.index or found.held_out_index
        _report(DataDamaged(len(found.shards), len(found.held_out), index))
        from coordinator.dataset.build import build  # most restarts need no dataset builder

        with scratch_folder(self.folder) as work:
            scratch = BlobStore(work / BLOBS)
            try:
                built = build(
                    resolved_spec(self.charter.spec, spec),
                    base,
                    scratch.put,
                    lambda step: log.info("%s", build_step(step)),
                )
            except DiskFull:
                raise
            except BarnraiseError as error:
                _report(DataNotRebuilt(error.problem))
                return
            self._take(built, scratch, found)

    def _take(self, built: BuiltDataset, scratch: BlobStore, found: DataCheck) -> None:
        index = scratch.put(built.index.to_bytes())
        if index != self.charter.data_index:
            _report(DataChanged())
            return
        names = [ref.blob for ref in (built.index.shards if found.index else found.shards)]
        held_out = [ref.blob for ref in (built.held_out.shards if found.held_out_index else found.held_out)]
        _link([*names, *([index] if found.index else [])], scratch, self._blobs)
        _link(held_out, scratch, self._held_out)
        if found.held_out_index:
            write_atomic(self.folder / HELD_OUT / HELD_OUT_INDEX, built.held_out.to_bytes())
        template = self.folder / CHAT_TEMPLATE
        if built.chat_template is not None and not template.exists():  # the whole folder was lost
            write_atomic(template, built.chat_template.encode())
        _report(DataRebuilt())

    def _index(self) -> DataIndex | None:
        with suppress(FileNotFoundError, FileDamaged, MalformedBlob):
            return DataIndex.from_bytes(self._blobs.get(self.charter.data_index_hash))
        return None

    def _held_out_index(self) -> DataIndex | None:
        path = self.folder / HELD_OUT / HELD_OUT_INDEX
        try:
            return DataIndex.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except MalformedBlob:
            DamagedFiles(self.folder / DAMAGED).set_aside(path)
            return None


def _not_intact(index: DataIndex | None, blobs: BlobStore) -> tuple[ShardRef, ...]:
    return tuple(ref for ref in index.shards if blobs.check(ref.blob) != Intact()) if index else ()


def _link(names: list[BlobHash], scratch: BlobStore, blobs: BlobStore) -> None:
    with Batch() as batch:
        for name in names:
            blobs.adopt(scratch.path(name), batch)


def _report(reason: DataReason) -> None:
    log.warning("%s", data_message(reason))
