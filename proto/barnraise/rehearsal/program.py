"""The program that rehearses: one packed forward and backward pass with a run's base model, on the CPU.

    python -m barnraise.rehearsal.program MODEL_FOLDER REQUEST_FOLDER

Prints one line of JSON (`barnraise.rehearsal.replies`).
"""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from barnraise.contract.shards import IGNORED, Sample, parse_shard
from barnraise.contract.spec import Full, Lora
from barnraise.core.errors import BarnraiseError
from barnraise.models.causal_lm import load, packed_inputs, quiet
from barnraise.models.trainable import attach, trainable_parameters
from barnraise.rehearsal.isolation import (
    FP32,
    Isolated,
    Losses,
    alone,
    documents,
    judge,
    measure,
    padded,
)
from barnraise.rehearsal.outcomes import (
    NAMED,
    Fault,
    Kernel,
    KernelUnsupported,
    LossNotFinite,
    NoGradient,
    PositionsExceeded,
    StepFailed,
    WeightsNotFinite,
)
from barnraise.rehearsal.replies import (
    ISOLATION_SHARD,
    REQUEST,
    STEP_SHARD,
    FaultReply,
    MemoryReply,
    Request,
    StepReply,
)
from barnraise.rehearsal.samples import RehearsalSamples
from barnraise.runtime.child_process import NICENESS
from barnraise.runtime.memory_limit import lift_memory_limit

_LORA_B = 0.02
"""Standard deviation of the adapter's second matrix: at its first value, 0, no gradient reaches the first."""


class Faulty(Exception):
    """The run cannot be trained."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True)
class _Structure:
    """How the model attends."""

    kernel: Kernel
    packed: bool


def main() -> None:
    folder, request_folder = map(Path, sys.argv[1:])
    os.nice(NICENESS)
    lift_memory_limit()  # of the dataset's builder, which starts this program
    _volunteer_for_the_killer()
    request = Request.model_validate_json((request_folder / REQUEST).read_bytes())
    try:
        with quiet():
            samples = RehearsalSamples(
                _sample(request_folder / ISOLATION_SHARD, request.isolation_length),
                _sample(request_folder / STEP_SHARD, request.step_length),
            )
            reply: Any = rehearse(folder, request, samples)
    except Faulty as faulty:
        reply = FaultReply.of(faulty.fault)
    except MemoryError:
        reply = MemoryReply(exhausted=True)
    print(reply.model_dump_json())


def rehearse(folder: Path, request: Request, samples: RehearsalSamples) -> StepReply:
    """Load the model in `folder`, choose how it attends, and take one step. Raises Faulty."""
    short, whole = samples.isolation, samples.step
    model, kernel = _loaded(folder, request)
    _check_weights(model)
    structure = _structure(model, kernel, request, short)
    _check_positions(model, short, request.sequence_length)
    if not structure.packed:
        whole = _first_document(whole)
    loss, untrained = _step(_attached(model, request.target), whole, full=isinstance(request.target, Full))
    return StepReply(
        attention=structure.kernel,
        packed=structure.packed,
        loss=loss,
        tokens=whole.trained_tokens,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        untrained=untrained,
    )


def _sample(shard: Path, length: int) -> Sample:
    return parse_shard(shard.read_bytes(), length, None).sample(0)


def _loaded(folder: Path, request: Request) -> tuple[Any, Kernel]:
    first: Kernel = "sdpa" if request.attention == "auto" else request.attention
    try:
        return _load(folder, first), first
    except Faulty as faulty:
        if request.attention != "auto" or not isinstance(faulty.fault, KernelUnsupported):
            raise
    return _load(folder, "eager"), "eager"


def _load(folder: Path, kernel: Kernel) -> Any:
    try:
        return load(folder, torch.float32, kernel).eval()
    except RuntimeError as error:
        _raise_memory(error)
        raise
    except BarnraiseError as error:
        cause = error.__cause__
        if isinstance(cause, ValueError) and "attention implementation" in str(cause):
            raise Faulty(KernelUnsupported(kernel, _first_line(cause))) from error
        raise Faulty(StepFailed("loading the model", error.problem)) from error


def _check_weights(model: nn.Module) -> None:
    """Raise Faulty for a weight that no contribution could carry, although few tokens may meet it."""
    for name, parameter in model.named_parameters():
        finite = parameter.isfinite()
        if not finite.all():
            raise Faulty(WeightsNotFinite(name, int(finite.logical_not_().sum())))


def _structure(model: Any, kernel: Kernel, request: Request, short: Sample) -> _Structure:
    """Choose the kernel and whether documents share samples. Raises Faulty for a model that cannot train."""
    if request.attention == "auto" and kernel == "sdpa" and not _kernels_agree(model, short):
        kernel = "eager"  # the reference: some sdpa versions leave out what a model needs
        model.set_attn_implementation("eager")
    found = measure(lambda sample: _token_losses(model, sample), short)
    match judge(found, FP32, request.packing):
        case Isolated(packed):
            return _Structure(kernel, packed)
        case fault:
            raise Faulty(fault)


def _kernels_agree(model: Any, sample: Sample) -> bool:
    """Whether sdpa gives eager's losses; leaves the model with sdpa."""
    with_sdpa = _token_losses(model, sample)
    try:
        model.set_attn_implementation("eager")
        with_eager = _token_losses(model, sample)
    except ValueError:  # the kind has no eager attention
        return True
    finally:
        model.set_attn_implementation("sdpa")
    return float(np.abs(with_sdpa - with_eager).max()) <= FP32.other_shape


