"""A checkpoint is proved from an archive, or the first difference is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.consensus.lies import lie_in
from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    Segment,
    contribution_path,
    entry_path,
    folder_of,
    parse_index,
    proof_path,
)
from barnraise.contract.certificates import Vote
from barnraise.contract.double_signing import proof_of
from barnraise.contract.manifest import MANIFEST, Manifest
from barnraise.contract.records import blob_name
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import BadSignature, InviteError, TrustError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import blob_hash
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.fold.log import certified
from barnraise.fold.replay import Cause
from coordinator.store.events import CheckpointWritten
from coordinator.store.run_store import RunStore
from coordinator.store.transitions import apply
from peer.messages.verify import difference_message
from peer.verify.events import (
    CloserLied,
    ContributionsDropped,
    StartFromCheckpoint,
)
from peer.verify.proof import FromAdapterSeed, FromCheckpoint, Proved
from tests.support import parts
from tests.support.coordinators import announce, archive, raises_with_fix, show, train_round
from tests.support.coordinators import contribution as contributed
from tests.support.parts import ADA, AUTHORITY, BEN, STRANGER
from tests.support.verifying import (
    ADAPTER,
    KEY,
    ROUNDS,
    SPEC,
    RecordingDisplay,
    contribution,
    differs,
    flip,
    link,
    options,
    outcome,
    proved,
    run_of,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The archive of a run of four rounds; tests do not change it."""
    with run_of(tmp_path_factory.mktemp("run") / "coordinator") as store:
        yield archive(store)


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, for tests to damage."""
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def test_the_newest_checkpoint_is_proved_from_the_first_state(sound: Path) -> None:
    display = RecordingDisplay()
    found = proved(options(sound), display)
    assert (found.run, found.key, found.round, found.rounds) == (parts.RUN, KEY, ROUNDS, ROUNDS)
    assert (found.contributions, found.volunteers, found.tokens) == (2 * ROUNDS, 2, 2 * ROUNDS * 64)
    assert found.files == len(list((sound / folder_of("trained", ROUNDS)).iterdir())) - 2, "both manifests"
    assert found.start == FromAdapterSeed(0)
    last = display.progress[-1]
    assert (last.rounds, last.total, last.contributions) == (ROUNDS, ROUNDS, 2 * ROUNDS)


@pytest.mark.parametrize("revision", ["2", "round-2", "round-000002"])
def test_any_checkpoint_is_proved(sound: Path, revision: str) -> None:
    found = proved(options(sound, revision=revision))
    assert (found.round, found.rounds) == (2, 2)


def test_the_first_checkpoint_is_the_first_state(sound: Path) -> None:
    found = proved(options(sound, revision="0"))
    assert (found.round, found.rounds, found.training) == (0, 0, None)
    assert found.start == FromAdapterSeed(0)


def test_a_checkpoint_is_proved_from_an_earlier_one(sound: Path) -> None:
    display = RecordingDisplay()
    found = proved(options(sound, start=3), display)
    assert (found.start, found.rounds, found.contributions) == (FromCheckpoint(3), 1, 2)
    assert found.tokens == 2 * ROUNDS * 64, "as the checkpoint counts them"
    assert StartFromCheckpoint(3) in display.events


@pytest.mark.parametrize("start", [4, 5, 100])
def test_a_start_at_or_after_the_end_is_refused(sound: Path, start: int) -> None:
    with raises_with_fix(UserError, 2, f"--from {start} leaves nothing to replay up to round 4"):
        outcome(options(sound, start=start))


def test_a_start_without_a_checkpoint_is_refused(copy: Path) -> None:
    index = parse_index((copy / INDEX).read_bytes())
    repos = tuple(
        repo.model_copy(update={"revisions": tuple(r for r in repo.revisions if r.round != 2)})
        for repo in index.repos
    )
    (copy / INDEX).write_text(index.model_copy(update={"repos": repos}).model_dump_json())
    with raises_with_fix(UserError, 2, "no revision 'round-2'", "0, 1, 3, 4"):
        outcome(options(copy, start=2))


def test_a_log_that_begins_at_the_newest_checkpoint_proves_nothing(tmp_path: Path) -> None:
    kept = SPEC.checkpoint.model_copy(update={"log_gigabytes": 0.0, "rollback_rounds": 0, "keep": 3})
    with run_of(tmp_path / "run", spec=SPEC.model_copy(update={"checkpoint": kept})) as store:
        train_round(store, ADA)
        index = parse_index((archive(store) / INDEX).read_bytes())
        assert index.replay_from == 5
        for revision in ("main", "4"):
            with raises_with_fix(UserError, 2, "contributions are kept from round 5 on"):
                outcome(options(archive(store), revision=revision))


@contextmanager
def some_kept(tmp_path: Path) -> Iterator[Path]:
    """An archive that has contributions from round 2 on."""
    with run_of(tmp_path / "run") as store:
        store.forget_contributions(2, parts.NOW)
        show(store)
        yield archive(store)


def test_a_late_log_is_replayed_from_the_checkpoint_there(tmp_path: Path) -> None:
    with some_kept(tmp_path) as folder:
        display = RecordingDisplay()
        found = proved(options(folder), display)
        assert (found.start, found.rounds) == (FromCheckpoint(2), 2)
        assert ContributionsDropped(2) in display.events
        assert proved(options(folder, start=3)).start == FromCheckpoint(3)
        with raises_with_fix(UserError, 2, "contributions are kept from round 2 on", "--from 2"):
            outcome(options(folder, start=1))


@pytest.mark.parametrize(
    ("place", "what", "where"),
    [
        (lambda _: entry_path(0, 1), "entry", entry_path(0, 1)),
        (lambda folder: contribution(folder, 2), "contribution", "contributions/"),
        (lambda _: f"{folder_of('trained', ROUNDS)}/{ADAPTER}", "file", ADAPTER),
        (lambda _: f"{folder_of('trained', ROUNDS)}/README.md", "file", "README.md"),
        (lambda _: f"{folder_of('trained', ROUNDS)}/{MANIFEST}", "manifest", MANIFEST),
    ],
    ids=["entry", "contribution", "adapter", "card", "manifest"],
)
@pytest.mark.parametrize("spoil", [flip, Path.unlink], ids=["flipped", "missing"])
def test_a_flipped_or_missing_file_is_named(
    copy: Path, place: Callable[[Path], str], what: str, where: str, spoil: Callable[[Path], None]
) -> None:
    path = place(copy)
    spoil(copy / path)
    found = differs(options(copy))
    assert (found.what, found.where) == (what, path)
    assert where in path
    assert found.cause is (Cause.ABSENT if spoil is Path.unlink else Cause.SOURCE)
    assert path in difference_message(found)


def test_the_first_difference_is_named(copy: Path) -> None:
    """A later round is read ahead, but its difference is returned only after the earlier ones."""
    for round in (1, 2, 3):
        flip(copy / contribution(copy, round))
    assert differs(options(copy)).where == contribution(copy, 1)


def test_an_empty_contribution_is_named(copy: Path) -> None:
    path = contribution(copy, 1)
    (copy / path).write_bytes(b"")
    assert differs(options(copy)).where == path


def test_a_flipped_byte_of_the_charter_is_named(copy: Path) -> None:
    flip(copy / CHARTER)
    with raises_with_fix(BadSignature, 5, CHARTER):
        outcome(options(copy))


def test_a_run_under_another_key_is_refused(sound: Path) -> None:
    with pytest.raises(TrustError) as caught:
        outcome(options(sound, key=STRANGER.public))
    assert caught.value.exit_code == 5
    assert CHARTER in caught.value.problem


def test_a_folder_without_a_key_is_refused(sound: Path) -> None:
    with raises_with_fix(InviteError, 2, "whose signature"):
        outcome(options(sound, key=None))


def test_a_truncated_log_is_named_at_its_end(copy: Path) -> None:
    for round in (2, 3):
        for commit in link(copy, round).commits:
            (copy / contribution_path(blob_name(commit))).unlink()
        (copy / entry_path(0, round)).unlink()
    found = differs(options(copy))
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, 2), Cause.ABSENT)


def replace_newest(folder: Path, by: Identity, **other: object) -> None:
    """Put another last close, certified by `by`, in the place of the archive's."""
    last = ROUNDS - 1
    close = link(folder, last).close.model_copy(update=other)
    (folder / entry_path(0, last)).write_bytes(close.payload)
    index = parse_index((folder / INDEX).read_bytes())
    index = index.model_copy(update={"certificate": parts.votes(close, by)})
    (folder / INDEX).write_text(index.model_dump_json(), encoding="utf-8")


