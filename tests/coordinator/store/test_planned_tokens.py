"""What a key claims brings a run that is planned by tokens to its end only as far as it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.field_types import MAX_TOKENS
from barnraise.contract.schedule import Progress
from barnraise.contract.spec import Schedule, TrustSpec
from barnraise.core.identity import Identity
from barnraise.core.signed import sign
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, contribution, opened_store, show
from tests.support.golden_log import genesis
from tests.support.parts import ADA, BEN, STRANGER
from tests.support.verifying import SPEC, options, proved

SCHEDULE = Schedule(tokens=10_000)
HONEST = 64
"""Tokens of each of the others."""
OPEN = TrustSpec(mode="open", vouched=(ADA.public, BEN.public))


def claim(store: RunStore, owner: Identity, seed: int, tokens: int) -> None:
    commit, blob = contribution(store, owner, seed)
    samples = max(commit.value.samples, tokens // store.charter.spec.data.sequence_length + 1)
    drawn = commit.value.ranges[0].model_copy(update={"count": samples})
    value = commit.value.model_copy(update={"tokens": tokens, "samples": samples, "ranges": (drawn,)})
    store.blobs.put(blob)
    store.accept(sign(owner, value), parts.NOW)


def lying_round(store: RunStore) -> None:
    """Two honest volunteers, and one that claims all tokens that a commit can."""
    for seed, (owner, tokens) in enumerate(((ADA, HONEST), (BEN, HONEST), (STRANGER, MAX_TOKENS))):
        claim(store, owner, seed, tokens)
    store.fold(store.close("all contributed", parts.NOW))


@pytest.mark.parametrize(("trust", "counted"), [(OPEN, 2 * HONEST), (TrustSpec(), (2 + 4) * HONEST)])
def test_a_claim_does_not_end_the_run(tmp_path: Path, trust: TrustSpec, counted: int) -> None:
    spec = parts.scheduled(SPEC, SCHEDULE).model_copy(update={"trust": trust})
    with opened_store(tmp_path, spec, genesis(SPEC)) as store:
        lying_round(store)
        run = store.snapshot
        assert run.position.progress == Progress(tokens=counted)
        assert (run.is_over, run.tokens) == (False, 2 * HONEST + MAX_TOKENS)


def test_a_run_with_such_claims_is_proved_after_a_rollback(tmp_path: Path) -> None:
    with opened_store(tmp_path, parts.scheduled(SPEC, SCHEDULE), genesis(SPEC)) as store:
        for _ in range(2):
            lying_round(store)
        store.amend(rollback_to(1, (), "noise", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
        store.rebuild()
        lying_round(store)
        store.write_checkpoint(parts.NOW)
        show(store)
        assert store.snapshot.position.progress == Progress(tokens=2 * 6 * HONEST)
        for start in (None, 0):
            assert proved(options(archive(store), start=start)).state == store.state.hash()
