"""Other forms of a checkpoint, the base model and the data: written whole, or not at all."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GgufConfig

from barnraise.contract.archive import INDEX, folder_of, parse_index
from barnraise.contract.manifest import MANIFEST, Form, HeldOut, Manifest, open_manifest
from barnraise.contract.spec import CheckpointSpec, DataSpec, Full, Lora, ModelSpec, Raw, RunSpec, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.core.errors import DiskFull
from barnraise.core.ids import blob_hash
from barnraise.models import merge as merge_module
from barnraise.models.base_model import resolve
from barnraise.models.causal_lm import quiet
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.child_failures import ChildDied, ChildFailure
from barnraise.runtime.child_process import ChildDone
from barnraise.runtime.files import UNFINISHED
from coordinator.checkpoints import export_program, exports
from coordinator.checkpoints.card import CARD, CURVE
from coordinator.checkpoints.card_data import card_files
from coordinator.checkpoints.publisher import publisher_of
from coordinator.messages.setup import not_redistributable
from coordinator.reasons.setup import BaseDelivery, BaseNotServed, NotRedistributable
from coordinator.run_folder import CHAT_TEMPLATE
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.averaged_runs import mean_state
from tests.support.coordinators import archive, fold_round, reopened, until_published
from tests.support.parts import ADA
from tests.support.scripted_evaluation import loss, publisher
from tests.support.tiny import TEMPLATE, make_tiny_model, packed, tiny_samples

OPEN = "apache-2.0"
SAMPLES = tiny_samples(5)


def spec(target: Lora | Full | None = None, licence: str = OPEN, **checkpoint: object) -> RunSpec:
    return RunSpec(
        name=parts.RUN,
        model=ModelSpec(source="owner/base", licence=licence),
        data=DataSpec(source="chats.jsonl", licence=licence),
        train=TrainSpec(target=target or Lora(rank=4, alpha=8.0)),
        codec=Raw(),
        checkpoint=CheckpointSpec.model_validate({"held_out_tokens": 0, **checkpoint}),
    )


@contextmanager
def run_of(folder: Path, wanted: RunSpec) -> Iterator[RunStore]:
    """A run of a tiny model after one round, with unpublished checkpoints."""
    base = make_tiny_model(folder / "base")
    (folder / CHAT_TEMPLATE).write_text(TEMPLATE, encoding="utf-8")
    blobs = BlobStore(folder / "blobs")
    index = blobs.put(packed(blobs, SAMPLES[:3], SAMPLES[3:]).to_bytes())
    genesis = initial_state(base, wanted.train.target, wanted.seed)
    fingerprint = resolve(str(base), None, folder / "cache").fingerprint
    charter = parts.charter(wanted, genesis).model_copy(
        update={"data_index": index, "model_files": fingerprint}
    )
    journal = Journal(folder / "journal.sqlite")
    try:
        store = RunStore.begin(parts.AUTHORITY, charter, genesis, base, folder, journal, parts.NOW)
        fold_round(store, ADA)
        store.write_checkpoint(parts.NOW)
        yield store
    finally:
        journal.close()


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the export program in this process, which saves half a minute of imports."""

    async def run(module: str, *arguments: object) -> ChildDone | ChildFailure:
        assert module == export_program.__name__
        monkeypatch.setattr("sys.argv", [module, *map(str, arguments)])
        monkeypatch.setattr(os, "nice", lambda by: 0)
        status = export_program.main()
        return ChildDied(module, status, "") if status else ChildDone("")

    monkeypatch.setattr(exports, "run_child", run)


def publish_checkpoints(store: RunStore) -> None:
    asyncio.run(until_published(publisher_of(store, lambda: parts.NOW)))


def place(store: RunStore, form: Form, round: int = 1) -> Path:
    return archive(store) / folder_of(form, round)


def manifest(store: RunStore, form: Form, round: int = 1) -> Manifest:
    """The manifest of a folder of the archive, after a check that every file is what was signed."""
    folder = place(store, form, round)
    wire = (folder / MANIFEST).read_bytes()
    found = open_manifest(wire, run=parts.RUN, signers=parts.SIGNERS).value
    assert (found.form, found.round) == (form, round)
    for entry in found.files:
        data = (folder / entry.name).read_bytes()
        assert (blob_hash(data), len(data)) == (entry.hash, entry.size)
    return found


