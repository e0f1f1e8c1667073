"""The model on one volunteer's device: parameters in, losses and gradients out. No optimizer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from barnraise.contract.shards import IGNORED, Sample
from barnraise.contract.spec import Full, Lora
from barnraise.contract.state import Array, Layout, Tensors
from barnraise.core.errors import NotFinite
from barnraise.models.causal_lm import Attention, inner, load, packed_inputs
from barnraise.models.memory_estimate import Precision
from barnraise.models.trainable import attach, trainable_parameters
from peer.training.activation_checkpointing import checkpoint_activations
from peer.training.device import Device, memory_limit, out_of_memory, release_memory, too_large
from peer.training.quantized_weights import store_frozen

log = logging.getLogger("peer")


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, summed over its trained tokens."""

    total: float
    """Sum of the trained tokens' losses, in nats."""
    tokens: int
    """Trained tokens."""


@dataclass(frozen=True)
class _OutOfMemory:
    what: str


def trained_tokens(samples: Sequence[Sample]) -> int:
    """Tokens with a loss. Each is predicted from its predecessor, so a sample's first token has none."""
    return sum(int(np.count_nonzero(sample.labels[1:] != IGNORED)) for sample in samples)


class LocalModel:
    """The base model with the run's trainable parameters, on one device.

    It stays in evaluation mode, without dropout, so that an auditor can reproduce a contribution.
    """

    def __init__(
        self,
        folder: Path,
        target: Lora | Full,
        device: Device,
        micro_batch: int,
        *,
        frozen: Precision | None = None,
        checkpointing: bool = False,
        attention: Attention = "auto",
    ) -> None:
        """Load the model in `folder`.

        micro_batch: samples per forward pass; halved when memory runs out. frozen: the precision of the
        weights below an adapter; None takes the device's precision of products. checkpointing: activation
        checkpointing.
        Raises ModelUnavailable, SpecError, TooLargeForMemory, or UserError for missing packages.
        """
        self.device = torch.device(device.torch_device)
        self._autocast = device.autocast
        self._micro_batch = micro_batch
        self._checkpointing = False
        if self.device.type == "cpu":
            torch.set_num_threads(device.threads)
        precision = frozen or device.frozen if isinstance(target, Lora) else "fp32"
        with memory_limit(self.device, "the model"):
            model = attach(load(folder, torch.float32 if precision == "fp32" else "auto", attention), target)
            if precision != "fp32":
                store_frozen(model, precision, self.device, autocast=device.autocast)
            self._model = model.to(self.device).eval()
        if checkpointing:
            self._checkpointing = checkpoint_activations(self._model)
        self._sparse_logits = "logits_to_keep" in inspect.signature(inner(model).forward).parameters
        self.params: dict[str, nn.Parameter] = dict(sorted(trainable_parameters(self._model).items()))
        self.layout = Layout(tuple((name, tuple(p.shape)) for name, p in self.params.items()))
        ends = _ends(inner(model))
        self.matrices = frozenset(n for n, p in self.params.items() if p.ndim == 2 and p not in ends)
        """Names of the weight matrices between layers: all but the embeddings and the output head."""
        self._added: set[nn.Parameter] = set()
        for parameter in self.params.values():
            parameter.register_post_accumulate_grad_hook(self._added.add)

    def load(self, tensors: Tensors) -> None:
        """Copy `tensors` into the parameters. Raises StateError where names or shapes differ."""
        self.layout.check(tensors, "the state to train from")
        with torch.no_grad():
            for name, parameter in self.params.items():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))

    def shift(self, before: Tensors, after: Tensors) -> None:
        """parameters ← after + (parameters − before). Raises StateError where names or shapes differ."""
        self.layout.check(after, "the state to move to")
        with torch.no_grad():
            for name, parameter in self.params.items():
                parameter.sub_(torch.from_numpy(before[name]).to(parameter.device))
                parameter.add_(torch.from_numpy(after[name]).to(parameter.device))

    def tensors(self) -> dict[str, Array]:
        """Copies of the parameters, fp32."""
        return {name: as_array(parameter) for name, parameter in self.params.items()}

    def gradients(self) -> dict[str, Array]:
        """Copies of the accumulated gradients, fp32; zeros for parameters without one."""
        return {
            name: np.zeros(tuple(p.shape), np.float32) if p.grad is None else as_array(p.grad)
            for name, p in self.params.items()
        }

    def clip_gradients(self, norm: float) -> torch.Tensor:
        """Scale the gradients down to a total norm of at most `norm`. Returns the norm before."""
        return torch.nn.utils.clip_grad_norm_(self.params.values(), norm)

    def set_gradients_aside(self) -> list[torch.Tensor | None]:
        """Take the accumulated gradients out, so that a batch can be judged on its own."""
        aside = [parameter.grad for parameter in self.params.values()]
        self.clear_gradients()
        return aside

    def add_gradients(self, aside: Sequence[torch.Tensor | None]) -> None:
        """Add what was set aside."""
        for parameter, before in zip(self.params.values(), aside, strict=True):
            if before is not None:
                parameter.grad = before if parameter.grad is None else before.add_(parameter.grad)

    def gradients_are_finite(self) -> bool:
        """Whether no accumulated gradient has a NaN or an infinity."""
        found = [each.grad for each in self.params.values() if each.grad is not None]
        return all(bool(torch.isfinite(gradient).all()) for gradient in found)

    def clear_gradients(self) -> None:
        for parameter in self.params.values():
            parameter.grad = None

    def backward(self, samples: Sequence[Sample], divisor: int) -> Loss:
        """Add the gradient of (summed loss / `divisor`) of `samples`, micro-batch by micro-batch.

        Raises NotFinite if the loss is not finite, TooLargeForMemory if memory runs out with one sample
        at a time.
        """

        def add_gradient(part: Sequence[Sample], open_: list[nn.Parameter]) -> float:
            summed = self._summed_loss(part)
            value = _finite(summed)
            torch.autograd.backward(summed / divisor, inputs=open_)
            return value

        return Loss(self._sum_parts(samples, add_gradient), trained_tokens(samples))

    def loss(self, samples: Sequence[Sample]) -> Loss:
        """The loss of `samples` without gradients. Raises as `backward` does."""

        def add_loss(part: Sequence[Sample], _: list[nn.Parameter]) -> float:
            return _finite(self._summed_loss(part))

        with torch.inference_mode():
            return Loss(self._sum_parts(samples, add_loss), trained_tokens(samples))

    def token_losses(self, sample: Sample) -> Array:
        """Cross entropy of each token but the first, fp32 [length - 1]; 0 where it is not trained on."""
        with torch.inference_mode():
            losses, columns = self._losses([sample])
            found = torch.zeros(len(sample.labels) - 1, device=self.device)
            found[columns] = losses[0]
            return as_array(found)

    def without_gradient(self) -> list[str]:
        """Parameters that the last backward pass did not reach. An expert may just not have been chosen."""
        return [name for name, each in self.params.items() if each.grad is None and ".experts." not in name]

    def _sum_parts(
        self, samples: Sequence[Sample], run: Callable[[Sequence[Sample], list[nn.Parameter]], float]
    ) -> float:
        """Sum `run` over the micro-batches of `samples`; use smaller ones after memory runs out.

        An interrupted backward pass has added the whole micro-batch's gradient to some parameters and
        nothing to the others. The retry covers only those others: no gradient is added twice, and no
        second copy of the gradients is needed when memory is short.
        """
        total = 0.0
        todo = [(samples, list(self.params.values()))]
        while todo:
            part, open_ = todo.pop()
            if len(part) > self._micro_batch:
                size = self._micro_batch
                starts = reversed(range(0, len(part), size))
                todo += [(part[start : start + size], open_) for start in starts]
                continue
            if not trained_tokens(part):
                continue
            self._added.clear()
            match self._attempt(run, part, open_):
                case float() as value:
                    total += value
                case _OutOfMemory(what):
                    self._back_off(len(part), what)
                    todo.append((part, [tensor for tensor in open_ if tensor not in self._added]))
        return total

    def _attempt(
        self,
        run: Callable[[Sequence[Sample], list[nn.Parameter]], float],
        part: Sequence[Sample],
        open_: list[nn.Parameter],
    ) -> float | _OutOfMemory:
        """A separate function, so that its tensors are freed when it returns."""
        try:
            return run(part, open_)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return _OutOfMemory(str(error).partition("\n")[0][:200])

    def _back_off(self, samples: int, what: str) -> None:
        """Reduce the memory of the next attempt. Raises TooLargeForMemory if nothing is left to reduce."""
        release_memory(self.device)
        if samples > 1:
            self._micro_batch = samples // 2
            log.warning(
                "%d samples at once do not fit in memory: continuing with %d (%s)",
                samples,
                self._micro_batch,
                what,
            )
        elif not self._checkpointing and checkpoint_activations(self._model):
            self._checkpointing = True
            log.warning(
                "one sample does not fit in memory: turning activation checkpointing on (%s)",
                what,
            )
        else:
            raise too_large(self.device, f"one sample at a time ({what})")

    def _summed_loss(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Cross entropy of the next token, summed over the trained tokens; fp32, on the device."""
        return self._losses(samples)[0].sum()

    def _losses(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy [samples, columns] at the columns where a sample has a target, and these columns."""
        ids = self._stack([sample.input_ids for sample in samples])
        positions = self._stack([sample.position_ids for sample in samples])
        targets = self._stack([sample.labels for sample in samples])[:, 1:]
        # The product with the vocabulary is a large part of a small model: compute it only at targets.
        columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            inputs = packed_inputs(self._model, ids, positions)
            if self._sparse_logits:
                logits = self._model(**inputs, logits_to_keep=columns).logits
            else:
                logits = self._model(**inputs).logits[:, columns]
        wanted = targets[:, columns]
        losses = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.view_as(wanted), columns

    def _stack(self, rows: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)


def as_array(tensor: torch.Tensor) -> Array:
    """A copy of `tensor` on the CPU, fp32."""
    array: Array = tensor.detach().to("cpu", torch.float32).numpy().copy()
    return array


def _finite(loss: torch.Tensor) -> float:
    value = float(loss.detach())
    if not np.isfinite(value):
        raise diverged("the training loss is not a finite number")
    return value


def diverged(problem: str) -> NotFinite:
    return NotFinite(
        problem,
        fix="If every peer reports it, the maintainer should lower train.inner.lr; if only this one does, "
        "try `--device cpu` and check the machine's memory.",
    )


def _ends(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the input and output embeddings."""
    ends = [getattr(model, f"get_{side}_embeddings")() for side in ("input", "output")]
    return {parameter for end in ends if end is not None for parameter in end.parameters()}
