"""Whether the run goes back by itself when audits ban a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.manifest import HeldOut
from barnraise.core.ids import PublicKey
from coordinator.reasons.rounds import HarmAfterRollback, LossesUnharmed, NothingFolded, NothingIsBanned
from coordinator.rounds.automatic_rollback import GoBack, Halt, Stay, after_verdicts, losses_rose
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_state import Score
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store

ADA, BEN = PublicKey(parts.ADA.public), PublicKey(parts.BEN.public)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        for _ in range(3):
            fold_round(made, parts.ADA)
        yield made


def test_without_a_ban_or_without_harm_the_run_goes_on(store: RunStore) -> None:
    assert after_verdicts({}, True, store.snapshot) == Stay(NothingIsBanned())
    assert after_verdicts({ADA: 1}, False, store.snapshot) == Stay(LossesUnharmed())
    assert after_verdicts({ADA: 3}, True, store.snapshot) == Stay(NothingFolded()), "of the open round"


def test_it_goes_back_to_before_the_first_harm(store: RunStore) -> None:
    assert after_verdicts({ADA: 2, BEN: 1}, True, store.snapshot) == GoBack(1)


def test_a_second_time_it_halts(store: RunStore) -> None:
    store.amend(rollback_to(2, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    assert after_verdicts({ADA: 2}, True, store.snapshot) == Stay(NothingFolded()), "it is void"
    fold_round(store, parts.ADA)
    assert after_verdicts({ADA: 4}, True, store.snapshot) == Halt(HarmAfterRollback((ADA,), 2))


def test_it_goes_back_to_no_round_that_is_void(tmp_path: Path) -> None:
    spec = parts.run_spec()
    short = spec.checkpoint.model_copy(update={"rollback_rounds": 1})
    with opened_store(tmp_path, spec.model_copy(update={"checkpoint": short})) as store:
        for _ in range(3):
            fold_round(store, parts.ADA)
        store.amend(rollback_to(1, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
        store.rebuild()
        for _ in range(2):
            fold_round(store, parts.ADA)
        forgotten = replace(store.snapshot, replay_from=1)
        for first_harm, run, to in (({ADA: 2, BEN: 5}, store.snapshot, 5), ({ADA: 0}, forgotten, 4)):
            assert after_verdicts(first_harm, True, run) == GoBack(to)
            rollback_to(to, (), "", run, store.blobs.get, parts.NOW)


@pytest.mark.parametrize(
    ("losses", "rose"), [([], False), ([2.0, 1.0], False), ([1.0, 1.04], False), ([1.0, 1.1], True)]
)
def test_when_the_losses_rose(store: RunStore, losses: list[float], rose: bool) -> None:
    scores = {round: Score(0, HeldOut(loss=loss, tokens=1)) for round, loss in enumerate(losses)}
    assert losses_rose(replace(store.snapshot, scores=scores), None) is rose
