"""The model as one volunteer holds it: parameters in, losses and gradients out. No optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from barnraise.edge.causal_lm import load
from barnraise.edge.trainable import attach, trainable_parameters
from barnraise.errors import MachineError, TooLargeForMemory
from barnraise.shards import IGNORED, Sample
from barnraise.spec import Full, Lora
from barnraise.state import Array, Layout, Tensors
from peer.device import Device


@dataclass(frozen=True)
class Loss:
    total: float
    """Sum of the trained tokens' losses, in nats."""
    tokens: int
    """Trained tokens."""


def trained_tokens(samples: Sequence[Sample]) -> int:
    """Tokens with a loss: each is predicted from the one before it, so a sample's first has none."""
    return sum(int(np.count_nonzero(sample.labels[1:] != IGNORED)) for sample in samples)


class LocalModel:
    """The base model with the run's trainable parameters, on one device.

    It stays in evaluation mode, without dropout, so that an auditor can repeat a contribution.
    """

    def __init__(self, folder: Path, target: Lora | Full, device: Device, micro_batch: int) -> None:
        """Load the model in `folder`. Raises ModelUnavailable, SpecError or TooLargeForMemory."""
        self._device = torch.device(device.torch_device)
        self._autocast = device.autocast
        self._micro_batch = micro_batch
        if self._device.type == "cpu":
            torch.set_num_threads(device.threads)
        halved = device.autocast and isinstance(target, Lora)
        model = attach(load(folder, "auto" if halved else torch.float32), target)
        if halved:
            _halve_frozen_products(model)
        with self._memory():
            self._model = model.to(self._device).eval()
        self._sparse_logits = "logits_to_keep" in inspect.signature(_inner(model).forward).parameters
        self.params: dict[str, nn.Parameter] = dict(sorted(trainable_parameters(self._model).items()))
        self.layout = Layout(tuple((name, tuple(p.shape)) for name, p in self.params.items()))

    def load(self, tensors: Tensors) -> None:
        """Copy `tensors` into the parameters. Raises StateError where names or shapes differ."""
        self.layout.check(tensors, "the state to train from")
        with torch.no_grad():
            for name, parameter in self.params.items():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))

    def tensors(self) -> dict[str, Array]:
        """Copies of the parameters, fp32."""
        return {name: as_array(parameter) for name, parameter in self.params.items()}

    def gradients(self) -> dict[str, Array]:
        """Copies of the accumulated gradients, fp32; zeros where there is none yet."""
        return {
            name: np.zeros(tuple(p.shape), np.float32) if p.grad is None else as_array(p.grad)
            for name, p in self.params.items()
        }

    def clear_gradients(self) -> None:
        for parameter in self.params.values():
            parameter.grad = None

    def backward(self, samples: Sequence[Sample], divisor: int) -> Loss:
        """Add the gradient of (summed loss / `divisor`) of `samples`, micro-batch by micro-batch.

        Raises MachineError where the loss is not a number, TooLargeForMemory where a GPU's memory ends.
        """
        total = 0.0
        with self._memory():
            for part in self._parts(samples):
                summed = self._summed_loss(part)
                total += _finite(summed)
                torch.autograd.backward(summed / divisor)
        return Loss(total, trained_tokens(samples))

    def loss(self, samples: Sequence[Sample]) -> Loss:
        """The loss of `samples` without gradients. Raises as `backward` does."""
        with torch.inference_mode(), self._memory():
            total = sum(_finite(self._summed_loss(part)) for part in self._parts(samples))
        return Loss(total, trained_tokens(samples))

    def _parts(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        for start in range(0, len(samples), self._micro_batch):
            part = samples[start : start + self._micro_batch]
            if trained_tokens(part):
                yield part

    def _summed_loss(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Summed cross entropy of the next token over the trained ones; fp32, on the device."""
        ids = self._stack([sample.input_ids for sample in samples])
        positions = self._stack([sample.position_ids for sample in samples])
        targets = self._stack([sample.labels for sample in samples])[:, 1:]
        # The vocabulary product is a large part of a small model: only where some sample has a target.
        columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            # Without an attention mask and a cache, transformers keeps each document of a packed
            # sample to itself, by the positions that start anew.
            inputs = {"input_ids": ids, "position_ids": positions, "use_cache": False}
            if self._sparse_logits:
                logits = self._model(**inputs, logits_to_keep=columns).logits
            else:
                logits = self._model(**inputs).logits[:, columns]
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            targets[:, columns].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def _stack(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self._device)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise TooLargeForMemory(
                f"the memory of {self._device} is too small for {self._micro_batch} samples at a time",
                fix="Use a smaller micro-batch, close other programs on the GPU, or use another device.",
            ) from error


def as_array(tensor: torch.Tensor) -> Array:
    """A copy of `tensor` on the CPU, fp32."""
    array: Array = tensor.detach().to("cpu", torch.float32).numpy().copy()
    return array


def _finite(loss: torch.Tensor) -> float:
    value = float(loss.detach())
    if not np.isfinite(value):
        raise diverged("the training loss is not a finite number")
    return value


def diverged(problem: str) -> MachineError:
    return MachineError(
        problem,
        fix="If it happens to every peer, the maintainer should lower train.inner.lr; if only here, "
        "try `--device cpu` and check the machine's memory.",
    )


def _inner(model: nn.Module) -> nn.Module:
    """The transformers model inside a peft wrapper."""
    unwrap = getattr(model, "get_base_model", None)
    inner: nn.Module = model if unwrap is None else unwrap()
    return inner


def _halve_frozen_products(model: nn.Module) -> None:
    """Keep frozen linear weights in bf16, everything else in fp32.

    Autocast multiplies in bf16 anyway, so the results are the same; it saves half the memory and a
    conversion in every step. Embeddings (also where tied to the output layer) stay as they are,
    because the residual stream starts from them.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        product = isinstance(module, nn.Linear)
        for parameter in module.parameters(recurse=False):
            frozen = not parameter.requires_grad and id(parameter) not in embeddings
            parameter.data = parameter.data.to(torch.bfloat16 if product and frozen else torch.float32)
