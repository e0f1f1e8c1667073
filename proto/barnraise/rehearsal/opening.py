"""Opens a base model without loading it: its files' headers against the modules that its config makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barnraise.core.errors import ModelUnavailable, ModelUnusable
from barnraise.models.build_limits import bounded_build
from barnraise.models.causal_lm import first_words, quiet, refuse_adapter, unreadable
from barnraise.models.model_config import load_config
from barnraise.models.weight_files import TensorHeader, read_headers
from barnraise.rehearsal.kinds import check_kind, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that a run can train, or keep frozen: names in the safetensors format, and torch's."""
_PACKED = (".qweight", ".weight_packed", ".absmax", ".SCB", "_proj_blocks")
"""Ends of the names that GPTQ and AWQ, compressed-tensors, bitsandbytes (4 and 8 bits) and MXFP4 give."""
_UNQUANTIZED = "Set `source` under [model] to the same model in bf16, fp16 or fp32."
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
"""The number of layers, by the names that configs have for it."""
_TOGETHER = "Get the complete model again; its config.json and its weights belong together."


@dataclass(frozen=True)
class OpenedModel:
    """A base model whose files are whole and fit its config."""

    kind: str
    """`model_type` of its config."""
    tensors: dict[str, TensorHeader]
    """What its files hold, by the names that they use."""
    unused: tuple[str, ...] = ()
    """Those that the config has no use for, such as layers beyond its number of layers."""


def open_model(folder: Path) -> OpenedModel:
    """Check all that the headers of a model folder show, and read no weights.

    Raises ModelUnusable for a kind that no run can train, files that are absent, cut or Git LFS pointers,
    dtypes that cannot be trained, and tensors that are missing or of another shape than the config's.
    """
    tensors = read_headers(folder)
    check_kind(folder)
    _refuse_adapter(folder)
    _check_dtypes(folder, tensors)
    _check_layers(folder, len(tensors))
    _check_generation(folder)
    try:
        return _check_against_config(folder, tensors)
    except ModelUnavailable as error:
        _refuse_padding(folder, error)
        raise ModelUnusable(error.problem, fix=error.fix) from error


def _refuse_adapter(folder: Path) -> None:
    try:
        refuse_adapter(folder)
    except ModelUnavailable as error:
        raise ModelUnusable(error.problem, fix=error.fix) from None


def _check_dtypes(folder: Path, tensors: dict[str, TensorHeader]) -> None:
    packed = next((name for name in sorted(tensors) if name.endswith(_PACKED)), None)
    if packed is not None:
        raise ModelUnusable(
            f"the base model is quantized ({packed} in {folder}), and a run needs the weights that it was"
            " quantized from",
            fix=_UNQUANTIZED,
        )
    wrong = sorted((name, tensor.dtype) for name, tensor in tensors.items() if tensor.dtype not in _TORCH)
    # Buffers such as masks are boolean or integers; weights have `.weight` or `.bias` in their names.
    wrong = [(name, dtype) for name, dtype in wrong if name.rpartition(".")[2] in ("weight", "bias")]
    if wrong:
        name, dtype = wrong[0]
        raise ModelUnusable(
            f"{name} in {folder} is stored as {dtype}, from which no training can start ({len(wrong)} of"
            f" {len(tensors)} tensors)",
            fix=_UNQUANTIZED,
        )


def _check_layers(folder: Path, tensors: int) -> None:
    """Before modules are made for each layer: a wrong number takes hours."""
    config = read_config(folder)
    for key in _LAYERS:
        layers = config.get(key)
        if isinstance(layers, int) and not 1 <= layers <= tensors:
            raise ModelUnusable(
                f"config.json says {key} {layers:,}, and the files hold {tensors:,} tensors",
                fix=_TOGETHER,
            )


def _check_generation(folder: Path) -> None:
    """What volunteers' transformers would refuse when it loads the model."""
    from transformers import GenerationConfig

    path = folder / "generation_config.json"
    if not path.is_file():
        return
    try:
        with quiet(), unreadable(path):
            GenerationConfig.from_pretrained(folder, local_files_only=True)
    except ModelUnavailable as error:
        raise ModelUnusable(
            f"{path} cannot be used: {first_words(error.__cause__ or error)}",
            fix="Correct it or remove it: training needs no generation settings.",
        ) from error


def _refuse_padding(folder: Path, error: ModelUnavailable) -> None:
    """Name the cause of torch's refusal to make an embedding."""
    config = read_config(folder)
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    failed = isinstance(error.__cause__, AssertionError)
    if failed and isinstance(pad, int) and isinstance(rows, int) and not -rows <= pad < rows:
        raise ModelUnusable(
            f"config.json says pad_token_id {pad}, and the embedding has {rows:,} rows (vocab_size)",
            fix='Set `"pad_token_id": null` in config.json: samples are then padded with another token. Or'
            " resize the embedding (`model.resize_token_embeddings(len(tokenizer))`) and save the model.",
        ) from error


def _check_against_config(folder: Path, tensors: dict[str, TensorHeader]) -> OpenedModel:
    """transformers' own loader, run on tensors without data, so that its renaming and joining apply."""
    with quiet(), unreadable(folder), bounded_build(folder):
        config = load_config(folder)
        model, report = _load_without_data(config, tensors)
    _refuse_rows(model, report, tensors, folder)
    _refuse(sorted(str(entry[0]) for entry in report["mismatched_keys"]), "have another shape", folder)
    unused = tuple(sorted(map(str, report["unexpected_keys"])))
    instead = f"are missing, and {unused[0]} is of no use to its config" if unused else "are missing"
    _refuse(sorted(map(str, report["missing_keys"])), instead, folder)
    return OpenedModel(str(config.model_type), tensors, unused)


def _load_without_data(
    config: Any, tensors: dict[str, TensorHeader]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM

    empty = {
        name: torch.empty(
            tensor.shape, dtype=getattr(torch, _TORCH.get(tensor.dtype, "uint8")), device="meta"
        )
        for name, tensor in tensors.items()
    }
    kind = AutoModelForCausalLM._model_mapping[type(config)]
    model, report = kind.from_pretrained(
        None,
        config=config,
        state_dict=empty,
        attn_implementation="eager",  # any will do, and the config's may not be installed
        device_map="meta",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model, report


def _refuse_rows(
    model: PreTrainedModel, report: dict[str, Any], tensors: dict[str, TensorHeader], folder: Path
) -> None:
    """A vocabulary of another size than the config's is the commonest wrong shape: name it."""
    embedding = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
    for name, stored, expected in report["mismatched_keys"]:
        if str(name) == f"{embedding}.weight" and stored[1:] == expected[1:]:
            raise ModelUnusable(
                f"{name} in {folder} has {stored[0]:,} rows, one for each token, and config.json says"
                f" vocab_size {expected[0]:,}",
                fix="Correct `vocab_size` in config.json to the rows of the embedding, or save the model"
                " again with `save_pretrained` after `resize_token_embeddings`.",
            )


def _refuse(names: list[str], what: str, folder: Path) -> None:
    if names:
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise ModelUnusable(
            f"{len(names)} tensors of the model in {folder} {what}: {listed}",
            fix=_TOGETHER,
        )
