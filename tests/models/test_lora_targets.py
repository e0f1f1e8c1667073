"""Names of layers that an adapter cannot change are refused with the true cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.spec import Lora
from barnraise.core.errors import SpecError
from barnraise.models.trainable import layout
from tests.support.kinds import make_kind
from tests.support.model_kinds import make_kind as make_small_kind

REFUSED = [
    ("llama", "gate", "no layer called `gate`"),
    ("llama", "all-linear", "`all-linear` is a keyword of peft"),
    ("llama", "embed_tokens", r"`embed_tokens` is an embedding \(model\.embed_tokens\)"),
    ("llama", "self_attn", r"`self_attn` is a group of layers .* LlamaAttention"),
    ("llama", "input_layernorm", "is no linear layer but a LlamaRMSNorm"),
    ("llama, tied", "lm_head", "`lm_head` shares its weight with the input embedding"),
    ("llama, tied", "embed_tokens", "`embed_tokens` is an embedding"),
    ("gpt2", "lm_head", "`lm_head` shares its weight with the input embedding"),
    ("gpt2", "wte", "`wte` is an embedding"),
    ("mixtral", "gate_up_proj", r"fused weight of a mixture of experts \(.*gate_up_proj, 4 x 192 x 64\)"),
    ("mixtral", "w1", "no layer called `w1`"),
    ("mixtral", "experts", "fused weights of a mixture of experts .* MixtralExperts"),
    ("mixtral", "gate", "is no linear layer but a MixtralTopKRouter"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "cause"), REFUSED)
def test_the_cause_is_named(tmp_path: Path, kind: str, name: str, cause: str) -> None:
    base = make_kind(tmp_path / "base", kind)
    with pytest.raises(SpecError, match=cause) as refused:
        layout(base, Lora(modules=(name,)))
    offered = refused.value.fix.split(": ")[1].rstrip(".").split(", ")
    assert layout(base, Lora(modules=tuple(offered))).shapes, "the fix does not work"


def test_layers_that_peft_takes_for_fused_experts_are_refused(tmp_path: Path) -> None:
    base = make_small_kind("deepseek_v3", tmp_path / "base")
    with pytest.raises(SpecError, match=r"peft takes `down_proj` for the fused experts"):
        layout(base, Lora(modules=("down_proj", "o_proj")))
    assert layout(base, Lora(modules=("o_proj",))).shapes


def test_a_head_of_its_own_is_trained(tmp_path: Path) -> None:
    tensors = layout(make_kind(tmp_path / "base", "llama"), Lora(modules=("lm_head",))).shapes
    assert [name for name, _ in tensors] == [
        "base_model.model.lm_head.lora_A.weight", "base_model.model.lm_head.lora_B.weight",
    ]  # fmt: skip
