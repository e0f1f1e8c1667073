"""Power cuts at every flush of a volunteer: its saved work and its published contribution are there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.charter import Charter
from barnraise.contract.records import blob_name
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip, genesis_tip
from barnraise.core.errors import StateError
from barnraise.core.ids import BlobHash, Round
from barnraise.runtime import files
from barnraise.runtime.blob_store import BlobStore, Intact
from barnraise.runtime.damaged import DAMAGED
from barnraise.runtime.files import load_identity, owned_folder
from peer.data_dir import PEER_KEY
from peer.training.trainer import Update
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import ContributionEvent as Event
from peer.volunteer.contribution_state import ContributionLifecycle
from peer.volunteer.contribution_state import ContributionState as State
from peer.volunteer.saved_state import NotSaved, SavedState
from tests.crash.recorded_disk import RecordedDisk, forget_flushes
from tests.support import parts

CHARTER = parts.charter(parts.run_spec(parts.CODECS[0]), parts.state())
INNER = {"steps": np.array([7], np.int64)}


def later(round: int) -> tuple[Tip, TrainState]:
    state = parts.state(seed=9, step=round)
    return Tip(Position(Round(round), BlobHash(parts.HASH_A)), state.hash()), state


def store_in(folder: Path, charter: Charter = CHARTER) -> ContributionStore:
    saves, blobs = SavedState(folder / "work", charter.digest), BlobStore(folder / "blobs")
    return ContributionStore(charter, parts.ADA, saves, blobs, ContributionLifecycle())


def contribute(store: ContributionStore, tip: Tip) -> None:
    store.lifecycle.advance(Event.TAKE)
    update = Update(parts.tensors(1, scale=0.01), tokens=64, samples=4, loss=2.5)
    store.keep(store.encode(tip, parts.LAYOUT, update, parts.admission(parts.ADA)))


@dataclass
class Promises:
    """What the volunteer has on disk by its own laws."""

    key: str = ""
    round: int = -1
    """The round of the newest save that returned."""
    published: BlobHash | None = None
    """A contribution that peers may know of, and whose close is not known."""

    def check(self, folder: Path) -> None:
        """Open what a power cut left in `folder`, and continue."""
        with owned_folder(folder, "peer"):
            identity = load_identity(folder / PEER_KEY)
            assert identity.public == self.key or not self.key
            store = store_in(folder)
            saved = store.load()
            if isinstance(saved, NotSaved):
                assert self.round < 0
                tip = genesis_tip(CHARTER)
                store.save(tip, parts.state(), INNER)
            else:
                tip = saved.tip
                assert tip.round >= self.round
                store.resume(saved)
            if self.published is not None:
                assert store.pending is not None
                assert blob_name(store.pending.value) == self.published
            if store.pending is None:
                contribute(store, tip)
            assert store.pending is not None
            assert store.blobs.check(blob_name(store.pending.value)) == Intact()
            store.settle(parts.LAYOUT, None)
            assert store.lifecycle.state is State.MISSED
            store.save(*later(5), INNER)
        assert not (folder / DAMAGED).exists(), "a power cut damages nothing"
        assert not list(folder.rglob(f"{files.UNFINISHED}*")), "temporary files are swept"
        shutil.rmtree(folder)


def train(disk: RecordedDisk, promises: Promises) -> None:
    """Three rounds, of which one misses its close."""
    with owned_folder(disk.root, "peer"):
        promises.key = load_identity(disk.root / PEER_KEY).public
        store = store_in(disk.root)
        tip = genesis_tip(CHARTER)
        store.save(tip, parts.state(), INNER)
        for round in range(3):
            promises.round = round
            contribute(store, tip)
            assert store.pending is not None
            promises.published = blob_name(store.pending.value)
            disk.cut_power()
            old, promises.published = promises.published, None
            if round == 1:
                store.settle(parts.LAYOUT, None)
                store.hand_over()
            else:
                store.lifecycle.advance(Event.LIST)
            tip, state = later(round + 1)
            store.save(tip, state, INNER)
            store.lifecycle.advance(Event.REBASE)
            store.blobs.remove(old)


def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedDisk:
    """Train with power cuts."""
    root, promises = tmp_path / "peer", Promises()
    root.mkdir()
    disk = RecordedDisk(root, tmp_path / "states", promises.check, seeds=2)
    with disk.recording(monkeypatch):
        train(disk, promises)
    return disk


def test_a_volunteer_survives_a_power_cut_at_every_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cut(tmp_path, monkeypatch).states > 200


@pytest.mark.parametrize("missing", ["files", "folders"])
def test_the_harness_finds_a_missing_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    forget_flushes(monkeypatch, missing)
    with pytest.raises((AssertionError, StateError)):
        cut(tmp_path, monkeypatch)
