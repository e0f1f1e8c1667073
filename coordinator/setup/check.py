"""`coordinator check`: validates a run without starting it."""

from __future__ import annotations

import logging
from pathlib import Path

from barnraise.contract.spec import RunSpec
from barnraise.core.errors import UserError
from barnraise.core.ids import blob_hash
from barnraise.models.base_model import pin_revision, resolve
from barnraise.models.causal_lm import model_shape
from barnraise.models.trainable import layout
from coordinator.dataset.build import build
from coordinator.messages.dataset import build_step
from coordinator.reasons.setup import CheckReport
from coordinator.setup.check_forms import check_forms
from coordinator.setup.report import make_report

log = logging.getLogger("coordinator.setup.check")


def check(spec: RunSpec, cache: Path, peers: int, uplink_mbit: float) -> CheckReport:
    """Do all that `prepare` does for a run, and keep nothing.

    Raises SpecError, ModelUnavailable, DiskFull; DatasetError for data that cannot be trained on or that
    never trains the end of an answer; UserError for no peers.
    """
    if peers < 1:
        raise UserError(f"{peers} peers cannot train", fix="Plan for at least 1.")
    revision = pin_revision(spec.model.source, spec.model.revision, cache)
    base = resolve(spec.model.source, revision, cache, progress=log.info)
    check_forms(spec, base.path)
    tensors = layout(base.path, spec.train.target)
    dataset = build(spec, base.path, blob_hash, lambda step: log.info(build_step(step)))
    return make_report(spec, model_shape(base.path), tensors, dataset, peers, uplink_mbit)
