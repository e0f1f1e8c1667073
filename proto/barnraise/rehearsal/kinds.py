"""Which kinds of base models a run can train, by their config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from barnraise.core.errors import ModelUnusable
from barnraise.models.model_config import read_object

Config = Mapping[str, Any]

_QUANTIZED = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8 (FBGEMM)",
    "mxfp4": "MXFP4",
    "compressed-tensors": "compressed-tensors",
}
"""Names of quantization methods as people write them."""
_OTHER_INPUTS = ("vision_config", "audio_config", "speech_config", "encoder_config", "vq_config")
"""Parts of a config for inputs that are not text."""
_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_FIX = "Set `source` under [model] to a causal language model (its architecture ends in ForCausalLM)."


def check_kind(folder: Path) -> None:
    """Raise ModelUnusable where the model in `folder` is of a kind that no run can train."""
    config = read_config(folder)
    kind = str(config.get("model_type") or "")
    _refuse_quantized(config)
    _refuse_own_code(config, kind)
    _refuse_unknown(kind)
    if config.get("is_encoder_decoder"):
        raise ModelUnusable(
            f"the base model is an encoder-decoder ({kind}), which answers a separate input", fix=_FIX
        )
    _refuse_other_inputs(config, kind)
    if (folder / "modules.json").is_file():
        raise ModelUnusable(
            f"the base model makes embeddings of sentences ({kind}, modules.json), not text", fix=_FIX
        )
    _refuse_architecture(config, kind)


def read_config(folder: Path) -> Config:
    """config.json as a table. Raises ModelUnusable."""
    path = folder / "config.json"
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}", fix="Get the complete model again.") from None


def _refuse_quantized(config: Config) -> None:
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, dict) else None
    settings = config.get("quantization_config") or inner
    if not settings:
        return
    table = settings if isinstance(settings, dict) else {}
    method = str(table.get("quant_method") or table.get("quant_algo") or "unknown")
    raise ModelUnusable(
        f"the base model is quantized ({_QUANTIZED.get(method, method)}), and a run needs the weights that"
        " it was quantized from",
        fix="Set `source` under [model] to the unquantized model; volunteers quantize it themselves where"
        " their memory requires it (`peer join --frozen`).",
    )


def _refuse_own_code(config: Config, kind: str) -> None:
    own = config.get("auto_map")
    files = sorted({str(name).rpartition(".")[0].rpartition("--")[2] for name in _texts(own)})
    if files and not in_transformers(kind):
        raise ModelUnusable(
            f"the base model ({kind or 'without model_type'}) needs code of its own"
            f" ({', '.join(f'{name}.py' for name in files)}), which volunteers' machines do not run",
            fix="Use a model whose kind transformers knows, or the same model converted to such a kind.",
        )


def _refuse_unknown(kind: str) -> None:
    if not kind:
        raise ModelUnusable(
            "config.json names no model kind (`model_type`)",
            fix="Get the config.json that belongs to these weights, as `save_pretrained` writes it.",
        )
    if not in_transformers(kind):
        import transformers

        raise ModelUnusable(
            f"transformers {transformers.__version__} knows no model kind {kind!r} (model_type in"
            " config.json)",
            fix="Update transformers here and ask volunteers to do so, or use another base model.",
        )


def _refuse_other_inputs(config: Config, kind: str) -> None:
    parts = [part for part in _OTHER_INPUTS if config.get(part)]
    if parts:
        raise ModelUnusable(
            f"the base model ({kind}) takes other inputs than text ({', '.join(parts)} in config.json)",
            fix="Use the text-only model of its family, whose config has no such part.",
        )


def _refuse_architecture(config: Config, kind: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    named = _texts(config.get("architectures"))
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if causal is None:
        raise ModelUnusable(f"the base model ({kind}) is no causal language model", fix=_FIX)
    if named and not any(name == causal or name.endswith(_CAUSAL_ENDINGS) for name in named):
        raise ModelUnusable(
            f"the base model is a {named[0]}, which does not generate text; its kind ({kind}) does as"
            f" {causal}",
            fix=_FIX,
        )


def in_transformers(kind: str) -> bool:
    """Whether transformers itself has code for `kind`."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return kind in CONFIG_MAPPING_NAMES


def _texts(table: object) -> list[str]:
    values = table.values() if isinstance(table, dict) else [table]
    flat = [each for value in values for each in (value if isinstance(value, list | tuple) else [value])]
    return [str(each) for each in flat if each]
