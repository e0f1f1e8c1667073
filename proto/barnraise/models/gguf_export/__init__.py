"""Models and adapters as GGUF files, for llama.cpp, Ollama and LM Studio.

The `gguf` package writes the file. `architecture` maps the model, `vocabulary` its tokenizer. K-quants
need llama.cpp: `llama-quantize` makes them from f16.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import quants

from barnraise.core.errors import UserError
from barnraise.models.gguf_export.architecture import Architecture, Array
from barnraise.models.gguf_export.vocabulary import Vocabulary
from barnraise.models.merge import Weights
from barnraise.runtime.files import UNFINISHED, disk_errors, keep_file, make_folder

GgufPrecision = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
_KINDS = {"f32": Kind.F32, "f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0, "q4_0": Kind.Q4_0}
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
_OUTER = ("token_embd.weight", "output.weight")
"""First and last matrix, for which four bits are too few."""


@dataclass(frozen=True)
class GgufMetadata:
    """Name and description in a file's header."""

    name: str
    description: str = ""


def check(folder: Path, adapter: Path | None = None) -> tuple[Architecture, Vocabulary]:
    """Everything but the weights that a model folder contributes to the file.

    adapter: a folder whose tokenizer and template take precedence over the model's.
    Raises UserError where the architecture or the tokenizer cannot be written, ModelUnavailable.
    """
    architecture = Architecture.of(folder)
    folders = [folder] if adapter is None else [adapter, folder]
    return architecture, Vocabulary.of(folders, architecture.config["vocab_size"])


def export(
    folder: Path, output: Path, precision: GgufPrecision, metadata: GgufMetadata, adapter: Path | None = None
) -> None:
    """Write the model in `folder` as the GGUF file `output`, tensor by tensor.

    adapter: a LoRA adapter in peft's layout, to be merged.
    Raises UserError, ModelUnavailable, MalformedBlob, DiskFull; then `output` is not created.
    """
    architecture, vocabulary = check(folder, adapter)
    weights = Weights.of(folder, adapter)
    if weights.absent:
        raise UserError(
            f"the model in {folder} lacks {len(weights.absent)} of its weights, such as {weights.absent[0]}",
            fix="Remove the folder and get the complete model again.",
        )
    # A tied head is one parameter with the embedding, and llama.cpp takes that where there is no other.
    places = {name: architecture.tensor_name(own) for name, own in weights.parameters.items()}
    with _written(output, architecture.name) as writer:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(metadata.name)
        if metadata.description:
            writer.add_description(metadata.description)
        writer.add_file_type(_FILE_TYPES[precision])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        architecture.write_settings(writer)
        vocabulary.write(writer)
        factors = architecture.rope_factors()
        if factors is not None:
            writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
        for name, place in places.items():
            shape = weights.shape(name)[:: -1 if name in weights.conv1d else 1]
            _announce(writer, place, shape, _kind(place, shape, precision))
        _begin(writer)
        if factors is not None:
            writer.write_tensor_data(factors)
        for name, place in places.items():
            stored: Array = weights.tensor(name).numpy()
            values = architecture.ordered(name, stored.T if name in weights.conv1d else stored)
            kind = _kind(place, values.shape, precision)
            writer.write_tensor_data(quants.quantize(np.ascontiguousarray(values), kind))


def export_adapter(adapter: Path, base: Path, output: Path, metadata: GgufMetadata) -> None:
    """Write a LoRA adapter in peft's layout as the file that llama.cpp takes with `--lora`, in fp32.

    base: the folder of the model that it was trained on.
    Raises UserError, ModelUnavailable, MalformedBlob, DiskFull; then `output` is not created.
    """
    architecture = Architecture.of(base)
    weights = Weights.of(base, adapter)
    assert weights.lora is not None
    lora = weights.lora
    tensors: dict[str, Array] = {}
    for name, (a, b) in lora.pairs.items():
        place = architecture.tensor_name(weights.parameters[name])
        tensors[f"{place}.lora_a"] = np.ascontiguousarray(a.numpy())
        tensors[f"{place}.lora_b"] = np.ascontiguousarray(architecture.ordered(name, b.numpy()))
    with _written(output, architecture.name) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, lora.alpha)
        writer.add_name(metadata.name)
        for name, values in tensors.items():
            _announce(writer, name, values.shape, Kind.F32)
        _begin(writer)
        for values in tensors.values():
            writer.write_tensor_data(values)


def _kind(place: str, shape: tuple[int, ...], precision: GgufPrecision) -> Kind:
    """The type of one tensor: fp32 for vectors, 16 bits where rows do not fill whole blocks."""
    if len(shape) < 2:
        return Kind.F32
    kind = _KINDS["q8_0" if precision == "q4_0" and place in _OUTER else precision]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if shape[-1] % block == 0 else Kind.F16


def _announce(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: Kind) -> None:
    _, size = gguf.GGML_QUANT_SIZES[kind]
    plain = {Kind.F32: np.float32, Kind.F16: np.float16}
    if kind in plain:
        writer.add_tensor_info(name, shape, np.dtype(plain[kind]), int(np.prod(shape)) * size)
        return
    packed = gguf.quant_shape_to_byte_shape(shape, kind)
    writer.add_tensor_info(name, packed, np.dtype(np.uint8), int(np.prod(packed)), raw_dtype=kind)


def _begin(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


class _Writer(gguf.GGUFWriter):
    """Writes empty arrays too: llama.cpp does not load a tokenizer without the key of its merges."""

    def _pack_val(
        self,
        val: Any,
        vtype: gguf.GGUFValueType,
        add_vtype: bool,
        sub_type: gguf.GGUFValueType | None = None,
    ) -> bytes:
        if vtype != gguf.GGUFValueType.ARRAY or len(val) or sub_type is None:
            return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))
        kind = self._pack("I", vtype) if add_vtype else b""
        return bytes(kind + self._pack("I", sub_type) + self._pack("Q", 0))


@contextmanager
def _written(output: Path, architecture: str) -> Iterator[gguf.GGUFWriter]:
    """A writer whose file is renamed to `output` when the block ends without an error."""
    with disk_errors(output):
        make_folder(output.parent)
        handle, part = tempfile.mkstemp(dir=output.parent, prefix=UNFINISHED, suffix=".gguf")
        os.close(handle)
        try:
            writer = _Writer(part, architecture)
            try:
                yield writer
            finally:
                writer.close()
            Path(part).chmod(0o644)
            keep_file(Path(part), output)
        finally:
            Path(part).unlink(missing_ok=True)
