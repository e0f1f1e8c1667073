"""Error feedback: what a blob left out stays in the sender's residual and goes out later."""

from __future__ import annotations

from barnraise.codec import Decoder, chunks, encode_in_place
from barnraise.spec import CodecSpec
from barnraise.state import Array, Layout


def encode_with_feedback(
    codec: CodecSpec, update: dict[str, Array], residual: dict[str, Array], layout: Layout
) -> bytearray:
    """Encode `update` + `residual`. Consumes `update`: its arrays become the new residual.

    update, residual: fp32 tensors of the layout; an empty `residual` counts as zeros.
    """
    for name, tensor in residual.items():
        update[name] += tensor
    return encode_in_place(codec, update, layout)


def take_back(codec: CodecSpec, blob: bytes | bytearray, residual: dict[str, Array], layout: Layout) -> None:
    """Return a contribution that missed its close to the residual, in place."""
    decoder = Decoder(blob, codec, layout)
    for name, tensor in residual.items():
        flat = tensor.reshape(-1)
        for start, stop in chunks(codec, flat.size):
            flat[start:stop] += decoder.values(name, start, stop)
