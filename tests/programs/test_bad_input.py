"""Mistakes of users and faults of machines: each is an error with a problem and a fix."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barnraise.contract.invite import parse_invite
from barnraise.contract.shards import pack_shard, parse_shard
from barnraise.contract.spec_file import parse_spec, read_spec
from barnraise.core.errors import (
    DatasetError,
    DiskFull,
    HashMismatch,
    InviteError,
    MachineError,
    MalformedBlob,
    SpecError,
    TooLargeForMemory,
    Unreachable,
    WrongRunKey,
)
from barnraise.core.ids import Millis, blob_hash
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import write_atomic
from coordinator.reasons.setup import CheckReport
from coordinator.setup.check import check as check_run
from coordinator.store.run_store import RunStore
from peer.download.progress import DownloadLines
from peer.messages.archive import archive_message
from peer.messages.volunteer import volunteer_message
from peer.training.memory_fit import FreeMemory
from peer.volunteer import join as joining
from peer.volunteer import machine
from peer.volunteer.display import StatusLines
from peer.volunteer.join_options import JoinDisplays, JoinSettings
from peer.volunteer.samples import read_blob
from tests.support import parts
from tests.support.coordinators import (
    FakeSwarm,
    opened_store,
    raises_with_fix,
    served,
    session_of,
    with_key,
)
from tests.support.devices import CPU
from tests.support.tiny import make_tiny_model, tiny_samples

SPEC = """\
name = "barn"
[model]
source = "model"
[data]
source = "data.jsonl"
sequence_length = 64
"""
CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "four"}]}
SETTINGS = JoinSettings(
    name="ada",
    credit=False,
    device="cpu",
    threads=1,
    micro_batch=1,
    listen=("/ip4/127.0.0.1/tcp/0",),
    max_upload=None,
    max_download=None,
    base=None,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        yield made


# Command line and run.toml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = barn", ["not valid TOML", "line 1"]),
        ('name = "barn"\n[data]\nsorce = "x"', ["unknown key `data.sorce`", "did you mean `source`?"]),
        ('name = "barn"\n[data]\nsource = "x"\nheld_out = 2', ["data.held_out", "found 2"]),
    ],
)
def test_an_invalid_spec(text: str, words: list[str]) -> None:
    with raises_with_fix(SpecError, 2, "run.toml", *words):
        parse_spec(text)


def test_an_invite_that_was_cut_off() -> None:
    with raises_with_fix(InviteError, 2, "was the end cut off?", "Copy the whole line"):
        parse_invite(f"barnraise://host:1/barn?key={'a' * 60}")


# The dataset


def check(folder: Path, *rows: object, template: Callable[[str], str] = str) -> CheckReport:
    """Run `coordinator check` on `rows`, with the tiny model's chat template changed."""
    model = make_tiny_model(folder / "model") / "chat_template.jinja"
    model.write_text(template(model.read_text(encoding="utf-8")), encoding="utf-8")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data.jsonl").write_text(lines, encoding="utf-8")
    (folder / "run.toml").write_text(SPEC, encoding="utf-8")
    return check_run(read_spec(folder / "run.toml"), folder / "cache", 1, 10.0)


def test_the_dataset_of_the_next_tests_is_valid(tmp_path: Path) -> None:
    assert check(tmp_path, *[CHAT] * 4).spec.name == "barn"


def test_a_dataset_without_records(tmp_path: Path) -> None:
    with raises_with_fix(DatasetError, 2, "data.jsonl", "is empty"):
        check(tmp_path)


def test_a_dataset_that_never_trains_the_end_of_an_answer(tmp_path: Path) -> None:
    with raises_with_fix(DatasetError, 2, "without an end-of-sequence token"):
        check(tmp_path, *[CHAT] * 4, template=lambda text: text.replace("<|im_end|>", ""))


def test_a_record_of_unknown_shape(tmp_path: Path) -> None:
    with raises_with_fix(DatasetError, 2, "data.jsonl:2"):
        check(tmp_path, CHAT, {"question": "2+2?"})


# The coordinator


DISPLAYS = JoinDisplays(StatusLines(volunteer_message), DownloadLines(archive_message), str, print, str)


def test_a_coordinator_with_another_key(store: RunStore, tmp_path: Path) -> None:
    async def go() -> None:
        async with served(session_of(store, now=now())) as true:
            wrong = with_key(true, parts.STRANGER.public)
            await joining.join(wrong, tmp_path / "ada", tmp_path, SETTINGS, DISPLAYS)

    keys = (parts.AUTHORITY.public[:8], parts.STRANGER.public[:8])
    with raises_with_fix(WrongRunKey, 5, *keys, "ask for a new invite"):
        asyncio.run(go())


def test_a_base_model_of_another_run(store: RunStore, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")

    async def go() -> None:
        async with served(session_of(store, now=now())) as invite:
            settings = SETTINGS.model_copy(update={"base": model})
            await joining.join(invite, tmp_path / "ada", tmp_path, settings, DISPLAYS)

    with raises_with_fix(HashMismatch, 5, "fingerprint", str(model)):
        asyncio.run(go())


# This machine


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    write_atomic(kept, b"older")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    with raises_with_fix(DiskFull, 3, "no space left", str(tmp_path)):
        write_atomic(kept, b"newer")
    with raises_with_fix(DiskFull, 3, "Free some space"):
        BlobStore(tmp_path / "blobs").put(b"blob")
    assert kept.read_bytes() == b"older"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept], "a partial file was left"


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with raises_with_fix(MachineError, 3, "cannot write", "permissions"):
        write_atomic(tmp_path / "file" / "inside", b"")


def test_a_model_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_tiny_model(tmp_path / "model")
    charter = parts.charter(parts.run_spec(), parts.state())
    monkeypatch.setattr(machine, "free_memory", lambda _: FreeMemory(10**12, 10**12, shared=True))
    machine._fitted(charter, base, CPU, SETTINGS)
    monkeypatch.setattr(machine, "free_memory", lambda _: FreeMemory(10**9, 10**9, shared=True))
    with raises_with_fix(TooLargeForMemory, 3, "1.0 GB are free here", "a machine with more memory"):
        machine._fitted(charter, base, CPU, SETTINGS)


# Shards


def test_a_shard_that_is_damaged_on_disk_is_fetched_again(tmp_path: Path) -> None:
    data = pack_shard(tiny_samples(3))
    blobs = BlobStore(tmp_path)
    swarm = FakeSwarm(blobs, held={blob_hash(data): data})
    name = blobs.put(data)
    blobs.path(name).write_bytes(data[:-1] + b"\7")
    found = asyncio.run(read_blob(swarm.as_swarm, blobs, name, len(data), parts.AUTHORITY.public))
    assert found == data
    assert swarm.fetched == [name]
    assert len(parse_shard(found, 24, None)) == 3


def test_a_shard_that_no_peer_has_intact(tmp_path: Path) -> None:
    data = pack_shard(tiny_samples(3))
    swarm = FakeSwarm(BlobStore(tmp_path), held={blob_hash(data): data[:-1] + b"\7"})
    with raises_with_fix(Unreachable, 4, "got bytes that hash to"):
        asyncio.run(
            read_blob(swarm.as_swarm, swarm.blobs, blob_hash(data), len(data), parts.AUTHORITY.public)
        )


@pytest.mark.parametrize("data", [b"", b"\xff" * 200, pack_shard(tiny_samples(1, length=30))])
def test_malformed_shards(data: bytes) -> None:
    with raises_with_fix(MalformedBlob, 5, "a data shard is malformed", "report the sender"):
        parse_shard(data, 24, None)


def now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)
