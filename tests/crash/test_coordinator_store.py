"""Power cuts at every flush of a coordinator: what was accepted is there, and the run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from barnraise.contract.records import JoinClaim
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import StateError
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.core.signed import sign
from barnraise.runtime import files
from barnraise.runtime.damaged import DAMAGED
from barnraise.runtime.files import load_identity, owned_folder
from coordinator.run_folder import AUTHORITY_KEY, CHAT_TEMPLATE
from coordinator.store.journal import Journal
from coordinator.store.rolling_back import rollback_to
from coordinator.store.row_reader import find_charter
from coordinator.store.run_store import RunStore
from tests.crash.recorded_disk import DATABASE, RecordedDisk, forget_flushes
from tests.support import parts
from tests.support.averaged_runs import average_newest, with_checkpoints
from tests.support.coordinators import contribution, fold_round, show
from tests.support.parts import ADA, BEN


@dataclass
class Promises:
    """What the coordinator has answered to others."""

    key: str = ""
    chartered: bool = False
    closes: list[BlobHash] = field(default_factory=list)
    accepted: set[PublicKey] = field(default_factory=set)
    """Owners of accepted contributions to the open round."""
    claims: set[PublicKey] = field(default_factory=set)
    checkpoints: set[int] = field(default_factory=set)
    means: tuple[set[int], ...] = (set(),)
    """Rounds of the means of states: one of these sets is there."""
    void: tuple[tuple[int, int], ...] = ()
    """Rounds that a rollback made void."""
    base: Path = Path()

    def check(self, folder: Path) -> None:
        """Open what a power cut left in `folder`, and continue the run."""
        with owned_folder(folder, "coordinator"):
            authority = load_identity(folder / AUTHORITY_KEY)
            assert authority.public == self.key or not self.key
            journal = Journal(folder / DATABASE)
            journal._db.execute("PRAGMA synchronous=OFF")  # this copy has no power cut, and is fast
            try:
                charter = find_charter(journal.rows(), parts.AUTHORITY.public)
                assert charter is not None or not self.chartered
                if charter is not None:
                    store = RunStore.restore(parts.AUTHORITY, charter, self.base, folder, journal)
                    self._check_store(store)
            finally:
                journal.close()
        assert not (folder / DAMAGED).exists(), "a power cut damages nothing"
        assert not list(folder.rglob(f"{files.UNFINISHED}*")), "temporary files are swept"
        shutil.rmtree(folder)

    def _check_store(self, store: RunStore) -> None:
        run = store.snapshot
        assert [logged.name for logged in run.log[: len(self.closes)]] == self.closes
        assert run.accepted.keys() >= self.accepted or run.round > len(self.closes)
        assert run.claims.keys() >= self.claims
        assert run.checkpoints.keys() >= self.checkpoints
        assert run.averages.keys() in self.means
        assert not store.lost
        assert run.tip.round == run.round, "all closes are folded"
        assert run.position.void[: len(self.void)] == self.void
        assert store.state.hash() == run.tip.state
        assert store.state.step == run.position.step
        if ADA.public not in run.accepted:
            commit, blob = contribution(store, ADA, 99)
            store.blobs.put(blob)
            store.accept(commit, parts.NOW)
        store.fold(store.close("the run goes on", parts.NOW))
        show(store)


class RecordedJournal(Journal):
    """A journal that says when it has committed."""

    disk: RecordedDisk | None = None

    def append(self, row, entry=None):  # type: ignore[no-untyped-def]
        super().append(row, entry)
        if self.disk is not None:
            self.disk.committed()

    def prune(self) -> None:
        super().prune()
        if self.disk is not None:
            self.disk.committed()


def run_spec() -> RunSpec:
    spec = parts.run_spec()
    checkpoint = spec.checkpoint.model_copy(update={"keep": 1, "log_gigabytes": 0.0, "rollback_rounds": 0})
    return spec.model_copy(update={"checkpoint": checkpoint})


@contextmanager
def begun(disk: RecordedDisk, promises: Promises, base: Path, spec: RunSpec) -> Iterator[RunStore]:
    """A run that begins on this disk."""
    folder = disk.root
    with owned_folder(folder, "coordinator"):
        promises.key = load_identity(folder / AUTHORITY_KEY).public
        journal = RecordedJournal(folder / DATABASE)
        journal.disk = disk
        disk.committed()
        with closing(journal):
            charter = parts.charter(spec, parts.state())
            store = RunStore.begin(parts.AUTHORITY, charter, parts.state(), base, folder, journal, parts.NOW)
            promises.chartered = True
            yield store


def serve(disk: RecordedDisk, promises: Promises, base: Path) -> None:
    """Two rounds of a run with checkpoints, snapshots, retention and an archive."""
    with begun(disk, promises, base, run_spec()) as store:
        promises.checkpoints = {0}
        claim = JoinClaim(
            run=parts.RUN,
            owner=ADA.public,
            instance=parts.INSTANCE,
            name="ada",
            credit=True,
            at=parts.NOW,
        )
        store.admit(sign(ADA, claim), parts.NOW)
        promises.claims = {ADA.public}
        show(store)
        for round in (1, 2):
            for owner in (ADA, BEN):
                commit, blob = contribution(store, owner, round)
                store.blobs.partial(BlobHash(commit.value.blob)).write_bytes(blob)  # a download
                store.blobs.accept(BlobHash(commit.value.blob))
                store.accept(commit, parts.NOW)
                promises.accepted.add(owner.public)
            link = store.close("all contributed", parts.NOW)
            promises.accepted = set()
            promises.closes.append(link.hash)
            store.fold(link)
            store.save(parts.NOW)
            promises.checkpoints = set()  # older ones are dropped while the next is written
            store.write_checkpoint(parts.NOW)
            promises.checkpoints = {round}
            show(store, loss=2.0 - round / 2)
        assert store.journal.pruned.rows > 0


def roll_back(disk: RecordedDisk, promises: Promises, base: Path) -> None:
    """Two rounds of a run, which goes back to the first state, and one more round."""
    with begun(disk, promises, base, parts.run_spec()) as store:
        for _ in range(2):
            promises.closes.append(fold_round(store, ADA).hash)
        store.write_checkpoint(parts.NOW)
        show(store, loss=1.0)
        entry = rollback_to(0, (), "noise", store.snapshot, store.blobs.get, parts.NOW)
        store.amend(entry, parts.NOW)
        promises.closes.append(entry.name)
        promises.void = ((0, 2),)
        store.rebuild()
        store.write_checkpoint(parts.NOW)
        promises.checkpoints = {0, 3}
        show(store, loss=2.0)
        promises.closes.append(fold_round(store, BEN).hash)


def average(disk: RecordedDisk, promises: Promises, base: Path) -> None:
    """A run whose mean of two states becomes `main`, and a state that takes its place."""
    with begun(disk, promises, base, with_checkpoints(parts.run_spec(), keep=2, log_gigabytes=0.0)) as store:
        for _ in range(2):
            promises.closes.append(fold_round(store, ADA).hash)
            store.write_checkpoint(parts.NOW)
        show(store, loss=2.5)
        promises.means = (set(), {2})
        average_newest(store, 2.0)
        promises.means = ({2},)
        assert store.snapshot.averages.keys() == {2}
        promises.closes.append(fold_round(store, ADA).hash)
        store.write_checkpoint(parts.NOW)
        show(store, loss=1.0)  # the mean stays as long as the state of its round is among the newest
        promises.closes.append(fold_round(store, ADA).hash)
        promises.means = ({2}, set())  # a removal is not flushed: the next checkpoint removes it again
        store.write_checkpoint(parts.NOW)
        assert not store.snapshot.averages


def cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    play: Callable[[RecordedDisk, Promises, Path], None] = serve,
) -> RecordedDisk:
    """Run with power cuts."""
    root, base, promises = tmp_path / "run", tmp_path / "base", Promises()
    base.mkdir()
    (base / "tokenizer.json").write_bytes(bytes(5000))
    promises.base = base
    root.mkdir()
    (root / CHAT_TEMPLATE).write_text("{{ messages }}", encoding="utf-8")
    (root / "adapter_config.json").write_text("{}", encoding="utf-8")
    disk = RecordedDisk(root, tmp_path / "states", promises.check)
    with disk.recording(monkeypatch):
        play(disk, promises, base)
    return disk


def test_a_coordinator_survives_a_power_cut_at_every_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = cut(tmp_path, monkeypatch)
    assert disk.states > 300, "the run has flushes"


@pytest.mark.full("a rollback: the gate cuts the power of what it consists of")
def test_a_rollback_survives_a_power_cut_at_every_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cut(tmp_path, monkeypatch, roll_back).states > 100


@pytest.mark.full("means of states: the gate cuts the power of what they consist of")
def test_a_mean_of_states_survives_a_power_cut_at_every_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cut(tmp_path, monkeypatch, average).states > 100


@pytest.mark.parametrize("missing", ["files", "folders"])
def test_the_harness_finds_a_missing_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    forget_flushes(monkeypatch, missing)
    with pytest.raises((AssertionError, StateError)):
        cut(tmp_path, monkeypatch)