def _check_positions(model: Any, sample: Sample, length: int) -> None:
    """Raise Faulty where the model has no position `length` - 1."""
    begin = max(0, length - len(sample.input_ids))
    positions = np.arange(begin, length, dtype=np.int32)[: len(sample.input_ids)]
    last = Sample(sample.input_ids[: len(positions)], sample.labels[: len(positions)], positions)
    try:
        _token_losses(model, last)
    except Faulty as faulty:
        detail = faulty.fault.detail if isinstance(faulty.fault, StepFailed) else str(faulty.fault)
        raise Faulty(PositionsExceeded(length, detail)) from faulty


def _token_losses(model: Any, sample: Sample) -> Losses:
    with torch.no_grad():
        losses: Losses = _losses(model, sample).numpy()
    return losses


def _losses(model: Any, sample: Sample) -> torch.Tensor:
    ids = torch.from_numpy(sample.input_ids).long()[None]
    positions = torch.from_numpy(sample.position_ids).long()[None]
    try:
        logits = model(**packed_inputs(model, ids, positions)).logits[0, :-1].float()
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, ImportError) as error:
        _raise_memory(error)
        raise Faulty(StepFailed("the forward pass", _first_line(error))) from error
    targets = torch.from_numpy(sample.labels).long()[1:]
    return nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")


def _attached(model: Any, target: Lora | Full) -> Any:
    try:
        adapted = attach(model, target)
    except BarnraiseError as error:
        raise Faulty(StepFailed("attaching the adapter", error.problem)) from error
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise Faulty(StepFailed("attaching the adapter", _first_line(error))) from error
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainable_parameters(adapted).items():
            if ".lora_B" in name:
                parameter.normal_(std=_LORA_B)
    return adapted


def _step(model: Any, sample: Sample, *, full: bool) -> tuple[float, tuple[str, ...]]:
    """The mean loss, and the tensors that get no gradient. Raises Faulty."""
    loss = _losses(model, sample).sum() / max(1, sample.trained_tokens)
    value = float(loss.detach())
    if not np.isfinite(value):
        raise Faulty(LossNotFinite(str(value)))
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        _raise_memory(error)
        raise Faulty(StepFailed("the backward pass", _first_line(error))) from error
    params = trainable_parameters(model)
    infinite = [
        name for name, each in params.items() if each.grad is not None and not each.grad.isfinite().all()
    ]
    if infinite:
        raise Faulty(StepFailed("the backward pass", f"the gradient of {infinite[0]} is not finite"))
    idle = sorted(name for name, each in params.items() if _idle(name, each))
    if idle and (not full or len(idle) == len(params)):
        raise Faulty(NoGradient(tuple(idle[:NAMED]), len(idle)))
    return value, tuple(idle)


def _idle(name: str, parameter: nn.Parameter) -> bool:
    """Whether the loss cannot depend on `parameter`. An expert may just not be chosen for these tokens."""
    return parameter.grad is None and ".experts." not in name


def _first_document(sample: Sample) -> Sample:
    """The sample as it is without packing: its longest document, and padding."""
    begin, end = max(
        documents(sample), key=lambda part: np.count_nonzero(sample.labels[slice(*part)] != IGNORED)
    )
    return padded(alone(sample, begin, end), len(sample.input_ids))


def _raise_memory(error: Exception) -> None:
    if "can't allocate memory" in str(error) or "not enough memory" in str(error):
        raise MemoryError(str(error)) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _volunteer_for_the_killer() -> None:
    """Ask Linux to end this program first where memory runs out, and not the coordinator."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000")


if __name__ == "__main__":
    main()
