"""Writes safetensors files tensor by tensor: the library's own writer needs a whole copy in memory.

The format: 8 bytes little-endian length of a JSON header, the header, then the tensors' bytes
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from barnraise.runtime.files import Batch, replacing

_DTYPES = {"float32": "F32", "int64": "I64"}


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], batch: Batch | None = None) -> None:
    """Write fp32 and int64 arrays to `path`, as `replacing` does. Raises DiskFull, MachineError."""
    header: dict[str, object] = {}
    end = 0
    for name, array in sorted(tensors.items()):
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, batch=batch) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in sorted(tensors.items()):
            file.write(np.ascontiguousarray(array).data)
