"""A volunteer's published contribution, and the work that it still has to send. No network, no training.

What compression leaves out goes into the residual, which a later contribution sends. A pseudo-gradient that
missed its close returns to the local parameters (`LocalTraining.rebase`): there later steps take it into
account; from the residual it would be added to steps that repeat its work. A gradient that
missed its close goes into the residual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.field_types import MAX_LOSS, MAX_TOKENS
from barnraise.contract.pieces import pieces_hash
from barnraise.contract.records import Commit, blob_name
from barnraise.contract.sample_ranges import MAX_RANGES
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.contract.tip import Tip
from barnraise.core.identity import KEY_BYTES, Identity
from barnraise.core.ids import BlobHash, Round, blob_hash
from barnraise.core.signed import Signed, open_text, sign
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore, Intact, SetAside
from peer.training.trainer import Update
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle, ContributionState
from peer.volunteer.saved_state import Arrays, NotSaved, SavedState, SavedWork, Unchanged
from peer.volunteer.served_states import ServedStates

log = logging.getLogger("peer")

_SIGNER = 4 * (KEY_BYTES // 3)
"""Characters at the beginning of a signed record in base64 that show its signer."""


@dataclass(frozen=True)
class Encoded:
    """A contribution in memory."""

    blob: bytearray
    commit: Signed[Commit]


@dataclass
class ContributionStore:
    """Blob, commit and residual. Slow and synchronous: called in a thread, one call at a time."""

    charter: Charter
    identity: Identity
    saves: SavedState
    blobs: BlobStore
    lifecycle: ContributionLifecycle
    residual: dict[str, Array] = field(default_factory=dict)
    _commit: Signed[Commit] | None = None
    """The newest contribution's."""
    _missed: Decoder | None = None
    """The contribution that missed its close, until the training takes it back."""
    _folded: dict[Round, BlobHash] = field(default_factory=dict)
    """Our contributions to folded rounds whose blobs are here."""
    _before_start: dict[Round, BlobHash] = field(default_factory=dict)
    """Such contributions of earlier starts: `BlobRetention` does not know of them."""
    _is_saved: bool = False
    """The residual on disk holds all work that is owed."""
    _served: ServedStates = field(init=False)

    def __post_init__(self) -> None:
        self._served = ServedStates(self.blobs)

    @property
    def pending(self) -> Signed[Commit] | None:
        """Our contribution whose close is not known yet."""
        return self._commit if self.lifecycle.state is ContributionState.PENDING else None

    def load(self) -> SavedWork | NotSaved:
        """The saved work; its states are served. Raises StateError where it is damaged or of another run."""
        found = self.saves.load()
        self._served.serve(self.saves.state_files)
        return found

    def resume(self, saved: SavedWork) -> None:
        """Continue with saved work. Raises TrustError where another key signed it."""
        self.residual, self._is_saved = saved.residual, True
        self._before_start = {Round(round): BlobHash(name) for round, name in saved.folded}
        if saved.pending:
            pending = open_text(Commit, saved.pending, signer=self.identity.public)
            if self._is_intact(pending.value):
                self._commit = pending
                self.lifecycle.advance(ContributionEvent.RESUME)

    def encode(self, tip: Tip, layout: Layout, update: Update, admission: str) -> Encoded:
        """Turn an update into a blob and its commit; `keep` follows. Consumes the update.

        Raises StateError where the update is not finite.
        """
        charter = self.charter
        blob = encode_with_feedback(charter.spec.codec, update.tensors, self.residual, layout)
        self.residual, self._is_saved = update.tensors, False
        commit = Commit(
            run=charter.run,
            round=tip.round,
            base_state=tip.state,
            owner=self.identity.public,
            admission=admission,
            blob=blob_hash(blob),
            size=len(blob),
            pieces=pieces_hash(blob),
            tokens=min(update.tokens, MAX_TOKENS),
            samples=update.samples,
            loss=min(update.loss, MAX_LOSS),
            ranges=update.ranges[-MAX_RANGES:],
        )
        return Encoded(blob, sign(self.identity, commit))

    def keep(self, encoded: Encoded) -> Signed[Commit]:
        """Save a contribution so that a crash does not lose it. Raises DiskFull; it may be called again."""
        signed = encoded.commit
        self.blobs.put(encoded.blob)
        self._save_contribution(signed)
        self._commit = signed
        self.lifecycle.advance(ContributionEvent.SIGN)
        return signed

    def settle(self, layout: Layout, link: Link | None) -> None:
        """Advance the pending contribution, if there is one, by its round's close.

        What missed it is saved at once, because folding drops its blob. link: the round's close; None where
        the log does not reach back to it. Raises DiskFull.
        """
        pending = self.pending
        if pending is None:
            return
        sent, spec = pending.value, self.charter.spec
        if link is not None and any(commit.blob == sent.blob for commit in link.commits):
            self.lifecycle.advance(ContributionEvent.LIST)
            return
        if not self._is_intact(sent):
            self._give_up()
            return
        log.info(
            "our contribution to round %d missed its close and goes into the next; until one is in time,"
            " closes may not wait for us",
            sent.round,
        )
        missed = Decoder(self.blobs.get(blob_name(sent)), spec.codec, layout)
        if spec.train.method == "gradient":
            owed, event = _sum(self.residual, missed), ContributionEvent.OWE
            self.saves.save_contribution(owed, "", self._voidable())
            self.residual = owed
        else:
            event = ContributionEvent.MISS
            self.saves.save_contribution(_sum(self.residual, missed), "", self._voidable())
            self._missed = missed
        self._is_saved = True
        self.lifecycle.advance(event)

    @property
    def has_changed(self) -> bool:
        """Whether the pending blob's file is missing, or was written since its hash was checked."""
        pending = self.pending
        return pending is not None and not self.blobs.is_unchanged(blob_name(pending.value))

    def check_pending(self) -> None:
        """Give the pending contribution up where its blob was damaged or removed. Raises DiskFull."""
        pending = self.pending
        if pending is not None and self.has_changed and not self._is_intact(pending.value):
            self._give_up()

    def _give_up(self) -> None:
        self._save_contribution(None)
        self.lifecycle.advance(ContributionEvent.GIVE_UP)

    def _is_intact(self, commit: Commit) -> bool:
        """Whether the blob of our contribution is here. Slow: reads it."""
        found = self.blobs.check(blob_name(commit))
        if isinstance(found, Intact):
            return True
        was = f"was damaged (its bytes are in {found.path})" if isinstance(found, SetAside) else "is missing"
        log.warning("our contribution to round %d %s: it is given up, training goes on", commit.round, was)
        return False

    def hand_over(self) -> Decoder | None:
        """The contribution that missed its close, which the training takes back as it rebases."""
        missed, self._missed = self._missed, None
        self._is_saved &= missed is None
        return missed

    def put_aside(self, update: Update) -> None:
        """Keep work that cannot be published any more for the next start of the program."""
        self._is_saved = False
        for name, array in update.tensors.items():
            kept = self.residual.get(name)
            self.residual[name] = array if kept is None else np.add(kept, array, out=kept)
        self._save_contribution(self.pending)

    @property
    def names(self) -> set[BlobHash]:
        """Blobs that are still needed after a start of the program."""
        pending = set() if self.pending is None else {blob_name(self.pending.value)}
        return pending | set(self._before_start.values()) | self._served.names

    def folded(self, link: Link, checkpoint: Round) -> None:
        """Remember our contribution to a folded round: a resume may void the round.

        checkpoint: the round of the newest one. What is older is kept no longer.
        """
        for round in [known for known in self._before_start if known < checkpoint]:
            self.blobs.remove(self._before_start.pop(round))
        for commit in link.commits:
            if commit.owner == self.identity.public:
                self._folded[Round(commit.round)] = blob_name(commit)
        for round in [known for known, name in self._folded.items() if name not in self.blobs]:
            del self._folded[round]

    def take_back(self, round: Round, layout: Layout) -> list[Round]:
        """Owe our contributions to the rounds from `round` on again: their closes are void.

        They go into the residual, because the local parameters no longer stem from their states. Returns the
        rounds whose blobs are still here. Raises DiskFull.
        """
        names = {known: name for known, name in self._voidable() if known >= round}
        void = [known for known, name in names.items() if isinstance(self.blobs.check(name), Intact)]
        codec = self.charter.spec.codec
        for known in void:
            missed = Decoder(self.blobs.get(names[known]), codec, layout)
            self.residual = _sum(self.residual or zeros(layout), missed)
        for known in names:
            self._folded.pop(known, None)
            self._before_start.pop(known, None)
        if void:
            self._is_saved = False
            self._save_contribution(self.pending)
        return void

    def drop_void(self, folds: Callable[[int], bool]) -> None:
        """Drop what a rollback made void, and all that is owed from there. Raises DiskFull.

        folds: whether a round's contributions are in the run's state. A pending contribution is settled.
        """
        self.residual, self._missed = {}, None
        self._folded = {round: name for round, name in self._folded.items() if folds(round)}
        self._before_start = {round: name for round, name in self._before_start.items() if folds(round)}
        self._save_contribution(self.pending)

    def _voidable(self) -> tuple[tuple[Round, BlobHash], ...]:
        return tuple(sorted({**self._before_start, **self._folded}.items()))

    def save(
        self, tip: Tip, state: TrainState, inner: Arrays | Unchanged, certified: Certified | None = None
    ) -> None:
        """Save all that a restart from `state` needs. Raises DiskFull."""
        residual = Unchanged() if self._is_saved else self._owed()
        pending = _text(self.pending)
        self.saves.save_state(tip, state, residual, inner, pending, certified, self._voidable())
        self._is_saved = True
        self._served.serve(self.saves.state_files)

    def _save_contribution(self, pending: Signed[Commit] | None) -> None:
        self.saves.save_contribution(self._owed(), _text(pending), self._voidable())
        self._is_saved = True

    def _owed(self) -> dict[str, Array]:
        """All that a restart has to send again."""
        return self.residual if self._missed is None else _sum(self.residual, self._missed)


def readmitted(commit: Commit, admission: str) -> Commit:
    """The commit under an admission by another key: that of a key which was replaced counts no longer."""
    same = commit.admission[:_SIGNER] == admission[:_SIGNER]
    return commit if same else commit.model_copy(update={"admission": admission})


def _sum(residual: dict[str, Array], missed: Decoder) -> dict[str, Array]:
    return {name: tensor + missed.tensor(name) for name, tensor in residual.items()}


def zeros(layout: Layout) -> dict[str, Array]:
    """A residual in which nothing is owed."""
    return {name: np.zeros(shape, np.float32) for name, shape in layout}


def _text(pending: Signed[Commit] | None) -> str:
    return "" if pending is None else pending.text
