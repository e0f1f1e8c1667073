"""Runs whose coordinator cannot evaluate, and evaluations of their evaluators, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX, INDEX, parse_index
from barnraise.contract.records import Evaluation
from barnraise.contract.spec import RunSpec
from barnraise.core.identity import Identity
from barnraise.core.signed import Signed, sign
from barnraise.evaluation.failures import NotEnoughMemory
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.run_folder import HELD_OUT
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import (
    archive,
    fold_round,
    opened_store,
    until_published,
)
from tests.support.parts import ADA, BEN, STRANGER
from tests.support.tiny import packed, tiny_samples

SAMPLES = tiny_samples(6)
TOKENS = sum(sample.trained_tokens for sample in SAMPLES[:3])
"""Of the held-out set: all of the first shard, and a sample of the second of three."""
CANNOT = NotEnoughMemory(9 * 10**9, 10**9)


def vouching(spec: RunSpec) -> RunSpec:
    asked = {"evaluators": (ADA.public, BEN.public, STRANGER.public), "held_out_tokens": TOKENS}
    return spec.model_copy(update={"checkpoint": spec.checkpoint.model_copy(update=asked)})


def hold_out(folder: Path) -> None:
    index = packed(BlobStore(folder / HELD_OUT), SAMPLES[:2], SAMPLES[2:4], SAMPLES[4:])
    write_atomic(folder / HELD_OUT / HELD_OUT_INDEX, index.to_bytes())


@contextmanager
def vouched_store(folder: Path) -> Iterator[RunStore]:
    """A run after one round, whose coordinator cannot evaluate."""
    with opened_store(folder, vouching(parts.run_spec())) as made:
        hold_out(folder)
        fold_round(made, ADA, BEN)
        made.write_checkpoint(parts.NOW)
        publish_checkpoints(made)
        yield made


def publisher(store: RunStore) -> Publisher:
    async def cannot(folder: Path) -> NotEnoughMemory:
        return CANNOT

    return replace(publisher_of(store, lambda: parts.NOW), evaluate=cannot)


def publish_checkpoints(store: RunStore) -> Publisher:
    made = publisher(store)
    asyncio.run(until_published(made))
    return made


def found(
    store: RunStore, owner: Identity, loss: float, *, at: int = 0, **other: object
) -> Signed[Evaluation]:
    held_out_set = publisher(store).held_out_set
    assert held_out_set is not None
    fields: dict[str, object] = {
        "run": parts.RUN, "round": 1, "state": store.snapshot.checkpoints[1].value.state,
        "panel": held_out_set.hash,
        "owner": owner.public, "loss": loss, "tokens": held_out_set.tokens, "at": parts.NOW + at,
    }  # fmt: skip
    return sign(owner, Evaluation.model_validate(fields | other))


def names(store: RunStore) -> dict[int, tuple[str, ...]]:
    repo = parse_index((archive(store) / INDEX).read_bytes()).repo("trained")
    assert repo is not None
    return {revision.round: revision.names for revision in repo.revisions}
