"""A checkpoint whose adapter claims more than its file holds, or whose headers do not end."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from barnraise.core.errors import MalformedBlob, ModelUnusable, UserError
from barnraise.models import causal_lm
from barnraise.models.lora_files import ADAPTER, ADAPTER_CONFIG, LoraFiles
from barnraise.models.weight_files import read_header
from tests.support.tiny import make_tiny_model

ONE = "base_model.model.model.layers.0.self_attn.k_proj.lora_"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "base")


def adapter(folder: Path, tensors: Mapping[str, Any], **settings: Any) -> Path:
    save_file(dict(tensors), folder / ADAPTER)
    usual = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "target_modules": ["k_proj"]}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(usual | settings))
    return folder


def pair(rank: int) -> dict[str, Any]:
    return {
        f"{ONE}A.weight": np.ones((rank, 64), np.float32),
        f"{ONE}B.weight": np.ones((32, rank), np.float32),
    }


@pytest.mark.parametrize(
    ("rank", "tensors", "targets"),
    [
        (10**6, {}, ["q_proj", "k_proj", "v_proj", "o_proj"]),  # gigabytes from a file of none
        (10**12, {}, ["k_proj"]),
        (10**6, {}, None),
        (4096, pair(4096), ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]),
        (2, pair(2), ["k_proj"]),  # of the other layer there are none
    ],
)
def test_nothing_is_made_that_the_file_does_not_hold(
    rank: int, tensors: dict[str, Any], targets: object, model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import peft

    monkeypatch.setattr(peft, "get_peft_model", lambda *_: pytest.fail("it is built"))
    folder = adapter(tmp_path, tensors, r=rank, target_modules=targets)
    with pytest.raises((UserError, MalformedBlob)):
        LoraFiles.attach(causal_lm.load(model, "auto"), folder)


def test_an_adapter_of_some_layers_is_attached_to_these(model: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path, pair(2), target_modules=["model.layers.0.self_attn.k_proj"])
    made = LoraFiles.attach(causal_lm.load(model, "auto"), folder)
    names = [name for name, _ in made.named_parameters() if ".lora_" in name]
    assert len(names) == len(load_file(folder / ADAPTER)) == 2


@pytest.mark.parametrize(
    "text", [b'{"a":' * 20_000, b"[" * 100_000, b'{"a":{"dtype":"F32"}}', b"{}" + b" " * 64]
)
def test_a_header_that_is_deep_or_broken_is_named(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    if text.startswith(b"{}"):
        assert read_header(file) == {}
        return
    with pytest.raises(ModelUnusable):
        read_header(file)
