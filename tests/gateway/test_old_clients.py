"""Unmodified older clients against a real gateway: huggingface_hub 0.26, transformers 4.46, peft 0.13."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from barnraise.models.causal_lm import quiet
from tests.support.archives import BASE, MAIN_ROUND, MERGED, OWN, Laid, lay_out_run
from tests.support.gateways import served
from tests.support.hub_clients import Clients
from tests.support.old_tools import old_tools

TEXT = "The barn is raised by neighbours."
LOSSES = """
import json, sys, warnings
warnings.simplefilter("ignore")
import huggingface_hub, peft, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
own, merged, base, tag, text = sys.argv[1:]

def loss(model, ids):
    with torch.inference_mode():
        return model.eval()(input_ids=ids, labels=ids).loss.item()

replies = {"versions": [each.__version__ for each in (huggingface_hub, peft, transformers)]}
for name in (own, merged, base):
    revision = None if name == base else tag
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    ids = tokenizer(text, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(name, revision=revision, torch_dtype=torch.float32)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
    replies[name] = [loss(model, ids), ids.tolist(), chat, model.config.rope_theta]
plain = AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(own, revision=tag)(text, return_tensors="pt").input_ids
replies["peft"] = loss(peft.PeftModel.from_pretrained(plain, own, revision=tag), ids)
replies["snapshot"] = huggingface_hub.snapshot_download(own, revision="best")
print(json.dumps(replies))
"""


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    return lay_out_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def clients(laid: Laid, tmp_path: Path) -> Iterator[Clients]:
    with served(laid.folder) as url:
        yield Clients(url, tmp_path / "home")


def loss(model: Any, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        return float(model.eval()(input_ids=ids, labels=ids).loss)


def loaded(folder: Path) -> Any:
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


@pytest.mark.slow
def test_older_tools_compute_the_same_loss(laid: Laid, clients: Clients) -> None:
    old = replace(clients, interpreter=old_tools().python)
    replies = old.python(LOSSES, OWN, MERGED, BASE, f"round-{MAIN_ROUND}", TEXT)
    assert replies["versions"] == ["0.26.5", "0.13.2", "4.46.3"]
    trained = laid.folder / f"checkpoints/round-{MAIN_ROUND:06d}"
    merged = laid.folder / f"merged/round-{MAIN_ROUND:06d}"
    tokenizer = AutoTokenizer.from_pretrained(trained, local_files_only=True)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with quiet():
        adapted = loss(PeftModel.from_pretrained(loaded(laid.base), trained), ids)
    wanted = {OWN: adapted, MERGED: loss(loaded(merged), ids), BASE: loss(loaded(laid.base), ids)}
    chat = tokenizer.apply_chat_template([{"role": "user", "content": TEXT}], tokenize=False)
    for name, expected in wanted.items():
        found, found_ids, found_chat, _ = replies[name]
        assert found == pytest.approx(expected, abs=1e-4)
        assert (found_ids, found_chat) == (ids.tolist(), chat)
    assert replies["peft"] == pytest.approx(adapted, abs=1e-4)
    assert {replies[name][3] for name in wanted} == {100_000.0}
