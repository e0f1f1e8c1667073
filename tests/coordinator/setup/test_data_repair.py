"""Damaged shards and held-out text: built from the dataset again, or fetched from volunteers."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.charter import Charter
from barnraise.contract.shards import DataIndex
from barnraise.contract.spec import DataSpec, ModelSpec, Raw, RunSpec
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from coordinator.reasons import recovery as reasons
from coordinator.rounds.missing_files import fetch_missing_shards
from coordinator.run_folder import BLOBS, HELD_OUT
from coordinator.setup import data_repair
from coordinator.setup.data_repair import PreparedData
from coordinator.setup.prepare import prepare
from coordinator.timing import TIMING
from tests.support.coordinators import FakeSwarm
from tests.support.parts import AUTHORITY
from tests.support.rehearsals import rehearsed
from tests.support.tiny import make_tiny_model


@dataclass
class Prepared:
    """A run's data on disk, and the dataset that it is from."""

    folder: Path
    base: Path
    spec: RunSpec
    charter: Charter

    @property
    def data(self) -> PreparedData:
        return PreparedData(self.charter, self.folder)

    @property
    def blobs(self) -> BlobStore:
        return BlobStore(self.folder / BLOBS)

    @property
    def shards(self) -> list[BlobHash]:
        return [ref.blob for ref in DataIndex.from_bytes(self.blobs.get(self.index)).shards]

    @property
    def index(self) -> BlobHash:
        return self.charter.data_index_hash

    def files(self) -> dict[str, bytes]:
        """All prepared data."""
        folders = (self.folder / BLOBS, self.folder / HELD_OUT)
        found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Prepared:
    source = tmp_path / "data.jsonl"
    rows = [json.dumps({"text": f"text {number} " * 9}) for number in range(400)]
    source.write_text("\n".join(rows), encoding="utf-8")
    data = DataSpec(source=str(source), sequence_length=64, held_out=0.1)
    fields = {"name": "barn", "model": ModelSpec(source=str(model)), "data": data, "codec": Raw()}
    spec = RunSpec.model_validate(fields)
    made = prepare(spec, AUTHORITY.public, tmp_path / "run", tmp_path / "cache", lambda line: None, rehearsed)
    return Prepared(tmp_path / "run", model, spec, made.charter)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[reasons.DataReason]:
    """What is logged."""
    found: list[reasons.DataReason] = []
    monkeypatch.setattr(data_repair, "_report", found.append)
    return found


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_intact_data_is_only_read(run: Prepared, reported: list[reasons.DataReason]) -> None:
    before = run.files()
    assert run.data.check().complete
    run.data.repair(run.spec, run.base)
    assert run.files() == before
    assert reported == []


@pytest.mark.parametrize("lost", ["shard", "index", "held-out shard", "held-out index", "everything"])
def test_the_dataset_gives_what_is_damaged(
    run: Prepared, reported: list[reasons.DataReason], lost: str
) -> None:
    before = run.files()
    held_out = [path for path in (run.folder / HELD_OUT).rglob("*") if path.is_file()]
    match lost:
        case "shard":
            damage(run.blobs.path(run.shards[0]))
        case "index":
            run.blobs.path(run.index).write_bytes(b"{")
        case "held-out shard":
            damage(next(path for path in held_out if path.name != HELD_OUT_INDEX))
        case "held-out index":
            (run.folder / HELD_OUT / HELD_OUT_INDEX).write_bytes(b"")
        case "everything":
            for path in before:
                (run.folder / path).unlink()
    run.data.repair(run.spec, run.base)
    assert run.files() == before
    assert isinstance(reported[0], reasons.DataDamaged)
    assert reported[1:] == [reasons.DataRebuilt()]


def test_another_dataset_gives_nothing(run: Prepared, reported: list[reasons.DataReason]) -> None:
    shard = run.shards[0]
    run.blobs.path(shard).unlink()
    assert run.spec.data.source is not None
    source = Path(run.spec.data.source)
    source.write_text('{"text": "other"}\n' * 50, encoding="utf-8")
    run.data.repair(run.spec, run.base)
    assert reported[1:] == [reasons.DataChanged()]
    source.unlink()
    run.data.repair(run.spec, run.base)
    assert isinstance(reported[-1], reasons.DataNotRebuilt)
    assert list(run.data.absent()) == [shard]


def test_volunteers_give_what_the_dataset_does_not(run: Prepared, caplog: pytest.LogCaptureFixture) -> None:
    held = {name: run.blobs.get(name) for name in (run.index, *run.shards)}
    for name in held:
        run.blobs.path(name).unlink()
    swarm = FakeSwarm(run.blobs, held)
    at_once = replace(TIMING, retry=0)
    with caplog.at_level(logging.WARNING, logger="coordinator"):
        asyncio.run(fetch_missing_shards(run.data.absent, swarm.as_swarm, at_once))
        assert {name: run.blobs.get(name) for name in held} == held
        assert len(caplog.records) == 2
        asyncio.run(fetch_missing_shards(run.data.absent, swarm.as_swarm, at_once))
    assert len(caplog.records) == 2, "nothing is missing, and nothing is said"