def served(store: RunStore) -> dict[Form, list[str]]:
    """The names of each form's newest revision, by the index."""
    index = parse_index((archive(store) / INDEX).read_bytes())
    return {repo.form: list(repo.revisions[-1].names) for repo in index.repos}


def nothing_unfinished(store: RunStore) -> bool:
    return not list(store.folder.rglob(f"{UNFINISHED}*")) and not list(archive(store).rglob(".*"))


def logits(model: object) -> np.ndarray:
    ids = torch.from_numpy(SAMPLES[0].input_ids).long()[None]
    with torch.inference_mode():
        return np.asarray(model.eval()(input_ids=ids).logits)  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["here", pytest.param("in programs", marks=pytest.mark.slow)])
def test_a_promoted_checkpoint_comes_in_every_form(
    tmp_path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    if how == "here":
        request.getfixturevalue("_here")
    with run_of(tmp_path, spec(merged=True, gguf="f16")) as store:
        publish_checkpoints(store)
        assert served(store) == {
            "trained": ["round-1", "main", "latest"],
            "merged": ["round-1", "main", "latest"],
            "gguf": ["round-1", "main", "latest"],
            "base": ["round-0", "main", "latest"],
            "data": ["round-0", "main", "latest"],
        }
        trained = manifest(store, "trained")
        for form in ("merged", "gguf"):
            found = manifest(store, form)
            assert (found.state, found.tokens, found.previous) == (
                trained.state, trained.tokens, trained.previous,
            )  # fmt: skip
        files = [entry.name for entry in manifest(store, "gguf").files]
        assert files == ["README.md", "barn-round-1-F16.gguf", "barn-round-1-lora.gguf"]
        with quiet():
            base = AutoModelForCausalLM.from_pretrained(place(store, "base", 0), dtype=torch.float32)
            adapted = PeftModel.from_pretrained(base, place(store, "trained"))
            expected = logits(adapted)
            merged = AutoModelForCausalLM.from_pretrained(place(store, "merged"), dtype=torch.float32)
            native = AutoModelForCausalLM.from_pretrained(
                place(store, "gguf"), gguf_file=files[1], quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )  # fmt: skip
        assert np.abs(logits(merged) - expected).max() < 0.05, "bf16 rounds, but no more"
        assert np.abs(logits(native) - expected).max() < 0.005, "f16 rounds less"
        assert {entry.name for entry in manifest(store, "base", 0).files} >= {
            "README.md", "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja",
        }  # fmt: skip
        assert [entry.name for entry in manifest(store, "data", 0).files] == [
            "README.md",
            "train-00000.jsonl",
        ]
        assert nothing_unfinished(store)


@pytest.mark.usefixtures("_here")
def test_the_data_are_the_samples_that_volunteers_train_on(tmp_path: Path) -> None:
    with run_of(tmp_path, spec()) as store:
        publish_checkpoints(store)
        text = (place(store, "data", 0) / "train-00000.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["input_ids"] for row in rows] == [sample.input_ids.tolist() for sample in SAMPLES]
    assert [row["labels"] for row in rows] == [sample.labels.tolist() for sample in SAMPLES]
    assert all(isinstance(row["text"], str) and row["text"] for row in rows)


def test_many_samples_go_into_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_program, "DATA_BYTES", 1)
    blobs = BlobStore(tmp_path / "blobs")
    index = blobs.put(packed(blobs, SAMPLES[:3], SAMPLES[3:]).to_bytes())
    (tmp_path / "out").mkdir()
    export_program.write_data(make_tiny_model(tmp_path / "base"), blobs, index, tmp_path / "out")
    files = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in (tmp_path / "out").iterdir()}
    assert files == {"train-00000.jsonl": 3, "train-00001.jsonl": 2}


