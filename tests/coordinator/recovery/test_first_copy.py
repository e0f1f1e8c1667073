"""A new follower copies a run from others, and continues it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from barnraise.contract.certificates import certify
from barnraise.contract.log_entries import parse_entry, vote_on
from barnraise.contract.records import Head
from barnraise.core.errors import NewerVersion, Unreachable
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from coordinator.recovery.first_copy import first_copy
from coordinator.run_folder import BLOBS
from coordinator.store.events import Journaled
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm, fold_round, head_of, opened_store, show


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run with a checkpoint of round 1, and a round after it."""
    with opened_store(tmp_path / "run") as made:
        fold_round(made, parts.BEN)
        made.write_checkpoint(parts.NOW)
        show(made)
        fold_round(made, parts.ADA, parts.BEN)
        yield made


def copied(store: RunStore, head: Head, folder: Path, **more: bytes) -> list[Journaled]:
    files = [path for path in store.blobs.folder.rglob("*") if path.is_file() and len(path.name) == 64]
    swarm = FakeSwarm(BlobStore(folder / BLOBS))
    swarm.held = {BlobHash(path.name): path.read_bytes() for path in files}
    swarm.held |= {BlobHash(name): blob for name, blob in more.items()}
    signed = store.snapshot.signed_charter
    return asyncio.run(first_copy(signed, head, swarm.as_swarm, swarm.blobs, parts.NOW))


def test_the_copy_continues_to_the_same_state(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "follower"
    events = copied(store, head_of(store), folder)
    with closing(Journal(folder / "journal.sqlite")) as journal:
        journal.extend([event.row() for event in events])
        with caplog.at_level(logging.WARNING):
            copy = RunStore.restore(parts.ADA, store.snapshot.signed_charter, folder, folder, journal)
        assert copy.snapshot.tip == store.snapshot.tip
        assert copy.snapshot.position == store.snapshot.position
        assert copy.snapshot.opens == store.snapshot.opens
    assert caplog.messages == [], "nothing is missing in a first copy"


def test_a_log_of_a_newer_version_says_what_to_install(store: RunStore, tmp_path: Path) -> None:
    head = head_of(store)
    newest = json.loads(store.blobs.get(BlobHash(head.entry)))
    newest |= {"kind": "ban", "needs": "9.0", "height": head.height, "round": head.round}
    newest |= {"previous": head.entry, "certificate": head.certificate and head.certificate.model_dump()}
    payload = json.dumps(newest).encode()
    entry = parse_entry(payload)
    certificate = certify([parts.AUTHORITY], vote_on(entry, 0))
    later = head.model_copy(
        update={"entry": entry.name, "certificate": certificate, "height": head.height + 1}
    )
    with pytest.raises(NewerVersion) as error:
        copied(store, later, tmp_path / "follower", **{entry.name: payload})
    assert error.value.release == "9.0"


def test_what_nobody_serves_is_said(store: RunStore, tmp_path: Path) -> None:
    head = head_of(store).model_copy(update={"checkpoint": parts.HASH_B})
    with pytest.raises(Unreachable):
        copied(store, head, tmp_path / "follower")
