"""Configurations that transformers 4 and 5 read alike: what one of them renamed is written in both spellings.

transformers 4 ignores keys that it does not know: it reads a config by transformers 5 with the default
`rope_theta`, without a warning. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = dict[str, Any]

_NESTED = ("full_attention", "sliding_attention")
"""Kinds of layers, for which transformers 5 may have different rotary embeddings."""
_NOT_SCALING = frozenset({"rope_theta", "partial_rotary_factor"})
"""Rotary settings that transformers 4 has next to `rope_scaling`."""
_PHI3_SCALING = ("short_factor", "long_factor")
"""All that transformers 4 permits in Phi-3's `rope_scaling`, in addition to its type."""

_BACKENDS = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})
"""One class by the names of transformers 5 and 4; 5 knows both."""
_LOCAL = ("backend", "is_local", "local_files_only")
"""What transformers 5 notes about the loading of a tokenizer."""
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def compatible_config(table: Mapping[str, Any]) -> Table:
    """A config.json in both spellings. A value that is there already is kept."""
    found = dict(table)
    for key, value in table.items():
        if isinstance(value, dict) and key.endswith("_config"):
            found[key] = compatible_config(value)
    for key, other in (("dtype", "torch_dtype"), ("torch_dtype", "dtype")):
        if isinstance(found.get(key), str):
            found.setdefault(other, found[key])
    rope = found.get("rope_parameters")
    if isinstance(rope, dict):
        for key, value in _old_rope(found, rope).items():
            if found.get(key) is None:
                found[key] = value
    return found


def compatible_tokenizer_config(table: Mapping[str, Any], template: str | None) -> Table:
    """A tokenizer_config.json that both read, with `template` as its chat template.

    template: None keeps the one that is there.
    """
    found = {key: value for key, value in table.items() if key not in _LOCAL}
    if found.get("tokenizer_class") in _BACKENDS:
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    if _is_new(table):
        # The default of transformers 4 differs, and removes spaces from decoded text.
        found.setdefault("clean_up_tokenization_spaces", False)
    if isinstance(found.get("extra_special_tokens"), list):
        # transformers 4 takes a table by this name, and fails on a list.
        found["additional_special_tokens"] = found.pop("extra_special_tokens")
    if template is not None:
        found["chat_template"] = template
    return found


def special_tokens_map(table: Mapping[str, Any]) -> Table:
    """The special_tokens_map.json of a tokenizer_config.json, for tools that read no other file."""
    keys = (*_ROLES, "additional_special_tokens")
    return {key: table[key] for key in keys if table.get(key)}


def _is_new(table: Mapping[str, Any]) -> bool:
    """Whether transformers 5 wrote a tokenizer_config.json."""
    return "backend" in table or table.get("tokenizer_class") == "TokenizersBackend"


def _old_rope(config: Table, rope: Table) -> Table:
    """The rotary settings by the keys of transformers 4."""
    if any(isinstance(rope.get(kind), dict) for kind in _NESTED):
        whole, window = (rope.get(kind) or {} for kind in _NESTED)
        found = _old_flat_rope(config, whole)
        return found | ({"rope_local_base_freq": window["rope_theta"]} if "rope_theta" in window else {})
    return _old_flat_rope(config, rope)


def _old_flat_rope(config: Table, rope: Table) -> Table:
    found = {key: rope[key] for key in sorted(_NOT_SCALING) if key in rope}
    kind = str(rope.get("rope_type", rope.get("type", "default")))
    found["rope_scaling"] = _scaling(config, kind, rope) if kind != "default" else None
    if "original_max_position_embeddings" in rope and config.get("model_type") == "phi3":
        found["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    if config.get("model_type") == "gpt_neox":
        old = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
        found |= {name: found[key] for key, name in old.items() if key in found}
    return found


def _scaling(config: Table, kind: str, rope: Table) -> Table:
    if config.get("model_type") == "phi3":
        return {"type": kind} | {key: rope[key] for key in _PHI3_SCALING if key in rope}
    return {"rope_type": kind} | {k: v for k, v in rope.items() if k not in _NOT_SCALING}
