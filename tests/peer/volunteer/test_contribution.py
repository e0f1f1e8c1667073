"""A volunteer's own contributions across rounds: what no close lists is owed, and only that."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.charter import Charter
from barnraise.contract.pieces import pieces_hash
from barnraise.contract.records import Commit, blob_name
from barnraise.contract.spec import AdamW, CodecSpec
from barnraise.contract.state import Array
from barnraise.contract.tip import Position, Tip, genesis_tip
from barnraise.core.errors import BadSignature, StateError
from barnraise.core.ids import BlobHash, Round
from barnraise.core.signed import Signed, open_text, sign
from barnraise.fold.codec import Decoder
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore
from peer.training.trainer import Update
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle
from peer.volunteer.saved_state import SavedState, SavedWork, Unchanged
from tests.support import parts

GENESIS = parts.state()
NEXT = parts.state(seed=9, step=1)
LAYOUT = parts.LAYOUT
LOSSY = parts.CODECS[0]
INNER = {"steps": np.array([7], np.int64)}

each_codec = pytest.mark.parametrize("codec", parts.CODECS, ids=parts.codec_name)


def moved(seed: int = 1) -> dict[str, Array]:
    return parts.tensors(seed, scale=0.01)


def update(seed: int = 1) -> Update:
    return Update(moved(seed), tokens=64, samples=4, loss=2.5)


def work_in(folder: Path, codec: CodecSpec) -> ContributionStore:
    """A volunteer's work as it was saved before round 0."""
    charter = parts.charter(parts.run_spec(codec), GENESIS)
    work = store_in(folder, charter)
    work.save(tip(work), GENESIS, INNER)
    return work


def store_in(folder: Path, charter: Charter) -> ContributionStore:
    saves, blobs = SavedState(folder / "work", charter.digest), BlobStore(folder / "blobs")
    return ContributionStore(charter, parts.ADA, saves, blobs, ContributionLifecycle())


def contribute(work: ContributionStore, seed: int = 1) -> Signed[Commit]:
    work.lifecycle.advance(ContributionEvent.TAKE)
    return work.keep(work.encode(tip(work), LAYOUT, update(seed), parts.admission(parts.ADA)))


def contributed(folder: Path, codec: CodecSpec) -> ContributionStore:
    """A volunteer whose contribution to round 0 is pending."""
    work = work_in(folder, codec)
    contribute(work)
    return work


def restarted(folder: Path, before: ContributionStore) -> ContributionStore:
    """The same volunteer after a crash: all that it knows is in its folder."""
    after = store_in(folder, before.charter)
    saved = after.load()
    assert isinstance(saved, SavedWork)
    after.resume(saved)
    return after


def tip(work: ContributionStore) -> Tip:
    return genesis_tip(work.charter)


def pending(work: ContributionStore) -> Signed[Commit]:
    assert work.pending is not None
    return work.pending


def sent(work: ContributionStore) -> dict[str, Array]:
    """What other peers decode from the pending contribution."""
    decoder = Decoder(work.blobs.get(blob_name(pending(work).value)), work.charter.spec.codec, LAYOUT)
    return {name: decoder.tensor(name).copy() for name, _ in LAYOUT}


def closed(work: ContributionStore, *commits: Signed[Commit]) -> Link:
    return parts.link(commits, previous=tip(work).previous)


def of_another_owner(work: ContributionStore) -> Signed[Commit]:
    return sign(parts.BEN, parts.commit(parts.BEN, base=GENESIS.hash(), size=100))


