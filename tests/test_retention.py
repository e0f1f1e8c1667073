"""What a coordinator may forget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.ids import blob_hash
from barnraise.manifest import FileEntry, Manifest
from coordinator.retention import orphaned, outdated
from tests.parts import HASH_A, RUN


def name(content: str) -> str:
    return blob_hash(content.encode())


def manifest(round: int, contents: list[str]) -> Manifest:
    files = tuple(FileEntry(name=f"f{i}", hash=name(c), size=1) for i, c in enumerate(contents))
    return Manifest(run=RUN, round=round, state=HASH_A, previous=HASH_A, spec=HASH_A, tokens=0, files=files)


@pytest.mark.parametrize(
    ("rounds", "keep", "gone"),
    [([], 1, []), ([0], 1, []), ([0, 5, 10], 3, []), ([10, 0, 5], 2, [0]), ([0, 5, 10], 1, [0, 5])],
)
def test_the_newest_stay(rounds: list[int], keep: int, gone: list[int]) -> None:
    assert outdated({r: manifest(r, ["a"]) for r in rounds}, keep) == gone


contents = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4)


@given(st.lists(contents, max_size=4), st.lists(contents, max_size=4))
def test_a_file_goes_only_when_nobody_kept_has_it(removed: list[list[str]], kept: list[list[str]]) -> None:
    gone = orphaned([manifest(0, c) for c in removed], [manifest(1, c) for c in kept])
    needed = {name(c) for cs in kept for c in cs}
    assert gone == {name(c) for cs in removed for c in cs} - needed
