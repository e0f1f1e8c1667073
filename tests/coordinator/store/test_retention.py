"""What the run store may forget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.manifest import FileEntry, Manifest
from barnraise.core.ids import blob_hash
from barnraise.core.signed import Signed, sign
from coordinator.store.retention import blobs_of_dropped, blobs_of_replaced, orphaned, outdated, replay_start
from tests.support.parts import AUTHORITY, HASH_A, RUN


def name(content: str) -> str:
    return blob_hash(content.encode())


def manifest(round: int, contents: list[str]) -> Signed[Manifest]:
    files = tuple(FileEntry(name=f"f{i}", hash=name(c), size=1) for i, c in enumerate(contents))
    return sign(
        AUTHORITY,
        Manifest(
            form="trained", run=RUN, round=round, state=HASH_A, previous=HASH_A,
            epoch=0, height=0, closers=(), charter=HASH_A, tokens=0,
            held_out=None, files=files,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rounds", "keep", "needed", "dropped"),
    [
        ([], 1, [], []),
        ([0], 1, [], []),
        ([0, 5, 10], 3, [], []),
        ([10, 0, 5], 2, [], [0]),
        ([0, 5, 10], 1, [], [0, 5]),
        ([0, 5, 10], 1, [0], [5]),
        ([0, 5, 10], 1, [10], [0, 5]),
    ],
)
def test_the_newest_and_the_needed_stay(
    rounds: list[int], keep: int, needed: list[int], dropped: list[int]
) -> None:
    assert outdated(rounds, keep, needed) == dropped


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 100), max_size=30),
    st.sets(st.integers(0, 30), min_size=1, max_size=6),
    st.integers(0, 500),
    st.integers(0, 30),
)
def test_a_replay_starts_as_early_as_the_limit_allows(
    sizes: dict[int, int], checkpoints: set[int], limit: int, latest: int
) -> None:
    """latest: a rollback may need the contributions from this round on."""

    def weight(start: int) -> int:
        return sum(size for round, size in sizes.items() if round >= start)

    start = replay_start(0, sizes, checkpoints, limit, latest)
    assert start == 0 or start in checkpoints
    earlier = [round for round in {0, *checkpoints} if round < start]
    assert all(weight(round) > limit for round in earlier), "more could have been kept"
    usable = {round for round in checkpoints if round <= latest}
    assert start <= latest
    assert weight(start) <= limit or start == max({0, *usable}), "a restart needs what follows the newest"


contents = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4)


@given(st.lists(contents, max_size=4), st.lists(contents, max_size=4))
def test_a_file_is_removed_only_when_no_kept_checkpoint_lists_it(
    removed: list[list[str]], kept: list[list[str]]
) -> None:
    dropped = orphaned([manifest(0, c) for c in removed], [manifest(1, c) for c in kept])
    needed = {name(c) for cs in kept for c in cs}
    assert dropped == {name(c) for cs in removed for c in cs} - needed


def test_of_a_dropped_checkpoint_the_manifest_is_removed_first() -> None:
    dropped, kept = manifest(0, ["a", "b"]), manifest(1, ["b"])
    assert blobs_of_dropped([dropped], [kept]) == [blob_hash(dropped.wire), name("a")]


def test_of_a_replaced_manifest_the_files_are_removed_first() -> None:
    before, after = manifest(0, ["a", "b"]), manifest(0, ["b", "c"])
    assert blobs_of_replaced(before, [after]) == [name("a"), blob_hash(before.wire)]
    assert blobs_of_replaced(before, [before]) == [], "the same manifest again replaces nothing"