def assert_close(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def owed(work: ContributionStore) -> dict[str, Array]:
    """All work that the volunteer owes."""
    return work._owed()


def total(*many: dict[str, Array]) -> dict[str, Array]:
    return {name: np.sum([one[name] for one in many], axis=0, dtype=np.float32) for name in many[0]}


def test_a_contribution_is_signed_and_its_blob_is_stored(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    commit = pending(work).value
    assert open_text(Commit, pending(work).text, signer=parts.ADA.public).value == commit
    assert (commit.round, commit.base_state) == (0, GENESIS.hash())
    assert (commit.tokens, commit.samples, commit.loss) == (64, 4, 2.5)
    assert commit.size == work.blobs.size(blob_name(commit))
    assert commit.pieces == pieces_hash(work.blobs.get(blob_name(commit)))


@each_codec
def test_a_listed_contribution_leaves_only_what_was_not_sent(tmp_path: Path, codec: CodecSpec) -> None:
    work = contributed(tmp_path, codec)
    expected = {name: moved()[name] - array for name, array in sent(work).items()}
    work.settle(LAYOUT, closed(work, of_another_owner(work), pending(work)))
    assert work.pending is None
    assert_close(work.residual, expected)


@each_codec
def test_a_contribution_that_missed_its_close_is_owed_whole(tmp_path: Path, codec: CodecSpec) -> None:
    work = contributed(tmp_path, codec)
    work.settle(LAYOUT, closed(work, of_another_owner(work)))
    assert work.pending is None
    assert_close(owed(work), moved())


def test_a_missed_contribution_is_handed_over_once(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    out = sent(work)
    work.settle(LAYOUT, None)
    handed = work.hand_over()
    assert handed is not None
    same({name: handed.tensor(name) for name in out}, out)
    assert work.hand_over() is None
    assert_close(total(owed(work), out), moved())


def test_a_gradient_that_missed_its_close_is_in_the_residual(tmp_path: Path) -> None:
    spec = parts.run_spec(LOSSY, AdamW())
    charter = parts.charter(spec, GENESIS)
    work = store_in(tmp_path, charter)
    work.save(tip(work), GENESIS, INNER)
    contribute(work)
    work.settle(LAYOUT, None)
    assert work.hand_over() is None
    assert_close(work.residual, moved())


def test_a_close_that_is_not_known_counts_as_missed(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    work.settle(LAYOUT, None)
    assert_close(owed(work), moved())


def test_a_contribution_is_settled_once(tmp_path: Path) -> None:
    """Following the log starts again after a network error."""
    work = contributed(tmp_path, LOSSY)
    for _ in range(2):
        work.settle(LAYOUT, None)
    assert_close(owed(work), moved())


def test_a_crash_before_the_hand_over_keeps_the_missed_contribution(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.settle(LAYOUT, None)
    before.save(Tip(Position(Round(1), BlobHash(parts.HASH_A)), NEXT.hash()), NEXT, INNER)
    after = restarted(tmp_path, before)
    assert after.pending is None
    assert_close(after.residual, moved())


def test_without_a_contribution_nothing_is_owed(tmp_path: Path) -> None:
    work = work_in(tmp_path, LOSSY)
    work.settle(LAYOUT, closed(work, of_another_owner(work)))
    assert work.residual == {}


@each_codec
def test_over_rounds_all_work_is_sent_or_owed(tmp_path: Path, codec: CodecSpec) -> None:
    work = work_in(tmp_path, codec)
    done = {name: np.zeros(shape) for name, shape in LAYOUT}
    taken = {name: np.zeros(shape) for name, shape in LAYOUT}
    handed = None
    for round in range(6):
        fresh = update(round)
        if handed is not None:  # as the training gives it out again
            fresh = replace(
                fresh, tensors={name: array + handed.tensor(name) for name, array in fresh.tensors.items()}
            )
        work.lifecycle.advance(ContributionEvent.TAKE)
        work.keep(work.encode(tip(work), LAYOUT, fresh, parts.admission(parts.ADA)))
        in_close = round % 3 != 1
        if in_close:
            taken = {name: taken[name] + array for name, array in sent(work).items()}
        commits = [pending(work)] if in_close else [of_another_owner(work)]
        work.settle(LAYOUT, closed(work, *commits))
        handed = work.hand_over()
        work.lifecycle.advance(ContributionEvent.REBASE)
        assert (handed is None) is in_close
        done = {name: done[name] + array for name, array in moved(round).items()}
    for name in done:
        owed = work.residual[name].astype(np.float64)
        np.testing.assert_allclose(taken[name] + owed, done[name], rtol=1e-4, atol=1e-7)


def test_work_put_aside_adds_up_and_is_sent_with_the_next_contribution(tmp_path: Path) -> None:
    work = work_in(tmp_path, parts.CODECS[4])
    for seed in (1, 2):
        work.put_aside(update(seed))
    same(work.residual, total(moved(1), moved(2)))
    contribute(work, 3)
    assert_close(sent(work), total(moved(1), moved(2), moved(3)))
    assert not any(array.any() for array in work.residual.values())


def test_work_put_aside_is_added_to_the_residual(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    owed = parts.copied(work.residual)
    work.put_aside(update(2))
    same(work.residual, total(owed, moved(2)))


def test_work_put_aside_survives_a_restart(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.put_aside(update(2))
    after = restarted(tmp_path, before)
    same(after.residual, before.residual)
    assert pending(after).wire == pending(before).wire
    after.put_aside(update(3))
    same(restarted(tmp_path, before).residual, total(before.residual, moved(3)))


def test_a_state_is_saved_with_what_is_owed(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    work.settle(LAYOUT, closed(work, pending(work)))
    after = Tip(Position(Round(1), BlobHash(parts.HASH_A)), NEXT.hash())
    work.save(after, NEXT, {"steps": np.array([8], np.int64)})
    saved = SavedState(tmp_path / "work", work.charter.digest).load()
    assert isinstance(saved, SavedWork)
    assert (saved.tip, saved.state.hash(), saved.pending) == (after, NEXT.hash(), "")
    assert saved.inner["steps"].tolist() == [8]
    same(saved.residual, work.residual)


def test_a_residual_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    work.settle(LAYOUT, closed(work, pending(work)))
    before = set((tmp_path / "work").glob("residual*"))
    work.save(Tip(Position(Round(1), BlobHash(parts.HASH_A)), NEXT.hash()), NEXT, Unchanged())
    assert set((tmp_path / "work").glob("residual*")) == before


def test_a_contribution_handed_over_is_no_longer_owed_after_the_next_save(tmp_path: Path) -> None:
    work = contributed(tmp_path, LOSSY)
    work.settle(LAYOUT, None)
    after = Tip(Position(Round(1), BlobHash(parts.HASH_A)), NEXT.hash())
    work.save(after, NEXT, Unchanged())
    assert_close(restarted(tmp_path, work).residual, moved())
    work.hand_over()
    work.save(after, NEXT, Unchanged())
    same(restarted(tmp_path, work).residual, work.residual)


def test_a_crash_after_publishing_loses_nothing(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    after = restarted(tmp_path, before)
    assert pending(after).wire == pending(before).wire
    same(after.residual, before.residual)
    after.settle(LAYOUT, closed(before, of_another_owner(before)))
    assert_close(owed(after), moved())


def test_a_crash_after_a_close_that_lists_it_settles_it_again(tmp_path: Path) -> None:
    """The close is known, and the state that it leads to was not saved yet."""
    before = contributed(tmp_path, LOSSY)
    owed = parts.copied(before.residual)
    link = closed(before, pending(before))
    before.settle(LAYOUT, link)
    after = restarted(tmp_path, before)
    after.settle(LAYOUT, link)
    same(after.residual, owed)


def test_a_pending_contribution_without_its_blob_is_forgotten(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.blobs.remove(blob_name(pending(before).value))
    assert restarted(tmp_path, before).pending is None


def test_a_pending_contribution_that_another_key_signed_is_refused(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    before.saves.save_contribution(before.residual, of_another_owner(before).text)
    with pytest.raises(BadSignature):
        restarted(tmp_path, before)


def test_an_update_that_is_not_finite_is_not_published(tmp_path: Path) -> None:
    work, broken = work_in(tmp_path, LOSSY), update()
    broken.tensors["b"][1] = np.nan
    work.lifecycle.advance(ContributionEvent.TAKE)
    with pytest.raises(StateError):
        work.keep(work.encode(tip(work), LAYOUT, broken, parts.admission(parts.ADA)))
    assert work.pending is None
    assert restarted(tmp_path, work).pending is None


@pytest.mark.parametrize("is_here", [True, False])
def test_a_void_contribution_is_owed_again_where_its_blob_is_here(tmp_path: Path, is_here: bool) -> None:
    work = contributed(tmp_path, LOSSY)
    commit, link = pending(work).value, closed(work, pending(work))
    work.settle(LAYOUT, link)
    work.folded(link, Round(0))
    left = parts.copied(work.residual)
    if not is_here:
        work.blobs.remove(blob_name(commit))  # the volunteer took a checkpoint meanwhile
    assert work.take_back(Round(0), LAYOUT) == ([Round(0)] if is_here else [])
    assert_close(work.residual, moved() if is_here else left)
    assert work.take_back(Round(0), LAYOUT) == []


def test_a_void_contribution_is_owed_again_after_a_restart(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    commit, link = pending(before).value, closed(before, pending(before))
    before.settle(LAYOUT, link)
    before.folded(link, Round(0))
    before.save(tip(before), parts.state(), {})
    after = restarted(tmp_path, before)
    assert blob_name(commit) in after.names
    assert after.take_back(Round(0), LAYOUT) == [Round(0)]
    assert_close(after.residual, moved())
    again = restarted(tmp_path, after)
    assert again.take_back(Round(0), LAYOUT) == []
    assert blob_name(commit) not in again.names
    assert_close(again.residual, moved())


def test_a_contribution_of_an_earlier_start_is_dropped_behind_a_checkpoint(tmp_path: Path) -> None:
    before = contributed(tmp_path, LOSSY)
    name, link = blob_name(pending(before).value), closed(before, pending(before))
    before.settle(LAYOUT, link)
    before.folded(link, Round(0))
    before.save(tip(before), parts.state(), {})
    after = restarted(tmp_path, before)
    later = Link(link.entry.model_copy(update={"round": 1, "commits": ()}), (), link.certificate)
    after.folded(later, Round(0))
    assert name in after.blobs
    after.folded(later, Round(1))
    assert (name in after.blobs, after.take_back(Round(0), LAYOUT)) == (False, [])


def test_a_missed_close_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "peer")
    contributed(tmp_path, LOSSY).settle(LAYOUT, None)
    assert "our contribution to round 0 missed its close and goes into the next" in caplog.text