@pytest.mark.usefixtures("_here")
def test_models_and_data_without_an_open_licence_are_not_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with run_of(tmp_path, spec(licence="llama2")) as store:
        publish_checkpoints(store)
        assert served(store).keys() == {"trained"}
        assert not place(store, "base", 0).exists()
        assert not place(store, "data", 0).exists()
        assert "download it from `owner/base`" in (place(store, "trained") / "README.md").read_text()
        refused = NotRedistributable("model.licence", "llama2")
        served_base = asyncio.run(publisher_of(store, lambda: parts.NOW).publish_base())
        assert served_base == BaseDelivery("owner/base", True, BaseNotServed(refused))
    reason = not_redistributable(NotRedistributable("data.licence", "llama2"))
    assert f"the data is not served: {reason}" in caplog.text


@pytest.mark.usefixtures("_here")
def test_a_whole_model_needs_no_merging(tmp_path: Path) -> None:
    with run_of(tmp_path, spec(Full(), gguf="q8_0", merged=True)) as store:
        publish_checkpoints(store)
        assert served(store).keys() == {"trained", "gguf", "base", "data"}
        assert [e.name for e in manifest(store, "gguf").files] == ["README.md", "barn-round-1-Q8_0.gguf"]


@pytest.mark.usefixtures("_here")
def test_the_forms_are_dropped_with_their_checkpoint(tmp_path: Path) -> None:
    with run_of(tmp_path, spec(merged=True, keep=1, log_gigabytes=0.0, rollback_rounds=0)) as store:
        publish_checkpoints(store)
        assert place(store, "merged").exists()
        fold_round(store, ADA)
        store.write_checkpoint(parts.NOW)
        publish_checkpoints(store)
        assert not place(store, "merged").exists()
        assert manifest(store, "merged", 2).tokens == 128
        assert served(store)["merged"] == ["round-2", "main", "latest"]


@pytest.mark.usefixtures("_here")
def test_a_form_that_fails_is_logged_and_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with run_of(tmp_path, spec(merged=True, gguf="f16")) as store:
        weights = store.base / "model.safetensors"
        weights.rename(tmp_path / "away")
        publish_checkpoints(store)
        assert served(store)["trained"] == ["round-1", "main", "latest"], "the run continues without"
        assert not served(store).keys() & {"merged", "gguf"}
        assert nothing_unfinished(store)
        assert "the form merged could not be written" in caplog.text
        (tmp_path / "away").rename(weights)
        with reopened(store) as again:
            publish_checkpoints(again)
            assert served(again).keys() >= {"merged", "gguf"}


@pytest.mark.usefixtures("_here")
def test_a_crash_before_the_export_is_recovered(tmp_path: Path) -> None:
    class Died(BaseException):
        pass

    async def killed(*_: object) -> ChildDone | ChildFailure:
        raise Died

    with run_of(tmp_path, spec(merged=True, licence="llama2")) as store:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(exports, "run_child", killed)
            with pytest.raises(Died):
                publish_checkpoints(store)
        assert served(store) == {"trained": ["round-1", "main", "latest"]}
        with reopened(store) as again:
            publish_checkpoints(again)
            assert manifest(again, "merged").tokens == 64
            before = place(again, "merged").stat().st_ino
            publish_checkpoints(again)
            assert place(again, "merged").stat().st_ino == before, "an existing form is kept"


@pytest.mark.usefixtures("_here")
def test_a_loss_that_becomes_known_updates_every_form(tmp_path: Path) -> None:
    with run_of(tmp_path, spec(merged=True, gguf="f16")) as store:
        publish_checkpoints(store)
        others: tuple[Form, ...] = ("merged", "gguf")
        before = {form: manifest(store, form) for form in others}
        weights = (place(store, "merged") / "model.safetensors").stat().st_ino
        held_out = HeldOut(loss=2.25, tokens=100)
        store.publish(1, held_out, card_files(store.snapshot, 1, held_out), parts.NOW)
        publish_checkpoints(store)
        for form, old in before.items():
            new = manifest(store, form)
            assert (old.held_out, new.held_out) == (None, held_out)
            assert {entry.name for entry in new.files} == {entry.name for entry in old.files} | {CURVE}
            assert "2.2500 nats a token" in (place(store, form) / CARD).read_text(encoding="utf-8")
        assert (place(store, "merged") / "model.safetensors").stat().st_ino == weights, "it was written again"
        assert served(store)["gguf"] == ["round-1", "main", "latest", "best"]
        assert nothing_unfinished(store)


