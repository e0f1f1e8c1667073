"""A volunteer's training, round by round, without network or clock."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.shards import Sample
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Array, Layout, Tensors, TrainState
from barnraise.core.errors import NotFinite
from barnraise.models.base_model import BaseFolder
from barnraise.models.memory_estimate import Precision
from barnraise.rehearsal.isolation import Isolated
from barnraise.rehearsal.outcomes import Fault
from barnraise.rehearsal.samples import RehearsalSamples
from peer.training.device import Device, device_failures
from peer.training.inner_optimizer import STEPS, OptimizerState
from peer.training.local_model import LocalModel
from peer.training.methods import method_for
from peer.training.rehearsal import rehearse


@dataclass(frozen=True)
class StepResult:
    """The loss of one batch."""

    loss: float
    """Mean loss of the step's trained tokens, in nats; 0 if there were none."""
    tokens: int
    """Trained tokens."""


@dataclass(frozen=True)
class Update:
    """A peer's contribution to a round, before compression."""

    tensors: dict[str, Array]
    """Pseudo-gradient (state − local) or mean gradient per trained token, fp32."""
    tokens: int
    """Trained tokens: the weight of the update in the fold."""
    samples: int
    """Samples used."""
    loss: float
    """Mean training loss of those tokens, in nats; 0 if there were none."""
    ranges: tuple[SampleRange, ...] = ()
    """Which samples they are, in the volunteer's assignments."""


Method = TypeVar("Method", bound=Callable[..., Any])


def _on_device(method: Method) -> Method:
    """A method of a trainer that raises DeviceFailed where its GPU fails."""

    @functools.wraps(method)
    def guarded(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        with device_failures(self._model.device):
            return method(self, *args, **kwargs)

    return cast(Method, guarded)


class Trainer:
    """Trains one run's parameters by the run's method: `load`, then `step`s, then `take_update`."""

    def __init__(
        self,
        folder: BaseFolder | Path,
        spec: RunSpec,
        device: Device,
        micro_batch: int | None = None,
        *,
        frozen: Precision | None = None,
        checkpointing: bool = False,
    ) -> None:
        """Load the base model. micro_batch: samples per forward pass; None takes the device's default.

        frozen and checkpointing: see `LocalModel`.
        Raises ModelUnavailable, SpecError, TooLargeForMemory, or UserError for missing packages."""
        path = folder.path if isinstance(folder, BaseFolder) else folder
        self._model = LocalModel(
            path,
            spec.train.target,
            device,
            micro_batch or device.micro_batch,
            frozen=frozen,
            checkpointing=checkpointing,
            attention=spec.model.attention,
        )
        self.spec = spec
        self._exact = not device.autocast and (frozen or device.frozen) == "fp32"
        self._method = method_for(spec.train, self._model)
        self._forget()

    @property
    def layout(self) -> Layout:
        return self._model.layout

    @property
    def moves(self) -> bool:
        """Whether steps change the local parameters."""
        return self.spec.train.method == "diloco"

    @property
    def tokens(self) -> int:
        """Trained tokens since the last `load` or `take_update`."""
        return self._tokens

    @property
    def samples(self) -> int:
        """Samples used since the last `load` or `take_update`."""
        return self._samples

    def rehearse(self, samples: RehearsalSamples) -> Isolated | Fault:
        """As `peer.training.rehearsal.rehearse`; before the first `step`."""
        return rehearse(self._model, self.spec, samples, exact=self._exact)

    @_on_device
    def load(self, state: TrainState) -> None:
        """Start from `state`, dropping unfinished work. The inner optimizer keeps its moments.

        Raises StateError if the state does not have this run's tensors.
        """
        self._model.load(state.params)
        self._method.restart()
        self._forget()

    @_on_device
    def merge(self, before: Tensors, after: TrainState) -> None:
        """Move to the state `after`, and keep the work done since `before`, counters included.

        before: the local parameters when that work began. Raises StateError if `after` does not have this
        run's tensors.
        """
        self._method.merge(before, after.params)

    @_on_device
    def params(self) -> dict[str, Array]:
        """Copies of the local parameters, fp32."""
        return self._model.tensors()

    @_on_device
    def step(self, samples: Sequence[Sample], factor: float = 1.0) -> StepResult:
        """Train on one batch: take an inner step (`diloco`), or accumulate the gradient (`gradient`).

        factor: of the learning rate of `diloco`, by the run's schedule.
        Raises NotFinite if loss or gradient are not finite, with nothing trained, TooLargeForMemory if
        memory runs out.
        """
        self._samples += len(samples)  # a batch that is skipped is not drawn again
        loss = self._method.step(samples, factor)
        self._tokens += loss.tokens
        self._loss += loss.total
        return StepResult(loss.total / max(1, loss.tokens), loss.tokens)

    @_on_device
    def take_update(self, state: TrainState, limit: int | None = None) -> Update:
        """The contribution to the round that started from `state`, of at most about `limit` tokens.

        Of a pseudo-gradient of more tokens it is that share; the other samples and tokens stay counted, and
        their share of the work in the local parameters. A gradient is taken whole.
        Raises NotFinite if the update is not.
        """
        tensors = self._method.update(state.params, self._tokens)
        if not all(np.isfinite(array).all() for array in tensors.values()):
            raise NotFinite(
                "what was trained is not finite", fix="Lower train.inner.lr, or check this machine's memory."
            )
        update = Update(tensors, self._tokens, self._samples, self._loss / max(1, self._tokens))
        if (samples := self._samples_within(limit)) < self._samples:
            return self._share(update, samples)
        self._method.restart()
        self._forget()
        return update

    def _share(self, whole: Update, samples: int) -> Update:
        """`samples` samples' part of an update; the rest stays."""
        tokens = whole.tokens * samples // whole.samples
        for array in whole.tensors.values():
            np.multiply(array, np.float32(samples / whole.samples), out=array)
        self._samples, self._tokens = whole.samples - samples, whole.tokens - tokens
        self._loss = whole.loss * self._tokens
        return Update(whole.tensors, tokens, samples, whole.loss)

    def _samples_within(self, limit: int | None) -> int:
        """The samples that a contribution of about `limit` tokens has."""
        if limit is None or self._tokens <= limit or not self._method.can_share:
            return self._samples
        return max(1, self._samples * limit // self._tokens)

    def evaluate(self, samples: Sequence[Sample]) -> StepResult:
        """Mean loss of `samples`' trained tokens under the local parameters, without training."""
        loss = self._model.loss(samples)
        return StepResult(loss.total / max(1, loss.tokens), loss.tokens)

    def export_inner(self, *, fresh: bool = False) -> dict[str, npt.NDArray[Any]]:
        """The inner optimizer's state as plain arrays, for a safetensors file.

        fresh: as before its first step.
        """
        saved = self._method.export_inner()
        return {name: np.zeros_like(saved[name]) for name in saved if name == STEPS} if fresh else saved

    def import_inner(self, saved: OptimizerState) -> None:
        """Restore an exported inner optimizer. Raises StateError if it is not of this run."""
        self._method.import_inner(saved)

    def forget_inner(self) -> None:
        """Start the inner optimizer again."""
        self._method.forget_inner()

    def _forget(self) -> None:
        self._tokens = 0
        self._samples = 0
        self._loss = 0.0
