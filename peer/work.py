"""A volunteer's own work: what it trained, what it sent, and what it still owes. No network.

Whatever the log does not take goes into the residual, and out again with a later contribution.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from barnraise.edge.blobstore import BlobStore
from barnraise.feedback import encode_with_feedback, take_back
from barnraise.identity import Identity
from barnraise.ids import Round
from barnraise.log import Link, Tip
from barnraise.records import Commit, blob_name
from barnraise.shards import Sample
from barnraise.signed import Signed, open_text, sign
from barnraise.spec import Charter
from barnraise.state import Array, TrainState
from peer.store import Saved, Store
from peer.trainer import Trainer

log = logging.getLogger("peer")


@dataclass
class Work:
    """Slow and synchronous: the volunteer calls it in a thread, one call at a time."""

    charter: Charter
    identity: Identity
    trainer: Trainer
    store: Store
    blobs: BlobStore
    residual: dict[str, Array] = field(default_factory=dict)
    pending: Signed[Commit] | None = None
    """Our contribution whose close is not known yet."""
    steps: int = 0
    """Steps taken in this round."""
    loss: float = 0.0
    """Training loss of the last step."""
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=5))
    """Tokens and seconds of the last steps."""

    def resume(self, saved: Saved) -> None:
        """Take up saved work. Raises StateError, TrustError where it is not ours or not whole."""
        self.trainer.import_inner(saved.inner)
        self.residual = saved.residual
        if saved.pending:
            pending = open_text(Commit, saved.pending, signer=self.identity.public)
            if blob_name(pending.value) in self.blobs:
                self.pending = pending

    def step(self, samples: Sequence[Sample]) -> int:
        """Take one step and return its trained tokens."""
        result = self.trainer.step(samples)
        self.loss = result.loss
        self.steps += 1
        return result.tokens

    @property
    def tokens(self) -> int:
        """Tokens trained in this round and not sent yet."""
        return self.trainer.tokens

    @property
    def tokens_per_second(self) -> float:
        seconds = sum(seconds for _, seconds in self.recent)
        return sum(tokens for tokens, _ in self.recent) / seconds if seconds else 0.0

    @property
    def step_seconds(self) -> float:
        """The longest of the last steps; 0 before the first."""
        return max((seconds for _, seconds in self.recent), default=0.0)

    def contribute(self, tip: Tip, state: TrainState, admission: str) -> None:
        """Turn the round's work into a blob and its commit, saved so that a crash loses neither."""
        update = self.trainer.take_update(state)
        codec = self.charter.spec.codec
        blob = encode_with_feedback(codec, update.tensors, self.residual, state.layout)
        self.residual = update.tensors
        commit = Commit(
            run=self.charter.run,
            round=tip.round,
            base_state=tip.state,
            owner=self.identity.public,
            admission=admission,
            blob=self.blobs.put(blob),
            size=len(blob),
            tokens=update.tokens,
            samples=update.samples,
            loss=update.loss,
        )
        self.pending = sign(self.identity, commit)
        self.store.save_contribution(tip, self.residual, self.pending.text)

    def settle(self, state: TrainState, link: Link | None) -> None:
        """Before leaving the round that starts from `state`: give back what its close did not take.

        link: the round's close; None where the log does not reach back to it.
        """
        if self.pending is not None:
            sent = self.pending.value
            if link is None or all(commit.blob != sent.blob for commit in link.commits):
                log.info("our contribution to round %d missed its close and goes into the next", sent.round)
                codec = self.charter.spec.codec
                take_back(codec, self.blobs.get(blob_name(sent)), self.residual, state.layout)
            self.pending = None
        elif self.tokens:
            log.info("what we trained since round %d began goes into the next", state.step)
            self._put_aside(state)

    def leave(self, tip: Tip, state: TrainState) -> None:
        """Keep for a later visit what was trained and could not be sent."""
        if self.tokens and self.pending is None:
            self._put_aside(state)
            self.store.save_contribution(tip, self.residual, "")

    def _put_aside(self, state: TrainState) -> None:
        """Move the work since `state` into the residual."""
        for name, array in self.trainer.take_update(state).tensors.items():
            kept = self.residual.get(name)
            self.residual[name] = array if kept is None else np.add(kept, array, out=kept)

    def begin(self, tip: Tip, state: TrainState) -> None:
        """Start a round from `state`, and save all that a restart needs."""
        self.trainer.load(state)
        self.steps = 0
        pending = self.pending.text if self.pending is not None else ""
        self.store.save_state(tip, state, self.residual, self.trainer.export_inner(), pending)

    def in_round(self, round: Round) -> bool:
        """Whether our contribution to `round` is out."""
        return self.pending is not None and self.pending.value.round == round
