"""The arms of a comparison: ways for K machines to train one model, as plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from pydantic import TypeAdapter

from barnraise.contract.shards import Sample
from barnraise.contract.spec import CodecSpec, Dense, Full, InnerSpec, Lora, Raw, Sgd, Sparse

ADAMW = InnerSpec(lr=1e-3, clip_norm=0.0)  # without clipping, as in hivemind's optimizer
MUON = InnerSpec(optimizer="muon", lr=1e-3, clip_norm=0.0)

FULL, RAW, MEAN = Full(), Raw(), Sgd()
"""The defaults of an arm: all parameters, uncompressed, the mean of the peers' results."""

Batches = Sequence[Sequence[Sequence[Sample]]]
"""[peer][step]: a batch."""


def sparse(density: float, bits: int = 2) -> CodecSpec:
    return Sparse.model_validate({"density": density, "bits": bits})


def dense(bits: int) -> CodecSpec:
    return Dense.model_validate({"bits": bits})


def outer(lr: float, momentum: float) -> Sgd:
    """SGD, with Nesterov momentum where there is any."""
    return Sgd(lr=lr, momentum=momentum, nesterov=momentum > 0)


@dataclass(frozen=True)
class Untrained:
    """The start, for its losses."""

    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW
    """Of no effect."""


@dataclass(frozen=True)
class Alone:
    """Machines train alone; the mean of their losses."""

    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW
    machines: int = 4
    """The first of the machines, or all if there are fewer."""
    decay: float | None = None
    """As `train.schedule.decay`, of all steps; None: the rate is constant."""


@dataclass(frozen=True)
class Ddp:
    """Each step uses all machines' batches: data parallel training."""

    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW
    decay: float | None = None


@dataclass(frozen=True)
class Diloco:
    """Rounds of local steps, contributions and a fold."""

    steps: int = 20
    """Inner steps of one round (H in the literature)."""
    codec: CodecSpec = RAW
    outer: Sgd = MEAN
    target: Full | Lora = FULL
    inner: InnerSpec = ADAMW
    ahead: int = 0
    """Steps of the next round before the fold arrives (overlap that keeps local steps)."""
    speeds: tuple[float, ...] = ()
    """The share of a round's steps that each machine takes; empty: all of them."""
    weights: Literal["tokens", "uniform"] = "tokens"
    late: Literal["none", "kept", "owed", "dropped"] = "none"
    """The fate of contributions that miss their close, a third of all: kept, so that training continues from
    them, as a volunteer does; owed, added to their sender's residual; or dropped."""
    turns: int = 1
    """A machine's contribution is due in every `turns`-th round; until then it trains on from its own work
    and the folds of others, as volunteers do who take turns."""
    decay: float | None = None
    """As `train.schedule.decay`, of all rounds; None: the rate is constant."""
    average: int | None = None
    """The outcome is the mean of this number of last states; None: the last one."""


@dataclass(frozen=True)
class Hivemind:
    """`hivemind.Optimizer` in processes of its own, all parameters, AdamW."""

    inner: InnerSpec = ADAMW
    """Only its rate is used."""
    epoch_steps: int = 1
    """Inner batches of every peer in one global step."""
    state_every: int = 1
    """Epochs between two averages of the parameters. More epochs send less, and leave replicas different for
    longer after a step whose group was incomplete."""
    local_updates: bool = False
    """Step locally, and average parameters once per epoch."""


Arm = Untrained | Alone | Ddp | Diloco | Hivemind


def with_rate(arm: Arm, lr: float) -> Arm:
    return replace(arm, inner=arm.inner.model_copy(update={"lr": lr}))


def with_outer(arm: Arm, step: Sgd) -> Arm:
    return replace(arm, outer=step) if isinstance(arm, Diloco) else arm


@cache
def key(arm: Arm) -> str:
    """The name of an arm in the results file: its class and all of its settings."""
    settings = TypeAdapter(type(arm)).dump_python(arm, mode="json", exclude_none=True)
    return f"{type(arm).__name__} {json.dumps(settings, sort_keys=True)}"
