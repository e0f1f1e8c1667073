"""The mean of the newest states is evaluated after the newest one, and takes its place where it is better."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, folder_of, parse_index
from barnraise.contract.manifest import MANIFEST, Manifest, open_manifest
from barnraise.contract.run_keys import Signers
from barnraise.core.ids import BlobHash
from barnraise.evaluation.failures import EvaluationFailure, LossNotFinite, NotEnoughMemory
from barnraise.evaluation.runner import Evaluated
from barnraise.models.checkpoint_files import OUTER_STATE, read_state
from barnraise.runtime.blob_store import file_hash
from coordinator.backup.contents import RunContents
from coordinator.checkpoints.mean_files import averaged_rounds
from coordinator.checkpoints.publisher import publisher_of
from coordinator.messages.checkpoints import mean_message
from coordinator.reasons.checkpoints import MeanFailed, MeanTried, NoSpaceForMean, StateUnreadable
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.averaged_runs import checkpointed, mean_state, unread, with_checkpoints
from tests.support.coordinators import archive, fold_round, head_of, opened_store, reopened, until_published
from tests.support.golden_log import genesis, spec_of
from tests.support.parts import ADA
from tests.support.scripted_evaluation import ScriptedEvaluation, loss

SPEC = with_checkpoints(spec_of("nesterov dense4"), keep=4)


@pytest.fixture(autouse=True)
def _info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path, SPEC, genesis(SPEC)) as made:
        yield made


def names(store: RunStore) -> dict[str, tuple[str, ...]]:
    """By folder, of the archive's revisions."""
    repo = parse_index((archive(store) / INDEX).read_bytes()).repo("trained")
    assert repo is not None
    return {revision.folder: revision.names for revision in repo.revisions}


def average(store: RunStore, round: int) -> Manifest:
    """Of the mean in the archive."""
    wire = (archive(store) / folder_of("trained", round, averaged=True) / MANIFEST).read_bytes()
    return open_manifest(wire, run=parts.RUN, signers=Signers(parts.AUTHORITY.public)).value


