"""Checkpoints of a closer while the coordinator is away: the state alone, signed by the closer.

Volunteers that join need a state. They may take it from one closer, since the next close names the state that
it folds to. Nobody evaluates such a checkpoint, and no archive shows it: the coordinator's replace it.
"""

from __future__ import annotations

from barnraise.contract.manifest import FileEntry, Manifest
from barnraise.contract.spec import Lora
from barnraise.core.signed import Signed
from barnraise.runtime.files import disk_errors, scratch_folder
from coordinator.checkpoints.mean_files import SHOWN, WEIGHTS
from coordinator.store.checkpoints import entries, first_manifest, write_tensors
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore


def write_interim(store: RunStore) -> Signed[Manifest]:
    """Put the files of the store's state and their manifest into its blobs. Slow. Raises DiskFull.

    Other files, as the tokenizer's, are those of the newest checkpoint.
    """
    run, state = store.snapshot, store.state
    target = run.spec.train.target
    with scratch_folder(store.folder) as work, disk_errors(work):
        write_tensors(work, state, adapter=isinstance(target, Lora))
        written = entries(work, store.blobs)
    files = _with_descriptions(written, run)
    return first_manifest(run.charter, run.tip, run.tokens, files, store.authority, store.blobs)


def _with_descriptions(written: tuple[FileEntry, ...], run: RunState) -> tuple[FileEntry, ...]:
    names = {entry.name for entry in written}
    others = [
        entry
        for entry in run.newest_checkpoint.value.files
        if entry.name not in (*names, *SHOWN) and not entry.name.endswith(WEIGHTS)
    ]
    return tuple(sorted([*written, *others], key=lambda entry: entry.name))
