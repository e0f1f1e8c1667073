"""Checkpoints: state[r] as files that transformers or peft load, and a signed manifest, in the blob store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save_file

from barnraise.contract.archive import repo_id
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import (
    MANIFEST,
    MANIFEST_JSON,
    FileEntry,
    HeldOut,
    Manifest,
    manifest_json,
    position_fields,
)
from barnraise.contract.run_keys import Successors
from barnraise.contract.spec import Lora
from barnraise.contract.standing import STANDINGS_FILE
from barnraise.contract.state import Array, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash
from barnraise.core.signed import Signed, sign
from barnraise.models.checkpoint_files import OUTER_STATE, join_groups
from barnraise.models.lora_files import ADAPTER, ADAPTER_CONFIG
from barnraise.models.model_files import write_descriptions, write_model
from barnraise.models.trainable import adapter_config_for
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import (
    Batch,
    disk_errors,
    link_or_copy,
    put_in_place,
    scratch_folder,
    write_atomic,
)


def write_checkpoint(
    folder: Path,
    charter: Charter,
    base: Path,
    state: TrainState,
    tip: Tip,
    tokens: int,
    authority: Identity,
    blobs: BlobStore,
) -> Signed[Manifest]:
    """Put the files of `state` and their first manifest into `blobs`: what a late joiner needs.

    folder: the coordinator's own, which holds the chat template. Raises DiskFull, and leaves nothing
    half-done.
    """
    with scratch_folder(folder) as work, disk_errors(work):
        _write_files(work, folder, charter, base, state)
        if tip.position.standings:
            (work / STANDINGS_FILE).write_bytes(tip.position.standings.payload)
        files = entries(work, blobs)
    return first_manifest(charter, tip, tokens, files, authority, blobs)


def first_manifest(
    charter: Charter,
    tip: Tip,
    tokens: int,
    files: tuple[FileEntry, ...],
    authority: Identity,
    blobs: BlobStore,
) -> Signed[Manifest]:
    """The manifest of a state that is not evaluated yet, put into `blobs`. Raises DiskFull."""
    manifest = Manifest(
        form="trained",
        run=charter.spec.name,
        state=tip.state,
        charter=charter.digest,
        tokens=tokens,
        held_out=None,
        files=files,
        **position_fields(tip.position),
    )
    signed = sign(authority, manifest)
    blobs.put(signed.wire)
    return signed


def published_manifest(
    manifest: Manifest,
    held_out: HeldOut | None,
    card_files: Mapping[str, bytes],
    successors: Successors,
    authority: Identity,
    blobs: BlobStore,
) -> Signed[Manifest]:
    """The final manifest of a checkpoint, put into `blobs`: with its evaluation and its model card.

    card_files: the model card and its figures, by file name. successors: they show that `authority` is a run
    key. Raises DiskFull.
    """
    with Batch() as batch:
        added = [
            FileEntry(name=name, hash=blobs.put(data, batch), size=len(data))
            for name, data in card_files.items()
        ]
    kept = [entry for entry in manifest.files if entry.name not in card_files]
    files = tuple(sorted([*kept, *added], key=lambda entry: entry.name))
    signed = sign(
        authority,
        manifest.model_copy(update={"held_out": held_out, "files": files, "successors": successors}),
    )
    blobs.put(signed.wire)
    return signed


def lay_out(signed: Signed[Manifest], blobs: BlobStore, folder: Path) -> None:
    """Make `folder` hold the files of a manifest and the manifest: hard links, put in place by one rename.

    Raises DiskFull, and leaves nothing half-done.
    """
    with scratch_folder(folder.parent) as work, disk_errors(folder):
        for entry in signed.value.files:
            link_or_copy(blobs.path(BlobHash(entry.hash)), work / entry.name)
        write_manifest(signed, work)
        put_in_place(work, folder)


def write_manifest(signed: Signed[Manifest], folder: Path) -> None:
    """Write a manifest next to the files that it lists: as signed, and as readable JSON.

    Raises DiskFull, MachineError.
    """
    write_atomic(folder / MANIFEST, signed.wire)
    write_atomic(folder / MANIFEST_JSON, manifest_json(signed))


def entries(folder: Path, blobs: BlobStore) -> tuple[FileEntry, ...]:
    """The entries of the files in `folder`, each also linked into `blobs`."""
    with Batch() as batch:
        return tuple(
            FileEntry(name=path.name, hash=blobs.adopt(path, batch), size=path.stat().st_size)
            for path in sorted(folder.iterdir())
        )


def _write_files(folder: Path, own: Path, charter: Charter, base: Path, state: TrainState) -> None:
    """own: the coordinator's folder of the run."""
    target = charter.spec.train.target
    adapter = isinstance(target, Lora)
    # state[r] is fp32, also where the base's weights are not.
    write_descriptions([own, base], folder, with_config=not adapter, dtype="float32")
    write_tensors(folder, state, adapter=adapter)
    if isinstance(target, Lora):
        shutil.copyfile(_adapter_config(own, charter, target, base), folder / ADAPTER_CONFIG)


def write_tensors(folder: Path, state: TrainState, *, adapter: bool) -> None:
    """Write the files that hold `state`. Raises OSError."""
    if adapter:
        save_tensors(state.params, folder / ADAPTER)
    else:
        _write_model(folder, state.params)
    if state.buffers:
        save_tensors(join_groups(state.buffers), folder / OUTER_STATE)


def _adapter_config(own: Path, charter: Charter, target: Lora, base: Path) -> Path:
    """The file in the run's folder. Made once: that takes the model's modules, and torch."""
    file = own / ADAPTER_CONFIG
    if not file.is_file():
        config = adapter_config_for(base, target, repo_id(charter, "base"))
        write_atomic(file, json.dumps(config, indent=2).encode())
    return file


def _write_model(folder: Path, params: dict[str, Array]) -> None:
    sizes = {name: array.nbytes for name, array in params.items()}
    write_model(folder, sizes, lambda names, path: save_tensors({name: params[name] for name in names}, path))


def save_tensors(tensors: dict[str, Array], path: Path) -> None:
    """Write a file of weights as transformers and peft read it. Raises OSError."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)
