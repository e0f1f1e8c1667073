"""What `coordinator check` finds out about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from barnraise.contract.spec import RunSpec
from barnraise.core.reason import Reason
from coordinator.reasons.dataset import BuiltDataset
from coordinator.reasons.licences import NotRedistributable, Redistributable
from coordinator.reasons.recommend import Recommendation, SpecWarning

PERMANENT_CHECKPOINTS = 3
"""Kept in addition to the newest: the promoted one, the best, and the one where a replay starts."""


@dataclass(frozen=True)
class Needs:
    """What a run needs. In bytes, except where a field says otherwise."""

    base_params: int
    """Values in the base model."""
    trainable_params: int
    """Values that are trained."""
    peer_memory: int
    """Memory of a volunteer's machine that trains on its CPU."""
    gpu_memory: int
    """Memory of one that trains on a GPU, device and host together."""
    coordinator_memory: int
    blob: int
    """One contribution; approximate for a sparse codec."""
    up: int
    """Sent per round and peer, approximately: its own blob once and those of others forwarded."""
    down: int
    """Received per round and peer, at most: the others' blobs."""
    checkpoint: int
    """The tensors of one checkpoint."""
    forms: int
    """One promoted checkpoint merged and as GGUF, where the spec asks for them."""
    log_per_round: int
    """Contributions and close of one round."""
    log: int
    """Contributions that are kept, at most."""
    disk: int
    """Of the coordinator, at most: its checkpoints in all forms, and the log."""


@dataclass(frozen=True)
class MainWithinBest(Reason):
    """`main` is the newest checkpoint whose held-out loss is close to the best."""

    within: float
    """Share by which its loss may be above the best one."""


@dataclass(frozen=True)
class MainNewestUnevaluated(Reason):
    """`main` is the newest checkpoint: the spec asks for no evaluation."""


@dataclass(frozen=True)
class MainNewestNothingHeldOut(Reason):
    """`main` is the newest checkpoint: there is no text to evaluate on."""


MainPolicy = MainWithinBest | MainNewestUnevaluated | MainNewestNothingHeldOut
"""Which checkpoint will be called main."""


@dataclass(frozen=True)
class CheckReport:
    """A run that can start: what it needs and serves, and what should change."""

    spec: RunSpec
    peers: int
    """Volunteers that the numbers hold for."""
    uplink_mbit: float
    """Their upload speed, in Mbit/s."""
    needs: Needs
    exchange: float
    """Seconds that a round's exchange takes."""
    dataset: BuiltDataset
    recommendation: Recommendation
    warnings: Sequence[SpecWarning]
    main: MainPolicy
    model_licence: Redistributable | NotRedistributable
    data_licence: Redistributable | NotRedistributable
