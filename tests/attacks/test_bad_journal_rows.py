"""The journal has what an older version took from peers and this one does not: it is left out of a restart.

One signed commit that was padded with white space ended a coordinator for good.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.records import Commit, Evaluation, JoinClaim
from barnraise.core.errors import BarnraiseError
from barnraise.core.signed import Signable, sign
from coordinator.store.events import Kind, Row
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.attacked import wire_of
from tests.support.coordinators import contribution, opened_store, reopened, train_round


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        train_round(made, parts.ADA)
        yield made


def signed(store: RunStore, kind: Kind) -> tuple[type[Signable], Signable]:
    """What a peer signs."""
    run, who = store.snapshot, {"run": parts.RUN, "owner": parts.BEN.public, "at": parts.NOW}
    match kind:
        case Kind.ACCEPTED:
            return Commit, contribution(store, parts.BEN, 3)[0].value
        case Kind.ADMITTED:
            return JoinClaim, JoinClaim.model_validate(who | {"name": "ben", "credit": False})
        case _:
            fields = {"round": 1, "state": run.tip.state, "panel": parts.HASH_A, "loss": 1.5, "tokens": 9}
            return Evaluation, Evaluation.model_validate(who | fields)


@pytest.mark.parametrize("kind", [Kind.ACCEPTED, Kind.ADMITTED, Kind.EVALUATED], ids=lambda kind: kind.value)
@pytest.mark.parametrize(
    "space", [b" ", 5000 * b" ", b"}", b"\xff"], ids=["a space", "5,000 spaces", "no JSON", "no text"]
)
def test_it_is_left_out(store: RunStore, kind: Kind, space: bytes, caplog: pytest.LogCaptureFixture) -> None:
    model, value = signed(store, kind)
    body = wire_of(parts.BEN, model, value.payload + space)
    store.journal.append(Row(kind, parts.NOW, store.snapshot.round, body))
    good, blob = contribution(store, parts.ADA, 5)
    store.blobs.put(blob)
    store.accept(good, parts.NOW)
    caplog.set_level(logging.WARNING, "coordinator.store.row_reader")
    with reopened(store) as again:
        assert len(caplog.records) == 1
        assert again.snapshot.tip == store.snapshot.tip
        assert set(again.snapshot.accepted) == {parts.ADA.public}
        link = again.close("all contributed", parts.NOW)
        again.fold(link)
    with reopened(store) as third:
        assert third.snapshot.tip.round == store.snapshot.tip.round + 1


def test_the_run_s_own_rows_are_not_left_out(store: RunStore) -> None:
    """Without them it is another run."""
    manifest = sign(parts.AUTHORITY, store.snapshot.newest_checkpoint.value).wire
    store.journal.append(Row(Kind.PUBLISHED, parts.NOW, store.snapshot.round, manifest + b" "))
    with pytest.raises(BarnraiseError), reopened(store):
        pass
