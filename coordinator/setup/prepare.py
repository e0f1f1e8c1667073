"""Prepares a new run: resolves the base model, builds the dataset and the first state, makes the charter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.charter import Charter
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import TrainState
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.models.base_model import BaseFolder
from barnraise.models.fetching import NO_LIMIT, Limiter
from barnraise.models.trainable import initial_state
from barnraise.rehearsal.outcomes import Rehearsed, rehearsal_message
from barnraise.rehearsal.runner import rehearse
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic
from coordinator.messages.dataset import dataset_lines
from coordinator.reasons.dataset import BuiltDataset
from coordinator.run_folder import BLOBS, CHAT_TEMPLATE, HELD_OUT
from coordinator.setup.charter import public_spec
from coordinator.setup.resolve import Progress, Rehearse, resolve_run


@dataclass(frozen=True)
class PreparedRun:
    """A new run, ready to be served."""

    charter: Charter
    genesis: TrainState
    base: BaseFolder


def prepare(
    spec: RunSpec,
    authority: PublicKey,
    folder: Path,
    cache: Path,
    progress: Progress,
    rehearse: Rehearse = rehearse,
    limiter: Limiter = NO_LIMIT,
) -> PreparedRun:
    """Prepare a run once: get the base model, tokenize and pack the data, rehearse, make state[0].

    Shards and index go to `folder`/blobs, the held-out part to `folder`/held-out.
    Raises SpecError, ModelUnusable, ModelUnavailable, DatasetError, DiskFull.
    """
    blobs = BlobStore(folder / BLOBS)
    run = resolve_run(spec, cache, blobs.put, progress, rehearse, limiter)
    built = run.dataset
    progress(f"rehearsal: {rehearsal_message(run.rehearsal)}")
    for line in dataset_lines(built):
        progress(line)
    _move_held_out(built, blobs, folder / HELD_OUT)
    index = blobs.put(built.index.to_bytes())
    if built.chat_template is not None:
        write_atomic(folder / CHAT_TEMPLATE, built.chat_template.encode())
    progress("making the first state")
    genesis = initial_state(run.base.path, run.spec.train.target, run.spec.seed)
    charter = Charter(
        spec=public_spec(run.spec),
        authority=authority,
        model_files=run.base.fingerprint,
        layout=genesis.layout.digest(),
        genesis=genesis.hash(),
        data_index=index,
        rehearsed=isinstance(run.rehearsal, Rehearsed),
    )
    return PreparedRun(charter, genesis, run.base)


def _move_held_out(built: BuiltDataset, blobs: BlobStore, folder: Path) -> None:
    held_out = BlobStore(folder)
    for ref in built.held_out.shards:
        name = BlobHash(ref.hash)
        held_out.put(blobs.get(name))
        blobs.remove(name)
    write_atomic(folder / HELD_OUT_INDEX, built.held_out.to_bytes())