def averaged(store: RunStore) -> TrainState:
    """Have the mean of rounds 1 and 2 be `main`. Returns the state of round 1."""
    first = store.state
    asyncio.run(until_published(publisher(store, loss(3.0))[0]))
    fold_round(store, ADA)
    store.write_checkpoint(parts.NOW)
    asyncio.run(until_published(publisher(store, loss(2.5), loss(2.0))[0]))
    return first


@pytest.mark.usefixtures("_here")
def test_a_mean_comes_in_every_form_under_its_own_name(tmp_path: Path) -> None:
    with run_of(tmp_path, spec(merged=True, gguf="f16", held_out_tokens=100)) as store:
        first = averaged(store)
        for form in ("trained", "merged", "gguf"):
            assert served(store)[form][:2] == ["average-2", "main"]
        wire = (archive(store) / folder_of("merged", 2, averaged=True) / MANIFEST).read_bytes()
        merged = open_manifest(wire, run=parts.RUN, signers=parts.SIGNERS).value
        expected = mean_state(first, store.state)
        assert (merged.state, [each.round for each in merged.mean_of]) == (expected.hash(), [1, 2])
        gguf = archive(store) / folder_of("gguf", 2, averaged=True)
        assert (gguf / f"{parts.RUN}-average-2-F16.gguf").is_file()
        with quiet():
            base = AutoModelForCausalLM.from_pretrained(place(store, "base", 0), dtype=torch.float32)
            adapted = PeftModel.from_pretrained(base, archive(store) / folder_of("trained", 2, averaged=True))
            whole = archive(store) / folder_of("merged", 2, averaged=True)
            model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
        assert np.abs(logits(model) - logits(adapted)).max() < 0.05, "bf16 rounds, but no more"


def test_a_mean_of_whole_models_is_loaded_by_transformers(tmp_path: Path) -> None:
    with run_of(tmp_path, spec(Full(), held_out_tokens=100)) as store:
        first = averaged(store)
        with quiet():
            folder = archive(store) / folder_of("trained", 2, averaged=True)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        expected = mean_state(first, store.state)
        found = dict(model.named_parameters())
        for name, array in expected.params.items():
            assert found[name].detach().numpy().tobytes() == array.tobytes(), name


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("_here")
def test_a_disk_that_fills_up_under_a_program_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_of(tmp_path, spec(merged=True)) as store:
        monkeypatch.setattr(merge_module, "save_file", full)
        publish_checkpoints(store)
        assert "no space left on the disk" in capsys.readouterr().err
        assert "merged" not in served(store)
        assert not (archive(store) / "merged").exists()
        assert nothing_unfinished(store)


@pytest.mark.usefixtures("_here")
def test_a_disk_that_fills_up_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_of(tmp_path, spec(merged=True)) as store:
        monkeypatch.setattr(exports, "file_hash", full)
        with pytest.raises(DiskFull, match="no space left"):
            publish_checkpoints(store)
        assert nothing_unfinished(store)


def test_an_exporter_without_forms_writes_nothing(tmp_path: Path) -> None:
    with run_of(tmp_path, spec(licence="unknown")) as store:
        made = replace(publisher_of(store, lambda: parts.NOW).exporter, base=tmp_path / "no such folder")
        asyncio.run(made.export_data())
        publish_checkpoints(store)
        assert served(store).keys() == {"trained"}


@pytest.mark.parametrize("arguments", [[], ["gguf", "a", "q2_k", "name", "b"], ["merged", "a"]])
def test_the_program_prints_its_usage(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["export_program", *arguments])
    monkeypatch.setattr(os, "nice", lambda by: 0)
    assert export_program.main() == 2
    assert "python -m coordinator.checkpoints.export_program merged BASE" in capsys.readouterr().err


def test_the_program_prints_an_error_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_tiny_model(tmp_path / "base")
    monkeypatch.setattr("sys.argv", ["export_program", "merged", str(base), str(base), str(tmp_path / "out")])
    monkeypatch.setattr(os, "nice", lambda by: 0)
    capsys.readouterr()  # discard the output of creating the model
    assert export_program.main() == 2
    printed = capsys.readouterr().err.strip()
    assert "contains no LoRA adapter" in printed
    assert len(printed.splitlines()) == 1
