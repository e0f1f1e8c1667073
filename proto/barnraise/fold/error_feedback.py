"""Error feedback: what a blob leaves out stays in the sender's residual and is sent later."""

from __future__ import annotations

import numpy as np

from barnraise.contract.spec import CodecSpec, Sparse
from barnraise.contract.state import Array, Layout
from barnraise.fold.codec import chunks, encode_in_place


def encode_with_feedback(
    codec: CodecSpec, update: dict[str, Array], residual: dict[str, Array], layout: Layout
) -> bytearray:
    """Encode `update` + `residual`. Consumes `update`: its arrays become the new residual.

    A sparse codec first multiplies the old residual by its `ef_decay`: a value may wait many rounds, and then
    the parameters that it was computed for have changed.

    update, residual: fp32 tensors of the layout; an empty `residual` counts as zeros.
    """
    decay = np.float32(codec.ef_decay if isinstance(codec, Sparse) else 1)
    for name, tensor in residual.items():
        flat, kept = update[name].reshape(-1), tensor.reshape(-1)
        for start, stop in chunks(codec, flat.size):
            flat[start:stop] += kept[start:stop] * decay
    return encode_in_place(codec, update, layout)
