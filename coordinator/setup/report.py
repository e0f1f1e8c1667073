"""What `coordinator check` finds out about a run."""

from __future__ import annotations

from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Layout
from barnraise.models.memory_estimate import ModelShape
from barnraise.rehearsal.outcomes import Rehearsal
from coordinator.reasons.dataset import BuiltDataset
from coordinator.reasons.setup import (
    CheckReport,
    MainNewestNothingHeldOut,
    MainNewestUnevaluated,
    MainPolicy,
    MainWithinBest,
)
from coordinator.setup.licences import check_licence
from coordinator.setup.needs import needs
from coordinator.setup.objections import RunFacts, find_objections
from coordinator.setup.pace import find_paces
from coordinator.setup.recommend import contributions, exchange_seconds, find_warnings, recommend


def make_report(
    spec: RunSpec,
    shape: ModelShape,
    tensors: Layout,
    dataset: BuiltDataset,
    rehearsal: Rehearsal,
    peers: int,
    uplink_mbit: float,
) -> CheckReport:
    """shape: of the base model. tensors: the layout of the trainable tensors."""
    found = needs(spec, shape, tensors, peers)
    exchange = exchange_seconds(found.blob, contributions(spec, peers), uplink_mbit)
    paces = find_paces(spec, shape, found.trainable_params, dataset.index, peers, exchange)
    return CheckReport(
        spec=spec,
        peers=peers,
        uplink_mbit=uplink_mbit,
        needs=found,
        exchange=exchange,
        dataset=dataset,
        rehearsal=rehearsal,
        recommendation=recommend(spec, tensors, peers, uplink_mbit),
        paces=paces,
        objections=find_objections(RunFacts(spec, shape, tensors, dataset, peers, paces[0])),
        warnings=find_warnings(spec, tensors, shape.width, peers, uplink_mbit),
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
