"""What a volunteer sent and what it still owes. No network, no training.

What compression leaves out goes into the residual, and out again with a later contribution. A pseudo-gradient
that missed its close goes back into the parameters that are trained (`LocalTraining.go_over`): there later
steps take it into account, while from the residual it would be added to steps that did the same once more.
A gradient that missed its close goes into the residual.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from barnraise.contract.charter import Charter
from barnraise.contract.pieces import pieces_hash
from barnraise.contract.records import Commit, blob_name
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.identity import Identity
from barnraise.core.ids import Round
from barnraise.core.signed import Signed, open_text, sign
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore
from peer.training.trainer import Update
from peer.volunteer.saved_state import SavedState, SavedWork, Unchanged

log = logging.getLogger("peer")

Inner = Mapping[str, npt.NDArray[Any]]
"""The inner optimizer's state, as the trainer exports it."""


@dataclass
class ContributionStore:
    """Slow and synchronous: called in a thread, one call at a time."""

    charter: Charter
    identity: Identity
    store: SavedState
    blobs: BlobStore
    residual: dict[str, Array] = field(default_factory=dict)
    pending: Signed[Commit] | None = None
    """Our contribution whose close is not known yet."""
    missed: Decoder | None = None
    """One that missed its close, until the training has it back."""
    _saved: bool = False
    """The files say what is owed now."""

    def resume(self, saved: SavedWork) -> None:
        """Take up saved work. Raises TrustError where it is not ours."""
        self.residual, self._saved = saved.residual, True
        if saved.pending:
            pending = open_text(Commit, saved.pending, signer=self.identity.public)
            if blob_name(pending.value) in self.blobs:
                self.pending = pending

    def contribute(self, tip: Tip, layout: Layout, update: Update, admission: str) -> Signed[Commit]:
        """Turn an update into a blob and its commit, saved so that a crash loses neither."""
        codec = self.charter.spec.codec
        blob = encode_with_feedback(codec, update.tensors, self.residual, layout)
        self.residual = update.tensors
        commit = Commit(
            run=self.charter.run,
            round=tip.round,
            base_state=tip.state,
            owner=self.identity.public,
            admission=admission,
            blob=self.blobs.put(blob),
            size=len(blob),
            pieces=pieces_hash(blob),
            tokens=update.tokens,
            samples=update.samples,
            loss=update.loss,
        )
        self.pending = sign(self.identity, commit)
        self.store.save_contribution(self.residual, self.pending.text)
        self._saved = True
        return self.pending

    def settle(self, layout: Layout, link: Link | None) -> None:
        """Give back what a round's close did not take of ours.

        link: the round's close; None where the log does not reach back to it.
        """
        if self.pending is None:
            return
        sent, spec = self.pending.value, self.charter.spec
        if link is None or all(commit.blob != sent.blob for commit in link.commits):
            log.info("our contribution to round %d missed its close and goes into the next", sent.round)
            self.missed = Decoder(self.blobs.get(blob_name(sent)), spec.codec, layout)
            if spec.train.method == "gradient":
                self.residual, self.missed = self._owed(), None
            self._saved = False
        self.pending = None

    def hand_over(self) -> Decoder | None:
        """What missed its close, for the training to go on from."""
        missed, self.missed = self.missed, None
        self._saved &= missed is None
        return missed

    def put_aside(self, update: Update) -> None:
        """Keep for a later visit what was trained and could not be sent."""
        for name, array in update.tensors.items():
            kept = self.residual.get(name)
            self.residual[name] = array if kept is None else np.add(kept, array, out=kept)
        self.store.save_contribution(self._owed(), self._pending_text)
        self._saved = True

    def save(self, tip: Tip, state: TrainState, inner: Inner | Unchanged) -> None:
        """All that a restart from `state` needs."""
        residual = Unchanged() if self._saved else self._owed()
        self.store.save_state(tip, state, residual, inner, self._pending_text)
        self._saved = True

    def in_round(self, round: Round) -> bool:
        """Whether our contribution to `round` is out."""
        return self.pending is not None and self.pending.value.round == round

    def _owed(self) -> dict[str, Array]:
        """All that a restart has to send again."""
        if self.missed is None:
            return self.residual
        return {name: tensor + self.missed.tensor(name) for name, tensor in self.residual.items()}

    @property
    def _pending_text(self) -> str:
        return self.pending.text if self.pending is not None else ""
