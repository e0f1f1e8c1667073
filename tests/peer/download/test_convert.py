"""`peer download --format`: published forms, and forms that are converted here."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, folder_of
from barnraise.contract.manifest import MANIFEST, Form
from barnraise.core.errors import ModelUnavailable, UserError
from peer.archive.events import BaseFromRun, OnlyInRun
from peer.download.convert import Converted
from peer.download.download import Downloaded, DownloadOptions, download
from peer.download.select import Format
from tests.support import parts
from tests.support.archives import MAIN_ROUND, Laid, lay_out_run
from tests.support.scripted import RecordingListener


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    return lay_out_run(tmp_path_factory.mktemp("run"))


def get(
    laid: Laid, output: Path, form: Format | None, listener: RecordingListener | None = None, **other: object
) -> Downloaded | Converted:
    options = DownloadOptions(str(laid.folder), parts.AUTHORITY.public, format=form, output=output, **other)  # type: ignore[arg-type]
    return asyncio.run(
        download(options, output.parent / "cache", listener or RecordingListener(), time.monotonic)
    )


@pytest.mark.parametrize(
    ("form", "published"),
    [
        (None, "trained"),
        ("adapter", "trained"),
        ("merged", "merged"),
        ("gguf", "gguf"),
        ("base", "base"),
        ("data", "data"),
    ],
)
def test_published_forms_are_downloaded(
    laid: Laid, tmp_path: Path, form: Format | None, published: Form
) -> None:
    done = get(laid, tmp_path / "out", form)
    assert isinstance(done, Downloaded)
    place = laid.folder / folder_of(published, MAIN_ROUND)
    assert (done.folder / MANIFEST).read_bytes() == (place / MANIFEST).read_bytes()


def test_a_form_of_a_round_is_found_by_its_own_commit(laid: Laid, tmp_path: Path) -> None:
    merged = laid.index.repo("merged")
    assert merged is not None
    done = get(laid, tmp_path / "out", "merged", revision=merged.revisions[0].commit)
    assert isinstance(done, Downloaded)


@pytest.mark.parametrize("form", ["merged", "gguf"])
def test_an_unpublished_form_is_converted_with_the_archive_s_base(
    laid: Laid, tmp_path: Path, form: Format
) -> None:
    listener = RecordingListener()
    done = get(laid, tmp_path / "out", form, listener, revision="best")
    assert done == Converted(tmp_path / "out")
    assert MANIFEST not in [path.name for path in done.folder.iterdir()], "a converted form has a manifest"
    assert (tmp_path / "barn-round-000060" / MANIFEST).is_file(), "the checkpoint was not checked first"
    (fetched,) = [event for event in listener.events if isinstance(event, BaseFromRun)]
    assert fetched.why == OnlyInRun("tiny")


def test_a_converted_form_equals_the_published_one(laid: Laid, tmp_path: Path) -> None:
    published = get(laid, tmp_path / "published", "merged").folder
    hidden = without(laid, tmp_path / "hidden", "merged")
    made = get(hidden, tmp_path / "made", "merged").folder
    weights = "model.safetensors"
    assert (made / weights).read_bytes() == (published / weights).read_bytes()


def test_a_converted_gguf_file_can_be_read(laid: Laid, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GgufConfig

    (file,) = get(laid, tmp_path / "out", "gguf", revision="best").folder.iterdir()
    assert file.name == "barn-round-60-F16.gguf"
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file=file.name, quantization_config=GgufConfig(dequantize=True)
    )
    assert model.config.num_hidden_layers == 2


def test_conversion_without_a_base_model_is_an_error(laid: Laid, tmp_path: Path) -> None:
    hidden = without(laid, tmp_path / "hidden", "base")
    shutil.rmtree(hidden.folder / folder_of("base", 0))
    with pytest.raises(ModelUnavailable, match="no base model at tiny") as caught:
        get(hidden, tmp_path / "out", "merged", revision="best")
    assert "--base PATH" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_not_overwritten(laid: Laid, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        get(laid, tmp_path / "out", "gguf", revision="best")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"], "files were fetched before the error"


def test_a_lone_checkpoint_is_converted_with_the_base_given(laid: Laid, tmp_path: Path) -> None:
    alone = laid.folder / folder_of("trained", 60)
    options = DownloadOptions(str(alone), parts.AUTHORITY.public, format="merged", output=tmp_path / "out")
    with pytest.raises(UserError, match="exact base model"):
        asyncio.run(download(options, tmp_path / "cache", RecordingListener(), time.monotonic))
    given = DownloadOptions(
        str(alone), parts.AUTHORITY.public, format="merged", output=tmp_path / "out", base=laid.base
    )
    assert asyncio.run(download(given, tmp_path / "cache", RecordingListener(), time.monotonic)) == Converted(
        tmp_path / "out"
    )


def test_the_model_format_of_an_adapter_is_an_error(laid: Laid, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trains an adapter") as caught:
        get(laid, tmp_path / "out", "model")
    assert "--format adapter" in caught.value.fix


def without(laid: Laid, copy: Path, form: Form) -> Laid:
    """A copy of the archive that lacks one form."""
    shutil.copytree(laid.folder, copy)
    index = json.loads((copy / INDEX).read_bytes())
    index["repos"] = [repo for repo in index["repos"] if repo["form"] != form]
    (copy / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return Laid(copy, laid.index, laid.states, laid.base)
