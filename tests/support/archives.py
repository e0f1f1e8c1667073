"""The archive of a run with four checkpoints and every form, as a coordinator lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from barnraise.contract.archive import ArchiveIndex, folder_of
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.shards import DataIndex, ShardRef, pack_shard
from barnraise.contract.spec import CheckpointSpec, DataSpec, Lora, ModelSpec, RunSpec, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.ids import BlobHash, Round
from barnraise.core.signed import Signed, sign
from barnraise.models import gguf_export
from barnraise.models.base_model import resolve
from barnraise.models.merge import merge
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.checkpoints.card import CARD, CardFacts, card, gguf_name
from coordinator.checkpoints.card_data import base_facts
from coordinator.checkpoints.export_program import write_data
from coordinator.checkpoints.exports import Exporter
from coordinator.run_folder import ARCHIVE, CHAT_TEMPLATE
from coordinator.store.checkpoints import published_manifest, write_checkpoint
from coordinator.store.history import Logged
from coordinator.store.promotion import promote
from tests.support import parts
from tests.support.tiny import TEMPLATE, VOCABULARY, make_tiny_model, tiny_samples

OWN = "ada/barn"
BASE, DATA, MERGED, GGUF = f"{OWN}-base", OWN, f"{OWN}-merged", f"{OWN}-gguf"
LOSSES = {0: 3.0, 60: 2.0, 120: 2.01, 180: 2.5}
"""Held-out loss by round: 60 is `best`, 120 is `main`, 180 is `latest`."""
MAIN_ROUND = 120
LENGTH = 24
CONTRIBUTION = b"a contribution of round 0"
CLOSE = b"the close of round 0"


@dataclass(frozen=True)
class Laid:
    """An archive on disk."""

    folder: Path
    index: ArchiveIndex
    states: Mapping[int, TrainState]
    """The trained states, by round."""
    base: Path


def lay_out_run(work: Path) -> Laid:
    """A LoRA run on a tiny LLaMA, with four checkpoints: see LOSSES."""
    base = make_tiny_model(work / "model")
    (work / CHAT_TEMPLATE).write_text(TEMPLATE, encoding="utf-8")
    (base / CHAT_TEMPLATE).write_text(TEMPLATE, encoding="utf-8")
    blobs = BlobStore(work / "blobs")
    genesis = initial_state(base, Lora(rank=4, alpha=8.0), seed=0)
    fingerprint = resolve(str(base), None, work / "cache").fingerprint
    charter = _charter(genesis, blobs).model_copy(update={"model_files": fingerprint})
    states = {round: _trained(genesis, round) for round in LOSSES}
    checkpoints = {round: _checkpoint(work, charter, base, state, blobs) for round, state in states.items()}
    archive = ArchiveWriter(charter, work / ARCHIVE, blobs)
    content = ArchiveContent(
        charter=sign(parts.AUTHORITY, charter).wire,
        log=(Logged(blobs.put(CLOSE), 0),),
        certificate=None,
        closed=1,
        contributions={0: {blobs.put(CONTRIBUTION)}},
        replay_from=0,
        checkpoints=checkpoints,
        shown=(),
        promotion=promote(LOSSES, charter.spec.checkpoint.promote_within),
    )
    archive.write(content)
    _export(charter, base, work, blobs, checkpoints[MAIN_ROUND].value)
    return Laid(work / ARCHIVE, archive.write(content), states, base)


def _charter(genesis: TrainState, blobs: BlobStore) -> Charter:
    shard = pack_shard(tiny_samples(5, length=LENGTH))
    blobs.put(shard)
    ref = ShardRef.of(shard, 5)
    index = DataIndex(
        sequence_length=LENGTH, vocab_size=VOCABULARY, shards=(ref,), tokens=5 * LENGTH,
        trained_tokens=5,
    )  # fmt: skip
    spec = RunSpec(
        name=parts.RUN,
        owner=OWN.partition("/")[0],
        model=ModelSpec(source="tiny", licence="apache-2.0"),
        data=DataSpec(source="chats.jsonl", licence="cc0-1.0", sequence_length=LENGTH),
        train=TrainSpec(target=Lora(rank=4, alpha=8.0)),
        checkpoint=CheckpointSpec(merged=True, gguf="f16"),
    )
    charter = parts.charter(spec, genesis)
    return charter.model_copy(update={"data_index": blobs.put(index.to_bytes())})


def _trained(genesis: TrainState, round: int) -> TrainState:
    random = np.random.default_rng(round)
    moved = {
        name: (array + random.normal(0, 0.1, array.shape) * bool(round)).astype(np.float32)
        for name, array in genesis.params.items()
    }
    return TrainState(moved, {}, Round(round))


def _checkpoint(
    work: Path, charter: Charter, base: Path, state: TrainState, blobs: BlobStore
) -> Signed[Manifest]:
    tip = Tip(Position(Round(state.step), BlobHash(parts.HASH_B)), state.hash())
    tokens = 1000 * state.step
    signed = write_checkpoint(work, charter, base, state, tip, tokens, parts.AUTHORITY, blobs)
    held_out = HeldOut(loss=LOSSES[state.step], tokens=1000)
    facts = _facts(charter, signed.value, held_out)
    return published_manifest(
        signed.value, held_out, {CARD: card(facts).encode()}, (), parts.AUTHORITY, blobs
    )


def _facts(charter: Charter, manifest: Manifest, held_out: HeldOut | None) -> CardFacts:
    return replace(
        base_facts(charter), round=manifest.round, tokens=manifest.tokens, state=manifest.state,
        place=manifest.place_fields, held_out=held_out,
    )  # fmt: skip


def _export(charter: Charter, base: Path, work: Path, blobs: BlobStore, promoted: Manifest) -> None:
    """What the exporter writes, in this process: subprocesses are too slow for a test."""
    exporter = Exporter(charter, base, work, work / ARCHIVE, blobs.folder, parts.AUTHORITY)
    facts = _facts(charter, promoted, promoted.held_out)
    folders = {form: work / f"{form}-to-be" for form in ("base", "data", "merged", "gguf")}
    for form in ("base", "data", "gguf"):
        folders[form].mkdir()
    exporter._link_base(folders["base"])
    write_data(base, blobs, BlobHash(charter.data_index), folders["data"])
    merge(base, work / ARCHIVE / folder_of("trained", promoted.round), folders["merged"])
    about = gguf_export.GgufMetadata("barn")
    gguf_export.export(folders["merged"], folders["gguf"] / gguf_name(facts), "f16", about)
    exporter._place("base", folders["base"], base_facts(charter))
    exporter._place("data", folders["data"], base_facts(charter))
    exporter._place("merged", folders["merged"], facts)
    exporter._place("gguf", folders["gguf"], facts)
