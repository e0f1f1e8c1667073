"""A volunteer's own work across rounds: what the log does not take is owed, and nothing else is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from barnraise.codec import Decoder
from barnraise.edge.blobstore import BlobStore
from barnraise.errors import BadSignature, StateError
from barnraise.ids import BlobHash, Round
from barnraise.log import Link, Tip, check_link, genesis_tip
from barnraise.records import Commit, blob_name
from barnraise.shards import Sample
from barnraise.signed import Signed, open_text, sign
from barnraise.spec import CodecSpec
from barnraise.state import Array, TrainState
from peer.store import Saved, Store
from peer.trainer import StepResult, Trainer, Update
from peer.work import Work
from tests import parts

GENESIS = parts.state()
NEXT = parts.state(seed=9, step=1)
LOSSY = parts.CODECS[0]

each_codec = pytest.mark.parametrize("codec", parts.CODECS, ids=parts.codec_name)


@dataclass
class Pretended:
    """A trainer whose update is given, and that counts 64 tokens a step."""

    update: dict[str, Array] = field(default_factory=lambda: parts.tensors(1, scale=0.01))
    tokens: int = 0
    samples: int = 0
    loaded: list[TrainState] = field(default_factory=list)
    inner: dict[str, npt.NDArray[Any]] = field(default_factory=lambda: {"steps": np.array([0], np.int64)})

    def load(self, state: TrainState) -> None:
        self.loaded.append(state)
        self.tokens = self.samples = 0

    def step(self, samples: Sequence[Sample]) -> StepResult:
        self.tokens += 64
        self.samples += 4
        self.inner["steps"] = self.inner["steps"] + 1
        return StepResult(2.5, 64)

    def take_update(self, state: TrainState) -> Update:
        taken = Update(parts.copied(self.update), self.tokens, self.samples, 2.5)
        self.tokens = self.samples = 0
        return taken

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        return self.inner

    def import_inner(self, saved: dict[str, npt.NDArray[Any]]) -> None:
        self.inner = saved


def work_in(folder: Path, codec: CodecSpec, trainer: Pretended | None = None) -> Work:
    charter = parts.charter(parts.run_spec(codec), GENESIS)
    store = Store(folder / "work", charter.spec.digest())
    return Work(charter, parts.ADA, cast(Trainer, trainer or Pretended()), store, BlobStore(folder / "blobs"))


def contributed(folder: Path, codec: CodecSpec, trainer: Pretended | None = None) -> Work:
    """A volunteer whose contribution to round 0 is out."""
    work = work_in(folder, codec, trainer)
    work.begin(tip(work), GENESIS)
    work.step([])
    work.contribute(tip(work), GENESIS, parts.admission(parts.ADA))
    return work


def tip(work: Work) -> Tip:
    return genesis_tip(work.charter)


def pending(work: Work) -> Signed[Commit]:
    assert work.pending is not None
    return work.pending


def sent(work: Work) -> dict[str, Array]:
    """What the others decode from the contribution that is out."""
    decoder = Decoder(work.blobs.get(blob_name(pending(work).value)), work.charter.spec.codec, parts.LAYOUT)
    return {name: decoder.tensor(name).copy() for name, _ in parts.LAYOUT}


def closed(work: Work, *commits: Signed[Commit]) -> Link:
    return check_link(parts.close(commits, previous=tip(work).previous).wire, work.charter, Round(0))


def of_somebody_else(work: Work) -> Signed[Commit]:
    return sign(parts.BEN, parts.commit(parts.BEN, base=GENESIS.hash(), size=100))


def assert_close(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def loaded(folder: Path, work: Work) -> Saved:
    saved = Store(folder / "work", work.charter.spec.digest()).load()
    assert isinstance(saved, Saved)
    return saved


def test_a_contribution_is_signed_and_its_blob_is_stored(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    commit = pending(work).value
    assert open_text(Commit, pending(work).text, signer=parts.ADA.public).value == commit
    assert (commit.round, commit.base_state) == (0, GENESIS.hash())
    assert (commit.tokens, commit.samples, commit.loss) == (64, 4, 2.5)
    assert commit.size == work.blobs.size(blob_name(commit))
    assert work.in_round(Round(0))
    assert not work.in_round(Round(1))


@each_codec
def test_what_was_taken_leaves_only_what_was_not_sent(tmp_path: Path, codec: CodecSpec) -> None:
    trainer = Pretended()
    work = contributed(tmp_path, codec, trainer)
    expected = {name: trainer.update[name] - array for name, array in sent(work).items()}
    work.settle(GENESIS, closed(work, of_somebody_else(work), pending(work)))
    assert work.pending is None
    assert_close(work.residual, expected)


@each_codec
def test_what_missed_its_close_is_owed_whole(tmp_path: Path, codec: CodecSpec) -> None:
    trainer = Pretended()
    work = contributed(tmp_path, codec, trainer)
    work.settle(GENESIS, closed(work, of_somebody_else(work)))
    assert work.pending is None
    assert_close(work.residual, trainer.update)


def test_a_close_that_is_not_known_counts_as_missed(tmp_path: Path) -> None:
    trainer = Pretended()
    work = contributed(tmp_path, LOSSY, trainer)
    work.settle(GENESIS, None)
    assert_close(work.residual, trainer.update)


def test_what_was_never_published_is_owed(tmp_path: Path) -> None:
    trainer = Pretended()
    work = work_in(tmp_path, LOSSY, trainer)
    work.begin(tip(work), GENESIS)
    work.step([])
    work.settle(GENESIS, closed(work, of_somebody_else(work)))
    same(work.residual, trainer.update)
    assert work.tokens == 0


def test_unpublished_work_of_two_rounds_adds_up(tmp_path: Path) -> None:
    trainer = Pretended()
    work = work_in(tmp_path, LOSSY, trainer)
    for seed in (1, 2):
        trainer.update = parts.tensors(seed)
        work.begin(tip(work), GENESIS)
        work.step([])
        work.settle(GENESIS, None)
    first, second = parts.tensors(1), parts.tensors(2)
    same(work.residual, {name: first[name] + second[name] for name in first})


def test_without_work_nothing_is_owed(tmp_path: Path) -> None:
    work = work_in(tmp_path, LOSSY)
    work.begin(tip(work), GENESIS)
    work.settle(GENESIS, None)
    assert work.residual == {}


@each_codec
def test_over_rounds_all_that_was_trained_is_sent_or_owed(tmp_path: Path, codec: CodecSpec) -> None:
    trainer = Pretended()
    work = work_in(tmp_path, codec, trainer)
    done = {name: np.zeros(shape) for name, shape in parts.LAYOUT}
    taken = {name: np.zeros(shape) for name, shape in parts.LAYOUT}
    for round in range(6):
        trainer.update = parts.tensors(round, scale=0.01)
        work.begin(tip(work), GENESIS)
        work.step([])
        work.contribute(tip(work), GENESIS, parts.admission(parts.ADA))
        in_close = round % 3 != 1
        if in_close:
            taken = {name: taken[name] + array for name, array in sent(work).items()}
        commits = [pending(work)] if in_close else [of_somebody_else(work)]
        work.settle(GENESIS, closed(work, *commits))
        done = {name: done[name] + array for name, array in trainer.update.items()}
    for name in done:
        owed = work.residual[name].astype(np.float64)
        np.testing.assert_allclose(taken[name] + owed, done[name], rtol=1e-4, atol=1e-7)


def test_the_next_round_starts_from_its_state_and_is_saved(tmp_path: Path) -> None:
    trainer = Pretended()
    work = contributed(tmp_path, LOSSY, trainer)
    work.settle(GENESIS, closed(work, pending(work)))
    after = Tip(Round(1), BlobHash(parts.HASH_A), NEXT.hash())
    work.begin(after, NEXT)
    saved = loaded(tmp_path, work)
    assert (saved.tip, saved.state.hash(), saved.pending) == (after, NEXT.hash(), "")
    assert trainer.loaded[-1] is NEXT
    assert work.steps == 0
    same(saved.residual, work.residual)


def test_a_crash_after_publishing_loses_nothing(tmp_path: Path) -> None:
    trainer = Pretended()
    before = contributed(tmp_path, LOSSY, trainer)
    link = closed(before, of_somebody_else(before))
    trainer_after = Pretended()
    after = work_in(tmp_path, LOSSY, trainer_after)
    after.resume(loaded(tmp_path, after))
    assert pending(after).wire == pending(before).wire
    same(after.residual, before.residual)
    after.settle(GENESIS, link)
    assert_close(after.residual, trainer.update)


def test_a_crash_keeps_the_inner_optimizer_of_the_round_s_begin(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.begin(tip(before), GENESIS)
    trainer = Pretended()
    after = work_in(tmp_path, LOSSY, trainer)
    after.resume(loaded(tmp_path, after))
    assert trainer.inner["steps"].tolist() == [1]


def test_a_pending_contribution_without_its_blob_is_forgotten(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.blobs.remove(blob_name(pending(before).value))
    after = work_in(tmp_path, LOSSY)
    after.resume(loaded(tmp_path, after))
    assert after.pending is None


def test_a_pending_contribution_of_somebody_else_is_refused(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.store.save_contribution(tip(before), before.residual, of_somebody_else(before).text)
    after = work_in(tmp_path, LOSSY)
    with pytest.raises(BadSignature):
        after.resume(loaded(tmp_path, after))


def test_an_update_that_is_not_finite_is_not_published(tmp_path: Path) -> None:
    trainer = Pretended()
    trainer.update["b"][1] = np.nan
    with pytest.raises(StateError):
        contributed(tmp_path, LOSSY, trainer)


def test_a_volunteer_is_told_where_its_work_went(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "peer")
    work = contributed(tmp_path, LOSSY)
    work.settle(GENESIS, None)
    assert "our contribution to round 0 missed its close and goes into the next" in caplog.text


def test_the_pace_is_that_of_the_last_steps(tmp_path: Path) -> None:
    work = work_in(tmp_path, LOSSY)
    assert (work.tokens_per_second, work.step_seconds) == (0.0, 0.0)
    work.recent.extend((100, float(seconds)) for seconds in (50, 1, 2, 3, 2, 2))
    assert work.tokens_per_second == 50.0
    assert work.step_seconds == 3.0
