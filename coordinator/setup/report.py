"""What `coordinator check` finds out about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Layout
from barnraise.core.reason import Reason
from coordinator.dataset.built import BuiltDataset
from coordinator.setup.licences import NotRedistributable, Redistributable, check_licence
from coordinator.setup.needs import Needs, needs
from coordinator.setup.recommend import (
    Recommendation,
    SpecWarning,
    contributions,
    exchange_seconds,
    find_warnings,
    recommend,
)


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


def make_report(
    spec: RunSpec, base_params: int, tensors: Layout, dataset: BuiltDataset, peers: int, uplink_mbit: float
) -> CheckReport:
    """base_params: values in the base model. tensors: the layout of the trainable tensors."""
    found = needs(spec, base_params, tensors, peers)
    return CheckReport(
        spec=spec,
        peers=peers,
        uplink_mbit=uplink_mbit,
        needs=found,
        exchange=exchange_seconds(found.blob, contributions(spec, peers), uplink_mbit),
        dataset=dataset,
        recommendation=recommend(spec, tensors, peers, uplink_mbit),
        warnings=find_warnings(spec, tensors, peers, uplink_mbit),
        main=_main_policy(spec, dataset),
        model_licence=check_licence(spec.model.licence, "model.licence"),
        data_licence=check_licence(spec.data.licence, "data.licence"),
    )


def _main_policy(spec: RunSpec, dataset: BuiltDataset) -> MainPolicy:
    if not spec.checkpoint.held_out_tokens:
        return MainNewestUnevaluated()
    if not dataset.held_out.shards:
        return MainNewestNothingHeldOut()
    return MainWithinBest(spec.checkpoint.promote_within)
