"""Writes a small .gguf file: as much of a model as its header says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter


def write_gguf(
    path: Path,
    *,
    kind: str = "model",
    architecture: str = "llama",
    parts: int = 0,
    sizes: bool = True,
    tensors: int = 1,
) -> Path:
    """A file whose tensors are no model's. `parts` is that of a split model; 0 for a whole one."""
    writer = GGUFWriter(path, architecture)
    writer.add_type(kind)
    if sizes:
        writer.add_block_count(1)
        writer.add_embedding_length(8)
    if parts:
        writer.add_uint16("split.count", parts)
    for index in range(tensors):
        writer.add_tensor(f"blk.{index}.attn_q.weight", np.ones((8, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
