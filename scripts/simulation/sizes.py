"""The sizes of all that a coordinator remembers, and the bounds that they have to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from barnraise.network.gossip_policy import MAX_COMMITS, ROUNDS_KEPT, RecordCache
from coordinator.rounds.coordinator_api import MAX_REFUSED, CoordinatorApi
from coordinator.rounds.fault_reports import KEPT
from coordinator.rounds.session import Session
from coordinator.store.retention import KEPT_ROUNDS
from coordinator.store.transitions import MAX_WAITING


@dataclass(frozen=True)
class Size:
    """How many entries one collection has, and at most."""

    entries: int
    bound: int


def sizes(session: Session, api: CoordinatorApi, cache: RecordCache, contributors: int) -> Mapping[str, Size]:
    """By name of the collection. contributors: keys that have contributed to the run."""
    store, intake = session.store, session.contributions.intake
    run = store.snapshot
    limit, kept = run.spec.round.max_contributions, run.spec.checkpoint.keep
    checkpoints = kept + 3  # and `main`, `best`, and where the replay begins
    return {
        "heartbeats": Size(len(cache._present), cache.limit),
        "rounds with commits in gossip": Size(len(cache._commits), ROUNDS_KEPT + 1),
        "commits in gossip": Size(
            sum(len(wires) for owners in cache._commits.values() for wires in owners.values()),
            (ROUNDS_KEPT + 1) * MAX_COMMITS,
        ),
        "contributions considered": Size(sum(len(wires) for wires in intake._states.values()), 4 * limit),
        "fetches": Size(len(session.contributions._fetches), limit),
        "accepted": Size(len(run.accepted), limit),
        "claims": Size(len(run.claims), 2 * MAX_WAITING + contributors),
        "sums of contributors": Size(len(run.history.earlier), contributors),
        "rounds whose contributions are kept": Size(
            len(run.history.kept), KEPT_ROUNDS + run.spec.checkpoint.every
        ),
        "instances": Size(len(session.instances), 4 * cache.limit),
        "refused claims": Size(len(api._refused), MAX_REFUSED),
        "fault reports": Size(len(api.faults._kept), KEPT),
        "checkpoints": Size(len(run.checkpoints), checkpoints),
        "published": Size(len(run.published), checkpoints),
        "evaluations": Size(len(run.evaluations), checkpoints),
    }