def test_a_log_signed_by_another_key_is_named(copy: Path) -> None:
    """A mirror with a forged log under the run's charter."""
    replace_newest(copy, STRANGER, reason="forged")
    found = differs(options(copy))
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, ROUNDS - 1), Cause.SOURCE)


def test_a_gap_that_the_run_s_key_signed_is_the_coordinator_s_fault(copy: Path) -> None:
    replace_newest(copy, AUTHORITY, previous=link(copy, 0).hash)
    found = differs(options(copy))
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, ROUNDS - 1), Cause.COORDINATOR)


def test_a_manifest_that_differs_from_the_log_s_end_is_the_coordinator_s_fault(copy: Path) -> None:
    replace_newest(copy, AUTHORITY, reason="another one")
    found = differs(options(copy))
    assert (found.what, found.cause) == ("manifest", Cause.COORDINATOR)
    assert "head of the log" in found.expected


@pytest.mark.parametrize(("epoch", "reported"), [(0, True), (1, False)])
def test_a_proof_of_double_signing_is_reported_until_the_run_resumes(
    copy: Path, epoch: int, reported: bool
) -> None:
    """epoch: the archive's newest."""
    ours = link(copy, 1)
    theirs = ours.close.model_copy(update={"reason": "another history"})
    proof = proof_of(certified(ours), certified(replace(ours, entry=theirs, certificate=parts.votes(theirs))))
    false = b"{}"
    index = parse_index((copy / INDEX).read_bytes())
    for payload in (proof.payload, false):
        path = copy / proof_path(blob_hash(payload))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(payload)
    epochs = (*index.epochs, *([Segment(epoch=1, start=ROUNDS)] if epoch else []))
    names = tuple(sorted((blob_hash(proof.payload), blob_hash(false))))
    index = index.model_copy(update={"proofs": names, "epochs": epochs})
    (copy / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    if not reported:
        assert isinstance(outcome(options(copy)), Proved)
        return
    found = differs(options(copy))
    assert (found.what, found.where) == ("history", proof_path(blob_hash(proof.payload)))
    assert found.cause is Cause.COORDINATOR


def test_a_proof_that_a_closer_lied_is_reported(copy: Path) -> None:
    """The log is proved all the same."""
    said = [
        sign(
            AUTHORITY,
            Vote(run=parts.RUN, epoch=0, height=1, round=1, kind="close", entry=entry, ballot=7),
        )
        for entry in (parts.HASH_A, parts.HASH_B)
    ]
    lie = lie_in(*said)
    assert lie is not None
    path = copy / proof_path(blob_hash(lie.payload))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lie.payload)
    index = parse_index((copy / INDEX).read_bytes())
    index = index.model_copy(update={"proofs": (blob_hash(lie.payload),)})
    (copy / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    display = RecordingDisplay()
    assert isinstance(outcome(options(copy), display), Proved)
    assert [event for event in display.events if isinstance(event, CloserLied)] == [
        CloserLied(AUTHORITY.public, "two-votes", 1)
    ]


def set_tip(store: RunStore, tip: Tip) -> None:
    store.snapshot = replace(store.snapshot, tip=tip)


def other_state(store: RunStore) -> None:
    """The coordinator signs a state that does not follow from the log."""
    moved = {name: array + 1 for name, array in store.state.params.items()}
    store.state = TrainState(moved, store.state.buffers, store.state.step)
    set_tip(store, replace(store.snapshot.tip, state=store.state.hash()))


def test_a_forged_state_is_the_coordinator_s_fault_in_its_round(tmp_path: Path) -> None:
    with run_of(tmp_path / "run", rounds=1) as store:
        honest = store.snapshot.tip.state
        other_state(store)
        store.write_checkpoint(parts.NOW)
        train_round(store, ADA)
        now = differs(options(archive(store), revision="1"))
        later = differs(options(archive(store), revision="2"))
        for found in (now, later):
            assert (found.what, found.where, found.cause) == ("state", "state[1]", Cause.COORDINATOR)
            assert found.expected.startswith(store.snapshot.checkpoints[1].value.state)
            assert found.found.startswith(honest)
            assert "folding round 0" in found.found
        assert "the coordinator is at fault" in difference_message(now)


def test_files_with_another_state_than_the_manifest_s_are_the_coordinator_s_fault(
    tmp_path: Path,
) -> None:
    """A manifest of the true state is signed over the files of a false one."""
    with run_of(tmp_path / "run", rounds=2) as store:
        honest = store.snapshot.checkpoints[2].value
        other_state(store)
        store.write_checkpoint(parts.NOW)
        mixed = store.snapshot.checkpoints[2].value.model_copy(update={"state": honest.state})
        resigned(store, 2, sign(AUTHORITY, mixed))
        found = differs(options(archive(store)))
        assert (found.what, found.where, found.cause) == ("file", folder_of("trained", 2), Cause.COORDINATOR)
        assert honest.state in found.expected


def resigned(store: RunStore, round: int, signed: Signed[Manifest]) -> None:
    """Replace a checkpoint's manifest, and publish it."""
    store.blobs.put(signed.wire)
    store.snapshot = apply(store.snapshot, CheckpointWritten(parts.NOW, signed))
    show(store)


def test_a_start_from_a_false_checkpoint_does_not_prove_later_ones(tmp_path: Path) -> None:
    """A start trusts the checkpoint: the log then continues from another state."""
    with run_of(tmp_path / "run", rounds=1) as store:
        true_state, true_tip = store.state, store.snapshot.tip
        other_state(store)
        store.write_checkpoint(parts.NOW)
        store.state = true_state
        set_tip(store, true_tip)
        train_round(store, ADA)
        found = differs(options(archive(store), start=1))
        assert (found.what, found.where, found.cause) == ("state", "state[1]", Cause.COORDINATOR)
        assert proved(options(archive(store))).round == 2, "the log itself is sound"


def downloaded(folder: Path, where: Path) -> Path:
    return Path(shutil.copytree(folder / folder_of("trained", ROUNDS), where))


def test_a_downloaded_checkpoint_is_proved_by_the_log_of_another_source(sound: Path, tmp_path: Path) -> None:
    own = downloaded(sound, tmp_path / "mine")
    assert proved(options(own, log=str(sound))).round == ROUNDS
    flip(own / ADAPTER)
    found = differs(options(own, log=str(sound)))
    assert (found.what, found.where, found.cause) == ("file", ADAPTER, Cause.SOURCE)


def test_a_lone_checkpoint_without_a_log_is_refused(sound: Path, tmp_path: Path) -> None:
    own = downloaded(sound, tmp_path / "mine")
    with raises_with_fix(UserError, 2, "no log", "--log"):
        outcome(options(own))
    with raises_with_fix(UserError, 2, "is not the archive of the run barn"):
        outcome(options(own, log=str(own)))


def test_another_form_of_a_checkpoint_is_refused(sound: Path, tmp_path: Path) -> None:
    own = downloaded(sound, tmp_path / "mine")
    manifest = open_signed(Manifest, (own / MANIFEST).read_bytes(), signer=AUTHORITY.public).value
    (own / MANIFEST).write_bytes(sign(AUTHORITY, manifest.model_copy(update={"form": "merged"})).wire)
    with raises_with_fix(UserError, 2, "merged form of round-4", "--revision round-4"):
        outcome(options(own, log=str(sound)))


def test_a_checkpoint_of_another_run_is_refused(sound: Path, tmp_path: Path) -> None:
    own = downloaded(sound, tmp_path / "mine")
    manifest = open_signed(Manifest, (own / MANIFEST).read_bytes(), signer=AUTHORITY.public).value
    (own / MANIFEST).write_bytes(sign(AUTHORITY, manifest.model_copy(update={"run": "shed"})).wire)
    with raises_with_fix(UserError, 2, "is not the archive of the run shed"):
        outcome(options(own, log=str(sound)))


def test_a_run_without_a_checkpoint_has_nothing_to_prove(copy: Path) -> None:
    index = parse_index((copy / INDEX).read_bytes())
    (copy / INDEX).write_text(index.model_copy(update={"repos": ()}).model_dump_json())
    with raises_with_fix(UserError, 2, "no checkpoint yet"):
        outcome(options(copy))


def test_two_contributions_with_the_same_blob_count_twice(tmp_path: Path) -> None:
    """Two volunteers may send the same bytes; the archive then has them once."""
    with run_of(tmp_path / "run", rounds=0) as store:
        commit, blob = contributed(store, ADA)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
        store.accept(announce(store, BEN, blob), parts.NOW)
        store.fold(store.close("all contributed", parts.NOW))
        store.write_checkpoint(parts.NOW)
        show(store)
        assert len(list((archive(store) / "contributions").iterdir())) == 1
        assert proved(options(archive(store))).contributions == 2
