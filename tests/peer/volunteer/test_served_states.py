"""A volunteer serves its saved states by their hashes, as blobs that their index names."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.state import TrainState
from barnraise.contract.state_index import StateTensor, WantedState, assemble, read_index
from barnraise.core.ids import BlobHash, StateHash
from barnraise.models.checkpoint_files import join_groups
from barnraise.models.tensor_files import write_tensors
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.stored_state import remove_state
from peer.volunteer.served_states import ServedStates, StateFile
from tests.support import parts
from tests.support.parts import HASH_A, tensors


def state(round: int) -> TrainState:
    return TrainState(tensors(round), {"momentum": tensors(100 + round)}, round)


def saved(folder: Path, round: int) -> dict[StateHash, StateFile]:
    found, path = state(round), folder / f"state-{round}.safetensors"
    write_tensors(path, join_groups({"params": found.params, **found.buffers}))
    return {found.hash(): StateFile(round, path)}


def served(blobs: BlobStore, round: int) -> TrainState:
    """The state as somebody who knows its hash receives it."""
    expected = state(round)
    wanted = WantedState(expected.hash(), round, expected.layout.digest(), ("momentum",))

    def read(name: BlobHash) -> bytes:
        part = blobs.lent(name)
        assert part is not None
        return part.path.read_bytes()[part.offset : part.offset + part.size]

    return assemble(wanted, read_index(blobs.get(wanted.index), wanted), read)


def test_each_saved_state_is_served_by_its_hash(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    states = ServedStates(blobs)
    states.serve(saved(tmp_path, 3) | saved(tmp_path, 4))
    assert served(blobs, 3).hash() == state(3).hash()
    assert served(blobs, 4).hash() == state(4).hash()
    assert states.names == {BlobHash(state(3).hash()), BlobHash(state(4).hash())}


def test_a_state_that_is_not_kept_is_not_served(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    states = ServedStates(blobs)
    states.serve(saved(tmp_path, 3))
    old = [each.blob for each in _index(blobs, 3)]
    states.serve(saved(tmp_path, 4))
    assert BlobHash(state(3).hash()) not in blobs
    assert all(blobs.lent(name) is None for name in old)
    assert served(blobs, 4).hash() == state(4).hash()


def test_removing_what_was_fetched_of_a_served_state_leaves_its_index(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    ServedStates(blobs).serve(saved(tmp_path, 3))
    expected = state(3)
    wanted = WantedState(expected.hash(), 3, expected.layout.digest(), ("momentum",))
    for data in parts.state_blobs(expected).values():
        blobs.put(data)
    remove_state(wanted, blobs)
    assert served(blobs, 3).hash() == expected.hash()
    assert [path.name for path in blobs.folder.glob("??/*")] == [wanted.index]


def test_a_damaged_state_is_not_served(tmp_path: Path) -> None:
    blobs, files = BlobStore(tmp_path / "blobs"), saved(tmp_path, 3)
    (file,), states = files.values(), ServedStates(blobs)
    for damage in (file.path.read_bytes()[:-1] + b"x", file.path.read_bytes()[:20], b"", b"\xff" * 30):
        file.path.write_bytes(damage)
        states = ServedStates(blobs)
        states.serve(files)
        assert not states.names
    file.path.unlink()
    states.serve(files)
    assert not states.names


def test_a_file_with_another_state_is_not_served(tmp_path: Path) -> None:
    (file,) = saved(tmp_path, 3).values()
    states = ServedStates(BlobStore(tmp_path / "blobs"))
    states.serve({StateHash(HASH_A): file})
    assert not states.names


def _index(blobs: BlobStore, round: int) -> tuple[StateTensor, ...]:
    expected = state(round)
    wanted = WantedState(expected.hash(), round, expected.layout.digest(), ("momentum",))
    return read_index(blobs.get(wanted.index), wanted)
