"""Each row of the table of adapters, merging and export in docs/MODELS.md is true."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from barnraise.contract.spec import Full, Lora
from barnraise.core.errors import SpecError, UserError
from barnraise.models import gguf_export
from barnraise.models.causal_lm import quiet
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.models.merge import merge
from barnraise.models.model_files import write_descriptions
from barnraise.models.trainable import initial_state, layout
from coordinator.store.checkpoints import _write_model
from tests.models.test_merge import make_adapter
from tests.support.kinds import KINDS, make_kind, modules_of
from tests.support.llama_cpp import llama_cpp
from tests.support.old_tools import old_tools

DOCUMENT = Path(__file__).parents[2] / "docs" / "MODELS.md"
IDS = list(range(3, 83))
WITHIN_THE_WINDOW = IDS[:32]


@dataclass(frozen=True)
class Row:
    kind: str
    lora: str
    full: str
    gguf: str
    old: str


def rows() -> list[Row]:
    """The table, without its header."""
    text = DOCUMENT.read_text(encoding="utf-8").split("| kind | LoRA |")[1].split("\n\n")[0]
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [Row(*line.split(" | ")) for line in lines]


ROWS = {row.kind: row for row in rows()}
EXPORTED = [row.kind for row in ROWS.values() if row.gguf == "yes"]
IN_THE_GATE = {"gpt2, square", "qwen3", "mistral, window"}


def test_the_table_has_all_kinds() -> None:
    assert list(ROWS) == list(KINDS)


def loaded(folder: Path) -> Any:
    with quiet():
        return AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
        )


def logits_of(model: Any, ids: list[int] = IDS) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = model.eval()(input_ids=torch.tensor([ids])).logits[0].numpy()
    return found


def adapted(base: Path, adapter: Path) -> Any:
    with quiet():
        return PeftModel.from_pretrained(loaded(base), adapter)


def adapter_of(kind: str, base: Path, folder: Path) -> Path:
    return make_adapter(base, folder, lora=Lora(rank=4, alpha=8.0, modules=modules_of(kind)))


def apart(found: object, wanted: np.ndarray[Any, Any]) -> float:
    return float(np.abs(np.array(found) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_computes_what_peft_computes(tmp_path: Path, kind: str) -> None:
    base = make_kind(tmp_path / "base", kind)
    adapter = adapter_of(kind, base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged", "fp32")
    wanted, merged = logits_of(adapted(base, adapter)), loaded(tmp_path / "merged")
    assert ROWS[kind].lora == "yes"
    assert apart(logits_of(merged), wanted) < 1e-4
    assert apart(logits_of(loaded(base)), wanted) > 0.1, "the adapter does nothing"
    fan_in = '"fan_in_fan_out": true' in (adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")
    assert fan_in is kind.startswith("gpt2")


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_trained_or_exported_is_refused(tmp_path: Path, kind: str) -> None:
    base, row = make_kind(tmp_path / "base", kind), ROWS[kind]
    if row.full == "yes":
        assert layout(base, Full()).shapes
    else:
        with pytest.raises(SpecError, match=row.full.removeprefix("no: ")):
            layout(base, Full())
    if row.gguf == "yes":
        gguf_export.check(base)
    else:
        with pytest.raises(UserError, match=row.gguf.removeprefix("no: ")):
            gguf_export.check(base)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=() if kind in IN_THE_GATE else pytest.mark.full("further kinds in llama.cpp")
        )
        for kind in EXPORTED
    ],
)
def test_llama_cpp_computes_the_same(tmp_path: Path, kind: str) -> None:
    native, about, ids = llama_cpp(), gguf_export.GgufMetadata("tiny"), WITHIN_THE_WINDOW
    base = make_kind(tmp_path / "base", kind)
    adapter = adapter_of(kind, base, tmp_path / "adapter")
    model, merged, lora = (tmp_path / f"{name}.gguf" for name in ("model", "merged", "lora"))
    gguf_export.export(base, model, "f32", about)
    gguf_export.export(base, merged, "f32", about, adapter)
    gguf_export.export_adapter(adapter, base, lora, about)
    wanted = logits_of(adapted(base, adapter), ids)
    assert apart(native.logits(model, ids), logits_of(loaded(base), ids)) < 1e-2
    assert apart(native.logits(merged, ids), wanted) < 1e-2
    assert apart(native.logits(model, ids, lora), wanted) < 1e-2


OLD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
request, replies = json.load(sys.stdin), {}
for folder in request["folders"]:
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        with torch.inference_mode():
            logits = model.eval()(input_ids=torch.tensor([request["ids"]])).logits[0]
        replies[folder] = {"gaps": report["missing_keys"], "logits": logits.tolist()}
    except ValueError as error:
        replies[folder] = {"error": str(error)}
print(json.dumps(replies))
"""


def published(work: Path, kind: str) -> Mapping[str, Path]:
    """A merged model and, where it can be trained, a whole one, as the coordinator writes them."""
    base = make_kind(work / kind / "base", kind)
    merge(base, adapter_of(kind, base, work / kind / "adapter"), work / kind / "merged", "fp32")
    if ROWS[kind].full != "yes":
        return {"merged": work / kind / "merged"}
    full = work / kind / "full"
    full.mkdir()
    write_descriptions([base], full, dtype="float32")
    _write_model(full, initial_state(base, Full(), 0).params)
    return {"merged": work / kind / "merged", "full": full}


@pytest.mark.slow
def test_transformers_4_46_computes_the_same(tmp_path: Path) -> None:
    tools = old_tools()
    folders = {(kind, form): path for kind in KINDS for form, path in published(tmp_path, kind).items()}
    request = {"ids": IDS, "folders": [str(path) for path in folders.values()]}
    replies = tools.run(OLD, request)
    seen: dict[str, set[str]] = {}
    for (kind, _), path in folders.items():
        reply = replies[str(path)]
        if "error" in reply:
            assert "does not recognize this architecture" in reply["error"]
            seen.setdefault(kind, set()).add("no: unknown")
            continue
        assert not reply["gaps"]
        same = apart(reply["logits"], logits_of(loaded(path))) < 1e-4
        seen.setdefault(kind, set()).add("yes" if same else "no: differs")
    assert seen == {kind: {row.old} for kind, row in ROWS.items()}
