"""Loads a local model folder as a torch model: offline, without output, and without running its code.

torch and transformers take seconds to import, so they are imported where they are used.
"""

from __future__ import annotations

import inspect
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from barnraise.core.errors import ModelUnavailable
from barnraise.models.build_limits import bounded_build
from barnraise.models.memory_estimate import ModelShape
from barnraise.models.model_config import load_config

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

Attention = Literal["auto", "sdpa", "eager"]
"""Attention kernel; `auto`: sdpa, or eager for a kind that has no sdpa."""

_READ_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    SafetensorError,
    struct.error,
    StrictDataclassError,
)
"""Errors of transformers, safetensors and gguf for broken or unknown files, or a config's wrong values."""
_NO_MEMORY = "can't allocate memory"
"""In the RuntimeError of torch's allocator on the CPU."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars, notices and warnings, which are not for volunteers."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def unreadable(what: Path) -> Iterator[None]:
    """Turn the model libraries' errors for a bad file into ModelUnavailable; lack of memory is none."""
    try:
        yield
    except _READ_FAILURES as error:
        if _NO_MEMORY in str(error):
            raise
        raise ModelUnavailable(
            f"the base model at {what} cannot be read: {first_words(error)}",
            fix="Check that it is a causal language model that this version of transformers knows, and that "
            "its files are complete; a broken download starts again once its folder is removed.",
        ) from error


def first_words(error: BaseException) -> str:
    """The first line of a library's message, and the next where that is only the announcement of it."""
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0]) if " " in str(error.args[0]) else f"nothing is called {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def skeleton(folder: Path) -> PreTrainedModel:
    """The model's modules and parameter shapes, without weights (torch's meta device).

    Raises ModelUnavailable.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with quiet(), unreadable(folder):
        config = load_config(folder)
        with torch.device("meta"), bounded_build(folder):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, attn_implementation="eager", trust_remote_code=False
            )
    return model


def model_shape(folder: Path) -> ModelShape:
    """The sizes that determine the model's memory, from its config and its files' headers.

    Raises ModelUnavailable.
    """
    from torch import nn
    from transformers.modeling_layers import GradientCheckpointingLayer

    model = skeleton(folder)
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = {
        id(module.weight): module.weight.numel()
        for module in model.modules()
        if type(module) is nn.Linear and id(module.weight) not in shared
    }
    of_head = 0 if head is None else linear.pop(id(head.weight), 0)
    vocabulary, width = embedding.weight.shape
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        products=sum(linear.values()),
        head=of_head,
        largest=max(linear.values(), default=0),
        vocabulary=vocabulary,
        width=width,
        blocks=sum(isinstance(module, GradientCheckpointingLayer) for module in model.modules()),
        half=_dtypes(folder) == {"BF16"},
    )


def _dtypes(folder: Path) -> set[str]:
    """The dtypes of the model's tensors on disk, by their names in the safetensors format."""
    found = set()
    for file in folder.glob("model*.safetensors"):
        with unreadable(file), safe_open(file, framework="numpy") as tensors:
            found |= {str(tensors.get_slice(name).get_dtype()) for name in tensors.keys()}  # noqa: SIM118
    return found


def load(folder: Path, dtype: torch.dtype | str, attention: Attention = "auto") -> PreTrainedModel:
    """The model with its weights, on the CPU, as `dtype` (`"auto"` keeps what is on disk).

    Raises ModelUnavailable, also where a weight is missing: transformers would initialize it at random,
    differently on every peer.
    """
    from transformers import AutoModelForCausalLM

    with quiet(), unreadable(folder), bounded_build(folder):
        refuse_adapter(folder)
        config = load_config(folder)
        config._attn_implementation = _kernel(config) if attention == "auto" else attention
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=config._attn_implementation,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    refuse_gaps(report, folder)
    loaded: PreTrainedModel = model
    return loaded


def refuse_adapter(folder: Path) -> None:
    """transformers adds an adapter that it finds next to a model, with any of peft's settings."""
    if (folder / "adapter_config.json").is_file():
        raise ModelUnavailable(
            f"{folder} holds a model and an adapter for it, which transformers would load together",
            fix="Move adapter_config.json and adapter_model.safetensors out of that folder, or merge the"
            " adapter (`merge_and_unload` of peft) and save the model alone.",
        )


def _kernel(config: Any) -> Literal["sdpa", "eager"]:
    from transformers import AutoModelForCausalLM

    return "sdpa" if AutoModelForCausalLM._model_mapping[type(config)]._supports_sdpa else "eager"


def inner(model: nn.Module) -> nn.Module:
    """The transformers model inside a peft wrapper."""
    unwrap = getattr(model, "get_base_model", None)
    found: nn.Module = model if unwrap is None else unwrap()
    return found


def packed_inputs(model: nn.Module, ids: torch.Tensor, positions: torch.Tensor) -> dict[str, Any]:
    """Arguments for a forward pass over packed samples, [samples, length].

    Without an attention mask and a cache, transformers separates documents by their position ids, which
    restart at 0. A kind without positions, such as Mamba, gets none.
    """
    names = inspect.signature(inner(model).forward).parameters
    inputs = {"input_ids": ids, "position_ids": positions, "use_cache": False}
    return {name: value for name, value in inputs.items() if name in names}


def refuse_gaps(report: dict[str, Any], what: Path) -> None:
    """Raise ModelUnavailable where transformers' loading report names a missing or misshapen weight."""
    gaps = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in report[kind])
    if gaps:
        raise ModelUnavailable(
            f"the base model at {what} lacks {len(gaps)} of its weights, such as {gaps[0]}",
            fix="Remove the folder and get the complete model again.",
        )