def test_a_better_mean_is_main(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    first = checkpointed(store, loss(2.5))
    second = checkpointed(store, loss(2.4), loss(2.3))
    assert names(store) == {
        "checkpoints/round-000000": ("round-0",),
        "checkpoints/round-000001": ("round-1",),
        "checkpoints/round-000002": ("round-2", "latest"),
        "checkpoints/average-000002": ("average-2", "main", "best"),
    }
    manifest = average(store, 2)
    assert [(each.round, each.state) for each in manifest.mean_of] == [(1, first.hash()), (2, second.hash())]
    assert manifest.held_out == loss(2.3).held_out
    assert (manifest.tokens, manifest.place_fields) == (
        store.snapshot.tokens,
        store.snapshot.checkpoints[2].value.place_fields,
    )
    expected = mean_state(first, second)
    assert read_state(manifest, store.charter.layout, store.blobs.path).hash() == expected.hash()
    assert manifest.state == expected.hash() != second.hash()
    assert mean_message(MeanTried((1, 2), 2.3, 2.4, kept=True)) in caplog.text
    assert "main: the mean of states up to round 2" in caplog.text


def test_a_state_is_published_before_its_mean_is_evaluated(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    fold_round(store, ADA)
    store.write_checkpoint(parts.NOW)
    outcomes, seen = [loss(2.4), loss(2.3)], []

    async def evaluate(_: Path) -> Evaluated:
        seen.append(names(store).get("checkpoints/round-000002"))
        return outcomes.pop(0)

    made = replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluate)
    asyncio.run(until_published(made))
    assert seen == [None, ("round-2", "main", "latest", "best")]
    assert names(store)["checkpoints/average-000002"] == ("average-2", "main", "best")


def test_the_mean_is_of_the_newest_three_without_the_first_state(store: RunStore) -> None:
    states = [checkpointed(store, loss(2.5))]
    states += [checkpointed(store, loss(2.4), loss(2.3 - round / 10)) for round in range(3)]
    manifest = average(store, 4)
    assert [each.round for each in manifest.mean_of] == [2, 3, 4]
    assert manifest.state == mean_state(*states[1:]).hash()


def test_a_mean_has_no_buffers_and_the_files_of_its_state(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    state, mean = ({entry.name for entry in each.files} for each in _manifests(store))
    assert OUTER_STATE in state
    assert mean == state - {OUTER_STATE}


def _manifests(store: RunStore) -> tuple[Manifest, Manifest]:
    return store.snapshot.checkpoints[2].value, average(store, 2)


def test_a_card_says_what_its_weights_are(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    checkpointed(store, loss(2.2), loss(2.1))
    card = (archive(store) / folder_of("trained", 3, averaged=True) / "README.md").read_text()
    assert "- Weights: mean of the states of rounds 1, 2 and 3\n" in card
    assert "2.1000 nats a token" in card
    assert "--revision average-3" in card
    assert average(store, 3).state in card
    card = (archive(store) / folder_of("trained", 3) / "README.md").read_text()
    assert "- Weights: state of round 3\n" in card


def test_the_curve_has_a_ring_for_each_mean(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    curve = (archive(store) / folder_of("trained", 2, averaged=True) / "held-out.svg").read_text()
    assert (curve.count("<circle"), curve.count("mean of states</title>")) == (3, 1)
    assert "mean of states: 2.300" in curve


@pytest.mark.parametrize("value", [2.4, 2.6])
def test_a_mean_that_is_not_better_is_not_kept(
    store: RunStore, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(value))
    assert names(store)["checkpoints/round-000002"] == ("round-2", "main", "latest", "best")
    assert store.snapshot.averages == {}
    assert not list(archive(store).glob("checkpoints/average*"))
    assert mean_message(MeanTried((1, 2), value, 2.4, kept=False)) in caplog.text


def test_a_mean_that_is_too_far_above_the_best_is_not_kept(store: RunStore) -> None:
    checkpointed(store, loss(2.0))
    checkpointed(store, loss(2.5), loss(2.4))
    assert names(store)["checkpoints/round-000001"] == ("round-1", "main", "best")
    assert store.snapshot.averages == {}


@pytest.mark.parametrize("failure", [LossNotFinite("nan"), NotEnoughMemory(2, 1)])
def test_a_mean_that_cannot_be_evaluated_is_not_kept(
    store: RunStore, caplog: pytest.LogCaptureFixture, failure: LossNotFinite | NotEnoughMemory
) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), failure)
    assert names(store)["checkpoints/round-000002"] == ("round-2", "main", "latest", "best")
    assert mean_message(MeanFailed((1, 2), failure)) in caplog.text


def test_without_an_evaluation_of_the_state_no_mean_is_made(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, NotEnoughMemory(2, 1))
    assert store.snapshot.averages == {}


@pytest.mark.parametrize("checkpoint", [{"average": 0}, {"average": 1}, {"keep": 1}])
def test_a_run_may_make_no_means(tmp_path: Path, checkpoint: dict[str, int]) -> None:
    with opened_store(tmp_path, with_checkpoints(SPEC, **checkpoint), genesis(SPEC)) as store:
        checkpointed(store, loss(2.5))
        checkpointed(store, loss(2.4))


def test_a_mean_is_dropped_when_it_is_neither_main_nor_best(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.300))
    checkpointed(store, loss(2.301), loss(2.35))
    assert names(store)["checkpoints/average-000002"] == ("average-2", "best")
    assert names(store)["checkpoints/round-000003"] == ("round-3", "main", "latest")
    weights = {entry.hash for entry in average(store, 2).files if entry.name.endswith(".safetensors")}
    assert all(name in store.blobs for name in weights)  # type: ignore[operator]
    checkpointed(store, loss(2.2), loss(2.1))
    assert names(store)["checkpoints/average-000002"] == ("average-2",), "somebody may be downloading it"
    assert names(store)["checkpoints/average-000004"] == ("average-4", "main", "best")
    checkpointed(store, loss(2.1), loss(2.0))
    assert list(store.snapshot.averages) == [4, 5]
    assert "checkpoints/average-000002" not in names(store)
    assert not (archive(store) / folder_of("trained", 2, averaged=True)).exists()
    assert not any(name in store.blobs for name in weights)  # type: ignore[operator]


def test_a_mean_that_was_replaced_goes_with_the_state_of_its_round(tmp_path: Path) -> None:
    with opened_store(tmp_path, with_checkpoints(SPEC, keep=2), genesis(SPEC)) as store:
        checkpointed(store, loss(2.5))
        checkpointed(store, loss(2.4), loss(2.3))
        checkpointed(store, loss(2.0), loss(2.1))
        assert list(store.snapshot.averages) == [2]
        checkpointed(store, loss(1.9), loss(2.1))
        assert list(store.snapshot.averages) == []
        assert set(store.snapshot.checkpoints) == {0, 3, 4}


def test_the_states_of_a_mean_that_is_kept_are_kept(tmp_path: Path) -> None:
    with opened_store(tmp_path, with_checkpoints(SPEC, keep=2), genesis(SPEC)) as store:
        checkpointed(store, loss(2.5))
        checkpointed(store, loss(2.4), loss(1.0))
        for _ in range(3):
            checkpointed(store, loss(2.4), loss(2.3))
        assert set(store.snapshot.checkpoints) == {0, 1, 2, 4, 5}


def test_volunteers_start_from_the_state(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    head, newest = head_of(store), store.snapshot.newest_checkpoint
    assert not newest.value.averaged
    assert (head.checkpoint_round, newest.value.state) == (2, store.state.hash())


def test_a_restart_keeps_the_mean(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    before = names(store)
    with reopened(store) as again:
        assert again.snapshot.averages == store.snapshot.averages
        assert again.state.hash() == store.state.hash(), "it goes on from the state of the round"
        checkpointed(again, loss(2.4), loss(2.4))
        assert names(again).items() > {**before, "checkpoints/round-000002": ("round-2",)}.items()


def test_a_snapshot_of_the_journal_has_the_mean(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    for _ in range(2):
        store.save(parts.NOW)  # the rows before the second one are pruned
    with reopened(store) as again:
        assert again.snapshot.averages == store.snapshot.averages


def test_a_restart_between_the_state_and_its_mean_goes_on_with_the_state(store: RunStore) -> None:
    """The rows of the two are journaled one after the other."""
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), NotEnoughMemory(2, 1))
    with reopened(store) as again:
        checkpointed(again, loss(2.3), loss(2.2))
        assert names(again)["checkpoints/average-000003"] == ("average-3", "main", "best")


def test_a_mean_that_is_lost_is_dropped(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    weights = next(entry for entry in average(store, 2).files if entry.name.endswith(".safetensors"))
    store.blobs.path(weights.hash).unlink()  # type: ignore[arg-type]
    folder = archive(store) / folder_of("trained", 2, averaged=True)
    (folder / weights.name).unlink()
    with reopened(store) as again:
        assert again.snapshot.averages == {}
        assert "the mean of states up to round 2 is dropped" in caplog.text
        checkpointed(again, loss(2.4), loss(2.5))
        assert not folder.exists()


def test_a_mean_is_brought_back_from_the_archive(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    weights = next(entry for entry in average(store, 2).files if entry.name.endswith(".safetensors"))
    store.blobs.path(weights.hash).unlink()  # type: ignore[arg-type]
    with reopened(store) as again:
        assert again.snapshot.averages == store.snapshot.averages


def test_a_backup_has_the_mean(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    named = {file.hash for file in RunContents.read(store.folder / "journal.sqlite", store.folder).files()}
    assert named >= {entry.hash for entry in average(store, 2).files}


@pytest.mark.parametrize("missing", [True, False])
def test_a_damaged_state_leaves_the_newest_one(
    store: RunStore, caplog: pytest.LogCaptureFixture, missing: bool
) -> None:
    checkpointed(store, loss(2.5))
    files = store.snapshot.checkpoints[1].value.files
    weights = next(entry for entry in files if entry.name.startswith("adapter_model"))
    with unread(store.blobs.path(weights.hash), missing=missing):  # type: ignore[arg-type]
        checkpointed(store, loss(2.4))
    assert mean_message(StateUnreadable(1, weights.name)) in caplog.text
    assert names(store)["checkpoints/round-000002"] == ("round-2", "main", "latest", "best")


def test_the_states_of_a_mean_stay_while_it_is_evaluated(tmp_path: Path) -> None:
    with opened_store(tmp_path, with_checkpoints(SPEC, keep=3), genesis(SPEC)) as store:
        checkpointed(store, loss(2.5))
        checkpointed(store, loss(2.4), loss(2.6))
        fold_round(store, ADA)
        store.write_checkpoint(parts.NOW)
        written_during(store, 2, [loss(2.3), loss(2.0), NotEnoughMemory(2, 1)])
        assert [each.round for each in average(store, 3).mean_of] == [1, 2, 3]
        assert set(store.snapshot.checkpoints) == {0, 1, 2, 3, 4}
        assert store.snapshot.averaging == ()


def test_a_newer_state_is_evaluated_before_the_mean_of_older_ones(store: RunStore) -> None:
    """Else half of the states would have no loss where an evaluation takes most of the time between two."""
    checkpointed(store, loss(2.5))
    fold_round(store, ADA)
    store.write_checkpoint(parts.NOW)
    written_during(store, 1, [loss(2.4), loss(2.3), loss(2.2)])
    assert {round: score.held_out.loss for round, score in store.snapshot.scores.items()} == {
        1: 2.5, 2: 2.4, 3: 2.3
    }  # fmt: skip
    assert [each.round for each in average(store, 3).mean_of] == [1, 2, 3]


def written_during(store: RunStore, number: int, outcomes: list[Evaluated | EvaluationFailure]) -> None:
    """Have the publisher evaluate until it is idle. During that evaluation another checkpoint is written."""
    scripted = ScriptedEvaluation(outcomes)

    async def evaluate(folder: Path) -> Evaluated | EvaluationFailure:
        outcome = await scripted(folder)
        if len(scripted.seen) == number:
            fold_round(store, ADA)
            store.write_checkpoint(parts.NOW)
        return outcome

    asyncio.run(until_published(replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluate)))
    assert outcomes == []


@pytest.mark.parametrize("step", ["save_tensors", "link_or_copy"])
def test_a_full_disk_costs_the_mean_and_not_the_run(
    store: RunStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpointed(store, loss(2.5))
    monkeypatch.setattr(f"coordinator.checkpoints.mean_files.{step}", full)
    checkpointed(store, loss(2.4))
    assert mean_message(NoSpaceForMean((1, 2))) in caplog.text
    assert names(store)["checkpoints/round-000002"] == ("round-2", "main", "latest", "best")


def test_a_state_that_the_disk_cannot_read_leaves_the_newest_one(
    store: RunStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_of(path: Path) -> BlobHash:
        if path.parent.name == "state-1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return file_hash(path)

    checkpointed(store, loss(2.5))
    monkeypatch.setattr("barnraise.runtime.blob_store.file_hash", hash_of)
    checkpointed(store, loss(2.4))
    assert mean_message(StateUnreadable(1, "adapter_model.safetensors")) in caplog.text


def test_no_mean_crosses_a_rollback(store: RunStore) -> None:
    checkpointed(store, loss(2.5))
    checkpointed(store, loss(2.4), loss(2.3))
    fold_round(store, ADA)
    store.amend(rollback_to(1, (), "noise", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    assert averaged_rounds(store.snapshot, 1) == ()
    store.write_checkpoint(parts.NOW)
    back = store.snapshot.round
    assert averaged_rounds(store.snapshot, back) == (1, back)
    assert store.snapshot.averages == {}, "it is of a state that is void"
    checkpointed(store, loss(2.2), loss(2.1))
    rounds = [each.round for each in average(store, back + 1).mean_of]
    assert rounds == [1, back, back + 1]
