"""`coordinator check`: validates a run without starting it."""

from __future__ import annotations

import logging
from pathlib import Path

from barnraise.contract.spec import RunSpec
from barnraise.core.errors import UserError
from barnraise.core.ids import blob_hash
from barnraise.models.causal_lm import model_shape
from barnraise.models.fetching import NO_LIMIT, Limiter
from barnraise.models.trainable import layout
from barnraise.rehearsal.runner import rehearse
from coordinator.reasons.setup import CheckReport
from coordinator.setup.report import make_report
from coordinator.setup.resolve import Rehearse, resolve_run

log = logging.getLogger("coordinator.setup.check")


def check(
    spec: RunSpec,
    cache: Path,
    peers: int,
    uplink_mbit: float,
    rehearse: Rehearse = rehearse,
    limiter: Limiter = NO_LIMIT,
) -> CheckReport:
    """Do all that `prepare` does for a run, and keep nothing.

    Raises SpecError, ModelUnusable, ModelUnavailable, DiskFull; DatasetError for data that cannot be trained
    on or that never trains the end of an answer; UserError for no peers.
    """
    if peers < 1:
        raise UserError(f"{peers} peers cannot train", fix="Plan for at least 1.")
    run = resolve_run(spec, cache, blob_hash, log.info, rehearse, limiter)
    shape, tensors = model_shape(run.base.path), layout(run.base.path, spec.train.target)
    return make_report(run.spec, shape, tensors, run.dataset, run.rehearsal, peers, uplink_mbit)
