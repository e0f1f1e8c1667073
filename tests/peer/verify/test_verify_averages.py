"""`peer verify` on a mean of states: it is computed again from the states that it names."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from barnraise.contract.archive import INDEX, folder_of, parse_index
from barnraise.contract.manifest import MANIFEST, AveragedState, Manifest, open_manifest
from barnraise.contract.run_keys import Signers
from barnraise.contract.state import TrainState
from barnraise.core.identity import Identity
from barnraise.core.ids import blob_hash
from barnraise.core.signed import sign
from barnraise.fold.replay import Cause
from barnraise.runtime.blob_store import file_hash
from coordinator.store.run_store import RunStore
from peer.download.download import DownloadOptions, download
from peer.messages.verify import difference_message, proof_message
from peer.verify.proof import FromCheckpoint
from tests.support import parts
from tests.support.averaged_runs import average_newest, mean_state
from tests.support.coordinators import archive, fold_round, opened_store, show
from tests.support.gateways import served
from tests.support.golden_log import genesis
from tests.support.parts import ADA, AUTHORITY, BEN, STRANGER
from tests.support.scripted import RecordingListener
from tests.support.verifying import ADAPTER, SPEC, differs, flip, options, proved

PLACE = folder_of("trained", 3, averaged=True)


def trained(folder: Path) -> Iterator[tuple[RunStore, list[TrainState]]]:
    states: list[TrainState] = []
    with opened_store(folder, SPEC, genesis(SPEC)) as store:
        for round in range(3):
            fold_round(store, ADA, BEN)
            store.write_checkpoint(parts.NOW)
            show(store, 3.0 - round / 10)
            states.append(store.state)
        average_newest(store, 2.0)
        yield store, states


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[TrainState]]]:
    """The archive of a run whose `main` is the mean of its three states; tests do not change it."""
    for store, states in trained(tmp_path_factory.mktemp("run") / "coordinator"):
        yield archive(store), states


@pytest.fixture
def copy(run: tuple[Path, list[TrainState]], tmp_path: Path) -> Path:
    """A copy of it, for tests to change."""
    return Path(shutil.copytree(run[0], tmp_path / "copy"))


def manifest_in(folder: Path) -> Manifest:
    wire = (folder / MANIFEST).read_bytes()
    return open_manifest(wire, run=parts.RUN, signers=Signers(AUTHORITY.public)).value


def signed_again(copy: Path, place: str = PLACE, by: Identity = AUTHORITY, **changed: object) -> None:
    """The manifest of a checkpoint with other fields, which the archive's index names."""
    folder = copy / place
    manifest = manifest_in(folder)
    files = tuple(
        entry.model_copy(
            update={
                "hash": file_hash(folder / entry.name),
                "size": (folder / entry.name).stat().st_size,
            }
        )
        for entry in manifest.files
    )
    wire = sign(by, manifest.model_copy(update={"files": files, **changed})).wire
    before = blob_hash((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(wire)
    index = (copy / INDEX).read_text(encoding="utf-8")
    assert index.count(before) == 1
    (copy / INDEX).write_text(index.replace(before, blob_hash(wire)), encoding="utf-8")


def with_weights(copy: Path, place: str = PLACE) -> TrainState:
    """Other weights in the files of a mean."""
    file = copy / place / ADAPTER
    file.chmod(0o644)
    tensors = {name: array + 1 for name, array in load_file(file).items()}
    file.unlink()
    save_file(tensors, file, metadata={"format": "pt"})
    return TrainState(tensors, {}, 3)


def named(states: list[TrainState], *rounds: int) -> tuple[AveragedState, ...]:
    return tuple(AveragedState(round=round, state=states[round - 1].hash()) for round in rounds)


def test_a_mean_is_proved_from_the_first_state(run: tuple[Path, list[TrainState]]) -> None:
    folder, states = run
    found = proved(options(folder))
    assert (found.round, found.rounds, found.mean_of, found.signed) == (3, 3, (1, 2, 3), ())
    assert found.state == mean_state(*states).hash() == manifest_in(folder / PLACE).state
    assert "proved: the mean of the states of rounds 1, 2 and 3 of barn" in proof_message(found)


def test_a_mean_is_proved_and_fetched_from_a_gateway(
    run: tuple[Path, list[TrainState]], tmp_path: Path
) -> None:
    folder, states = run
    with served(folder) as url:
        assert proved(options(url)).state == mean_state(*states).hash()
        wanted = DownloadOptions(f"{url}/?key={AUTHORITY.public}", revision="main", output=tmp_path / "own")
        got = asyncio.run(download(wanted, tmp_path / "cache", RecordingListener(), time.monotonic))
    assert manifest_in(got.folder) == manifest_in(folder / PLACE)


@pytest.mark.parametrize("revision", ["average-3", "average-000003"])
def test_a_mean_has_a_name(run: tuple[Path, list[TrainState]], revision: str) -> None:
    assert proved(options(run[0], revision=revision)).mean_of == (1, 2, 3)
    assert proved(options(run[0], revision="3")).mean_of == ()


def test_earlier_states_are_taken_from_their_checkpoints(run: tuple[Path, list[TrainState]]) -> None:
    found = proved(options(run[0], start=2))
    assert (found.start, found.rounds, found.mean_of) == (FromCheckpoint(2), 1, (1, 2, 3))
    assert found.signed == (1,), "that of round 2 is what the replay starts from"
    assert "its signature on the states of round 1 as well" in proof_message(found)


def test_a_downloaded_mean_is_proved(run: tuple[Path, list[TrainState]], tmp_path: Path) -> None:
    lone = Path(shutil.copytree(run[0] / PLACE, tmp_path / "lone"))
    assert proved(options(lone, log=str(run[0]))).mean_of == (1, 2, 3)


def test_damaged_files_are_blamed_on_the_source(copy: Path) -> None:
    (copy / PLACE / ADAPTER).chmod(0o644)
    flip(copy / PLACE / ADAPTER)
    found = differs(options(copy))
    assert (found.where, found.cause) == (f"{PLACE}/{ADAPTER}", Cause.SOURCE)


def test_files_that_do_not_hold_the_mean_are_blamed_on_the_coordinator(copy: Path) -> None:
    with_weights(copy)
    signed_again(copy)
    found = differs(options(copy))
    assert (found.what, found.where, found.cause) == ("file", PLACE, Cause.COORDINATOR)


def test_another_mean_than_that_of_its_states_is_blamed_on_the_coordinator(
    copy: Path, run: tuple[Path, list[TrainState]]
) -> None:
    forged = with_weights(copy)
    signed_again(copy, state=forged.hash())
    found = differs(options(copy))
    assert (found.what, found.cause) == ("state", Cause.COORDINATOR)
    assert found.where == "the mean of the states of rounds 1, 2 and 3"
    assert forged.hash() in found.expected
    assert mean_state(*run[1]).hash() in found.found
    assert "the coordinator is at fault" in difference_message(found)


@pytest.mark.parametrize("rounds", [(2, 3), (1, 3)])
def test_a_mean_of_other_states_than_it_names_is_found(
    copy: Path, run: tuple[Path, list[TrainState]], rounds: tuple[int, ...]
) -> None:
    signed_again(copy, mean_of=named(run[1], *rounds))
    found = differs(options(copy))
    assert (found.what, found.cause) == ("state", Cause.COORDINATOR)
    assert found.where.startswith("the mean of the states of rounds")


@pytest.mark.parametrize("start", [None, 2])
def test_a_named_state_that_is_not_the_log_s_is_found(
    copy: Path, run: tuple[Path, list[TrainState]], start: int | None
) -> None:
    signed_again(copy, mean_of=(AveragedState(round=1, state="e" * 64), *named(run[1], 2, 3)))
    found = differs(options(copy, start=start))
    assert (found.what, found.cause) == ("state", Cause.COORDINATOR)
    assert "e" * 64 in found.expected
    assert run[1][0].hash() in found.found


def test_a_state_before_the_replay_that_is_missing_is_named(copy: Path) -> None:
    index = parse_index((copy / INDEX).read_bytes())
    repos = tuple(
        repo.model_copy(update={"revisions": tuple(r for r in repo.revisions if r.round != 1)})
        for repo in index.repos
    )
    (copy / INDEX).write_text(index.model_copy(update={"repos": repos}).model_dump_json())
    found = differs(options(copy, start=2))
    assert (found.where, found.cause) == (f"{folder_of('trained', 1)}/{MANIFEST}", Cause.ABSENT)
    assert proved(options(copy)).mean_of == (1, 2, 3), "a replay has it"


def test_a_mean_of_a_stranger_is_blamed_on_the_source(copy: Path) -> None:
    signed_again(copy, by=STRANGER)
    found = differs(options(copy))
    assert (found.what, found.where, found.cause) == ("manifest", f"{PLACE}/{MANIFEST}", Cause.SOURCE)


def test_a_mean_under_the_name_of_a_state_is_refused(copy: Path) -> None:
    """Nobody begins with it, or takes it for the state of its round."""
    shutil.rmtree(copy / folder_of("trained", 3))
    (copy / PLACE).rename(copy / folder_of("trained", 3))
    index = parse_index((copy / INDEX).read_bytes())
    repo = index.repo("trained")
    assert repo is not None
    *others, state, mean = repo.revisions
    moved = state.model_copy(update={"manifest": mean.manifest, "names": (*state.names, "main")})
    repos = (repo.model_copy(update={"revisions": (*others, moved)}),)
    (copy / INDEX).write_text(index.model_copy(update={"repos": repos}).model_dump_json())
    found = differs(options(copy))
    assert (found.what, found.cause) == ("manifest", Cause.SOURCE)
    assert "average-3" in found.found
