"""Prepares a new run: resolves the base model, builds the dataset and the first state, makes the charter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.charter import Charter
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import TrainState
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.models.base_model import BaseFolder, pin_revision, resolve
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic
from coordinator.dataset.build import build
from coordinator.messages.dataset import build_step, dataset_report, render_report
from coordinator.reasons.dataset import BuiltDataset
from coordinator.run_folder import BLOBS, CHAT_TEMPLATE, HELD_OUT
from coordinator.setup.charter import public_spec
from coordinator.setup.check_forms import check_forms

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PreparedRun:
    """A new run, ready to be served."""

    charter: Charter
    genesis: TrainState
    base: BaseFolder


def prepare(
    spec: RunSpec, authority: PublicKey, folder: Path, cache: Path, progress: Progress
) -> PreparedRun:
    """Prepare a run once: get the base model, tokenize and pack the data, make state[0].

    Shards and index go to `folder`/blobs, the held-out part to `folder`/held-out.
    Raises ModelUnavailable, DatasetError, SpecError, DiskFull.
    """
    source, revision = spec.model.source, pin_revision(spec.model.source, spec.model.revision, cache)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"revision": revision})})
    base = resolve(source, revision, cache, progress=progress)
    check_forms(spec, base.path)
    blobs = BlobStore(folder / BLOBS)
    built = build(spec, base.path, blobs.put, lambda step: progress(build_step(step)))
    for line in (*dataset_report(built.report), *render_report(built.rendering)):
        progress(line)
    _move_held_out(built, blobs, folder / HELD_OUT)
    index = blobs.put(built.index.to_bytes())
    if built.chat_template is not None:
        write_atomic(folder / CHAT_TEMPLATE, built.chat_template.encode())
    progress("making the first state")
    genesis = initial_state(base.path, spec.train.target, spec.seed)
    charter = Charter(
        spec=public_spec(spec),
        authority=authority,
        model_files=base.fingerprint,
        layout=genesis.layout.digest(),
        genesis=genesis.hash(),
        data_index=index,
    )
    return PreparedRun(charter, genesis, base)


def _move_held_out(built: BuiltDataset, blobs: BlobStore, folder: Path) -> None:
    held_out = BlobStore(folder)
    for ref in built.held_out.shards:
        name = BlobHash(ref.hash)
        held_out.put(blobs.get(name))
        blobs.remove(name)
    write_atomic(folder / HELD_OUT_INDEX, built.held_out.to_bytes())
