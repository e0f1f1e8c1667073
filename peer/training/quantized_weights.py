"""The frozen weights below an adapter in few bits, dequantized only for the duration of a product."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import nn

from barnraise.models.memory_estimate import Precision
from peer.training.memory_fit import bitsandbytes_missing

_NF4_BLOCK = 64
_INT8_LARGEST = 127


def has_four_bit() -> bool:
    """Whether bitsandbytes, which packs 4-bit weights, is installed."""
    return find_spec("bitsandbytes") is not None


def store_frozen(model: nn.Module, precision: Precision, device: torch.device, *, autocast: bool) -> None:
    """Store the frozen linear weights of `model` in `precision` on `device`, all other parameters in fp32.

    Embeddings stay in fp32, also when tied to the output head: the residual stream starts from them. An
    untied output head is stored in bf16 at least. Raises UserError if bitsandbytes is missing.
    """
    # Places, because a list of the layers themselves would keep their dense weights alive.
    places = [] if precision == "fp32" else list(_frozen_layers(model))
    few_bits = {id(getattr(parent, name).weight) for parent, name in places}
    # The others first: one tensor keeps its whole file mapped, and so all that is read of it below.
    for parameter in model.parameters():
        if id(parameter) not in few_bits:
            parameter.data = parameter.data.to(torch.float32)
    head = _output_head(model)
    for parent, name in places:
        bits = "bf16" if getattr(parent, name) is head else precision
        _store_layer(parent, name, bits, device, autocast=autocast)


def _frozen_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The frozen linear layers that are not tied to an embedding, each as its parent and its name there."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parent in model.modules():
        for name, layer in () if isinstance(parent, nn.Linear) else parent.named_children():
            frozen = type(layer) is nn.Linear and not layer.weight.requires_grad
            if frozen and id(layer.weight) not in embeddings:
                yield parent, name


def _store_layer(
    parent: nn.Module, name: str, precision: Precision, device: torch.device, *, autocast: bool
) -> None:
    layer = getattr(parent, name)
    if precision == "bf16" and autocast:  # which multiplies in bf16 anyway
        layer.weight.data = layer.weight.data.to(device, torch.bfloat16)
        return
    compute = torch.bfloat16 if autocast else torch.float32
    stored = _store(layer.weight.data.to(device), precision, compute)
    setattr(parent, name, FrozenLinear(stored, layer.bias))


class StoredWeight(Protocol):
    """A weight [out, in] in few bits."""

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight in `dtype`, for one product."""


class FrozenLinear(nn.Module):
    """x · Wᵀ + bias, with gradients for x only."""

    def __init__(self, stored: StoredWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.stored = stored
        self.bias = bias

    @property
    def weight(self) -> torch.Tensor:
        """A dense copy, for models that read the weight of a layer instead of calling it, such as RWKV."""
        return self.stored.dense(torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):
            product: torch.Tensor = _Product.apply(x, self.stored)
            return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """Saves the stored weight for the backward pass. Autograd would keep every layer's dense copy until
    then, which is the memory to save."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, stored: StoredWeight) -> torch.Tensor:
        ctx.stored = stored
        return nn.functional.linear(x, stored.dense(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient @ ctx.stored.dense(gradient.dtype), None


def _store(weight: torch.Tensor, precision: Precision, compute: torch.dtype) -> StoredWeight:
    match precision:
        case "8bit":
            return _Int8(weight)
        case "4bit":
            return _Nf4(weight.to(compute))
        case _:
            return _Half(weight)


class _Half:
    """bf16: exact if the checkpoint is in bf16."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight.to(torch.bfloat16)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        return self._weight.to(dtype)


class _Int8:
    """Integers from -127 to 127, and a scale per row."""

    def __init__(self, weight: torch.Tensor) -> None:
        weight = weight.float()
        self._scale = weight.abs().amax(dim=1, keepdim=True).clamp_(min=1e-30) / _INT8_LARGEST
        self._values = (weight / self._scale).round_().to(torch.int8)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        return self._values.to(dtype).mul_(self._scale.to(dtype))


class _Nf4:
    """NF4 (Dettmers et al. 2023), packed by bitsandbytes on CPU and CUDA."""

    def __init__(self, weight: torch.Tensor) -> None:
        if not has_four_bit():
            raise bitsandbytes_missing()
        from bitsandbytes import functional

        self._unpack = functional.dequantize_4bit
        self._packed, self._state = functional.quantize_4bit(
            weight.contiguous(), blocksize=_NF4_BLOCK, quant_type="nf4"
        )

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        weight: torch.Tensor = self._unpack(self._packed, self._state)
        return weight.to(dtype)


def _output_head(model: nn.Module) -> nn.Module | None:
    getter = getattr(model, "get_output_embeddings", None)
    head: nn.Module | None = None if getter is None else getter()
    return head
