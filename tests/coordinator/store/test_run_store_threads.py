"""The run store on real threads: readers see consistent states, and no writer's event is lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation, JoinClaim
from barnraise.core.errors import Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis
from barnraise.core.signed import sign
from coordinator.checkpoints.archive_writer import ArchiveContent
from coordinator.checkpoints.card_data import card_files
from coordinator.store.run_state import CoordinatorAddresses, RunState
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, fold_round, opened_store, reopened
from tests.support.parts import ADA, BEN
from tests.support.run_walk import check_growth, check_laws, durable

ROUNDS = 12
PEERS = [Identity.from_seed(bytes([number]) * 32) for number in range(100, 200)]


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Let threads interrupt one another after every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run that keeps as few checkpoints and contributions as it can."""
    spec = parts.run_spec()
    few = spec.checkpoint.model_copy(update={"keep": 1, "log_gigabytes": 0.0, "rollback_rounds": 0})
    with opened_store(tmp_path, spec.model_copy(update={"checkpoint": few})) as made:
        yield made


def train(store: RunStore) -> None:
    """Rounds as the session runs them: each checkpoint is published, every other one with a loss."""
    for number in range(ROUNDS):
        fold_round(store, ADA, BEN)
        store.write_checkpoint(parts.NOW)
        for round in store.snapshot.unpublished:
            held_out = HeldOut(loss=3.0 - number / 10, tokens=10) if number % 2 else None
            card = card_files(store.snapshot, round, held_out)
            store.publish(round, held_out, card, parts.NOW)


def admit(store: RunStore, peers: Sequence[Identity]) -> None:
    for hour, name in enumerate(("first", "second")):
        for peer in peers:
            claim = JoinClaim(
                run=parts.RUN,
                owner=peer.public,
                instance=parts.INSTANCE,
                name=name,
                credit=False,
                at=parts.NOW + hour * 3_600_000,
            )
            store.admit(sign(peer, claim), parts.NOW)


def evaluate_all(store: RunStore) -> None:
    """Evaluate the checkpoints without a loss; some are dropped or get their loss before it is recorded."""
    for number, peer in enumerate(PEERS[:30]):
        for round in store.snapshot.unevaluated:
            evaluation = Evaluation(
                run=parts.RUN, round=round, state=parts.HASH_A, panel=parts.HASH_A, owner=peer.public,
                loss=2.0, tokens=10, at=Millis(parts.NOW + number),
            )  # fmt: skip
            store.evaluate(sign(peer, evaluation), parts.NOW)


def read_all(run: RunState) -> None:
    """Read what the status, the head, the archive, the card and evaluations need of a state."""
    run.head(parts.NOW, CoordinatorAddresses(), turns=1, volunteers=1, tokens=0)
    ArchiveContent.of(run, ())
    promotion = run.promotion()
    assert promotion is None or {promotion.main, promotion.latest} <= run.published
    card_files(run, run.newest_checkpoint.value.round, None)
    assert all(run.held_out(round) is None for round in run.unevaluated)
    run.outdated_checkpoints()
    check_laws(run)


def read_until(store: RunStore, stop: threading.Event) -> None:
    """Read one snapshot after another until `stop`."""
    before = store.snapshot
    while not stop.is_set():
        after = store.snapshot
        check_growth(before, after)
        read_all(after)
        before = after


def run_together(*work: Callable[[], None]) -> None:
    """Run each in its own thread, started together. Raises the first error of any."""
    start = threading.Barrier(len(work))

    def run(one: Callable[[], None]) -> None:
        start.wait()
        one()

    with ThreadPoolExecutor(len(work)) as threads:
        running = [threads.submit(run, one) for one in work]
    for each in running:
        each.result()


def test_readers_see_consistent_states_while_checkpoints_are_dropped(store: RunStore) -> None:
    stop = threading.Event()

    def write() -> None:
        try:
            train(store)
        finally:
            stop.set()

    run_together(write, lambda: read_until(store, stop), lambda: read_until(store, stop))
    assert store.snapshot.round == ROUNDS
    assert store.snapshot.replay_from > 0, "contributions were forgotten"
    assert 0 not in store.snapshot.checkpoints, "checkpoints were dropped"


def test_writers_on_several_threads_lose_no_event(store: RunStore) -> None:
    run_together(
        lambda: train(store),
        lambda: evaluate_all(store),
        lambda: admit(store, PEERS[::2]),
        lambda: admit(store, PEERS[1::2]),
    )
    check_laws(store.snapshot)
    names = {peer: claim.name for peer, claim in store.snapshot.claims.items()}
    assert names == {peer.public: "second" for peer in PEERS}
    with reopened(store) as again:
        assert durable(again.snapshot) == durable(store.snapshot)
        assert again.snapshot.tip == store.snapshot.tip


def test_no_contribution_is_accepted_while_blobs_are_removed(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit may name the blob of a dropped round: it is accepted before the decision to remove, or not."""
    removed = list[BlobHash]()
    remove = store.blobs.remove

    def checked(name: BlobHash) -> None:
        with ThreadPoolExecutor(1) as other:
            assert not other.submit(store._writing.acquire, blocking=False).result()
        removed.append(name)
        remove(name)

    monkeypatch.setattr(store.blobs, "remove", checked)
    train(store)
    assert removed


def test_a_contribution_without_its_blob_is_not_accepted(store: RunStore) -> None:
    commit, _ = contribution(store, parts.ADA)
    with pytest.raises(Unreachable):
        store.accept(commit, parts.NOW)
    assert not store.snapshot.accepted
