"""The run store: its log, its state and its open round, kept so that a restart finds all of it again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import HeldOut, Manifest, open_manifest
from barnraise.contract.records import Close, Commit, Evaluation, Head, JoinClaim, blob_name, fold_order
from barnraise.contract.rounds import Window
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Tip, genesis_tip
from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, blob_hash, short
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.fold.codec import blob_sizes
from barnraise.fold.log import Link, advance, check_link
from barnraise.models.checkpoint_files import read_state
from barnraise.runtime.blob_store import BlobStore
from coordinator.run_folder import BLOBS
from coordinator.store.archive_content import ArchiveContent
from coordinator.store.checkpoints import settle_checkpoint, write_checkpoint
from coordinator.store.history import History
from coordinator.store.journal import Event, Journal, Kind, Replay
from coordinator.store.promotion import Standing, standing
from coordinator.store.retention import orphaned, outdated, replay_start

log = logging.getLogger("coordinator.store.run_store")


@dataclass(frozen=True)
class Score:
    """One point of the held-out curve."""

    tokens: int
    """Tokens folded up to there."""
    held_out: HeldOut


@dataclass
class RunStore:
    """Synchronous and slow where it folds: the session calls those parts in a thread, one at a time."""

    authority: Identity
    charter: Charter
    base: Path
    folder: Path
    blobs: BlobStore
    journal: Journal
    tip: Tip
    state: TrainState
    opens: Millis
    tokens: int
    """Tokens folded so far."""
    loss: float | None = None
    """Token-weighted training loss of the last close."""
    closes: list[BlobHash] = field(default_factory=list)
    accepted: dict[PublicKey, Signed[Commit]] = field(default_factory=dict)
    checkpoints: dict[int, Signed[Manifest]] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    """Rounds of the checkpoints that were evaluated, or could not be: those that everybody gets to see."""
    settling: int | None = None
    """Round of the checkpoint that is evaluated just now: it stays whatever comes meanwhile."""
    scores: dict[int, Score] = field(default_factory=dict)
    """How each checkpoint did that was ever evaluated, by round."""
    history: History = field(default_factory=History)
    replay_from: int = 0
    """Contributions of the rounds from this one on are kept."""
    evaluations: dict[int, dict[PublicKey, Signed[Evaluation]]] = field(default_factory=dict)
    """The newest evaluation of each vouched volunteer, by round, while the coordinator has none itself."""
    claims: dict[PublicKey, JoinClaim] = field(default_factory=dict)
    """The newest claim of everybody who was ever admitted."""
    _superseded: list[BlobHash] = field(default_factory=list)
    """Of checkpoints as they were before they were settled (again), which a head may still name."""

    @classmethod
    def begin(
        cls,
        authority: Identity,
        charter: Charter,
        genesis: TrainState,
        base: Path,
        folder: Path,
        journal: Journal,
        now: Millis,
    ) -> RunStore:
        """A new run: its charter and state[0] as the first checkpoint are journaled."""
        tip, blobs = genesis_tip(charter), BlobStore(folder / BLOBS)
        store = cls(authority, charter, base, folder, blobs, journal, tip, genesis, now, 0)
        store.write_checkpoint(now)
        journal.append(Event(Kind.CHARTERED, now, 0, sign(authority, charter).wire))
        store.reopen(now)
        return store

    @classmethod
    def restore(
        cls, authority: Identity, charter: Charter, base: Path, folder: Path, journal: Journal, replay: Replay
    ) -> RunStore:
        """Go on where the journal ends: the newest checkpoint, and what was closed after it.

        Raises StateError when files that the journal names are gone or damaged.
        """
        blobs = BlobStore(folder / BLOBS)
        try:
            manifests = {
                round: open_manifest(blobs.get(name), run=charter.run, authority=authority.public)
                for round, name in replay.checkpoints.items()
                if name in blobs
            }
            links = [check_link(blobs.get(name), charter, Round(r)) for r, name in enumerate(replay.closes)]
            newest = manifests[max(manifests)].value
            state = read_state(newest, charter.layout, blobs.path)
            opens = Millis(replay.opens or 0)
            store = cls(
                authority, charter, base, folder, blobs, journal, newest.tip, state, opens, newest.tokens,
                closes=list(replay.closes), checkpoints=manifests,
                settled=replay.settled.keys() & manifests.keys(), history=History.of(links),
                replay_from=replay.replay_from,
            )  # fmt: skip
            for link in links[newest.round :]:
                store.fold(link)
            shown = [
                open_manifest(wire, run=charter.run, authority=authority.public).value
                for wire in replay.settled.values()
            ]
            for manifest in shown:
                store._note(manifest)
            for wire in replay.evaluations:
                store._keep(open_signed(Evaluation, wire, signer=None))
            # What a crash may have kept from being removed:
            gone = [manifest for manifest in shown if manifest.round not in manifests]
            gone += [
                open_manifest(blobs.get(name), run=charter.run, authority=authority.public).value
                for name in replay.superseded
                if name in blobs
            ]
            kept = [signed.value for signed in manifests.values()]
            forgotten = store.history.drop_before(replay.replay_from)
            for blob in [*forgotten, *orphaned(gone, kept), *replay.superseded]:
                blobs.remove(blob)
            for wire in replay.claims:
                claim = open_signed(JoinClaim, wire, signer=None)
                store.claims[claim.signer] = claim.value
        except (FileNotFoundError, ValueError) as error:
            raise StateError(
                f"{folder} lacks files that its journal names: {error}",
                fix="Restore the folder from a backup; without it the run cannot go on.",
            ) from None
        for wire in replay.accepted:
            commit = open_signed(Commit, wire, signer=None)
            if blob_name(commit.value) in blobs:
                store.accepted[commit.signer] = commit
        return store

    @property
    def window(self) -> Window:
        return Window(Round(len(self.closes)), self.opens, self.charter.spec.round)

    @cached_property
    def blob_sizes(self) -> range:
        """Bytes that a contribution can have: the same for all of a run."""
        return blob_sizes(self.charter.spec.codec, self.state.layout)

    def reopen(self, now: Millis) -> None:
        """Begin the open round's TRAIN phase (again)."""
        self.journal.append(Event(Kind.OPENED, now, self.window.round, b""))
        self.opens = now

    def admit(self, claim: Signed[JoinClaim], now: Millis) -> None:
        """Remember who came, and whether cards may name them. A renewal that says the same is no news."""
        known = self.claims.get(claim.signer)
        if known is None or (known.name, known.credit) != (claim.value.name, claim.value.credit):
            self.journal.append(Event(Kind.ADMITTED, now, self.window.round, claim.wire))
            self.claims[claim.signer] = claim.value

    def accept(self, commit: Signed[Commit], now: Millis) -> None:
        """Its blob is in the store and was checked. From here on it is not lost."""
        self.journal.append(Event(Kind.ACCEPTED, now, commit.value.round, commit.wire))
        self.accepted[commit.signer] = commit

    def close(self, reason: str, now: Millis) -> Link:
        """Sign and journal the close of the open round; the next one opens at once."""
        round = self.window.round
        seed = self.charter.spec.seed
        ordered = sorted(self.accepted.values(), key=lambda entry: fold_order(seed, round, entry.signer))
        close = Close(
            run=self.charter.run,
            round=round,
            previous=self.tip.previous,
            base_state=self.tip.state,
            commits=tuple(entry.text for entry in ordered),
            at=now,
            reason=reason,
        )
        name = self.blobs.put(sign(self.authority, close).wire)
        self.journal.append(Event(Kind.CLOSED, now, round, bytes.fromhex(name)))
        self.closes.append(name)
        self.opens, self.accepted = now, {}
        link = Link(close, tuple(entry.value for entry in ordered), name)
        self.history.add(link)
        return link

    def fold(self, link: Link) -> None:
        blobs = [self.blobs.view(blob_name(commit)) for commit in link.commits]
        self.tip, self.state = advance(self.tip, self.state, link, blobs, self.charter)
        counts = [commit.tokens for commit in link.commits]
        self.tokens += sum(counts)
        self.loss = sum(commit.loss * commit.tokens for commit in link.commits) / sum(counts)
        log.info(
            "round %d folded: %d contributions, %d tokens, training loss %.4f, state %s",
            link.close.round, len(counts), sum(counts), self.loss, short(self.tip.state),
        )  # fmt: skip

    def checkpoint_due(self) -> bool:
        return self.tip.round % self.charter.spec.checkpoint.every == 0

    def write_checkpoint(self, now: Millis) -> Signed[Manifest]:
        """Put state[r] into the store, and drop what no kept checkpoint needs any more."""
        signed = write_checkpoint(
            self.folder,
            self.charter,
            self.base,
            self.state,
            self.tip,
            self.tokens,
            self.authority,
            self.blobs,
        )
        self.journal.append(
            Event(Kind.CHECKPOINTED, now, self.tip.round, bytes.fromhex(blob_hash(signed.wire)))
        )
        self.checkpoints[self.tip.round] = signed
        self._forget(now)
        return signed

    def unsettled(self) -> list[int]:
        return sorted(self.checkpoints.keys() - self.settled)

    def settle(self, round: int, held_out: HeldOut | None, about: Mapping[str, bytes], now: Millis) -> None:
        """A checkpoint as everybody gets to see it. about: files that tell about it, by name."""
        before = self.checkpoints[round]
        signed = settle_checkpoint(before.value, held_out, about, self.authority, self.blobs)
        self.journal.append(Event(Kind.SETTLED, now, round, signed.wire))
        self.checkpoints[round] = signed
        self.settled.add(round)
        self._note(signed.value)
        kept = [other.value for other in self.checkpoints.values()]
        needed = {entry.hash for manifest in kept for entry in manifest.files}
        for name in self._superseded:
            if name not in needed:
                self.blobs.remove(name)
        self._superseded = []
        if signed.wire != before.wire:  # the manifest last: while it is there, it tells which files were its
            self._superseded = [*orphaned([before.value], kept), blob_hash(before.wire)]
        if held_out is not None:
            self.evaluations.pop(round, None)
        self._forget(now)

    def unevaluated(self) -> list[int]:
        """Rounds of the checkpoints that are shown without a held-out loss."""
        return [round for round in sorted(self.settled) if self.checkpoints[round].value.held_out is None]

    def evaluate(self, evaluation: Signed[Evaluation], now: Millis) -> None:
        """Note what a vouched volunteer found. From here on it is not lost. What says the same is no news."""
        new = evaluation.value
        known = self.evaluations.get(new.round, {}).get(evaluation.signer)
        if known is None or (known.value.at < new.at and known.value.loss != new.loss):
            self.journal.append(Event(Kind.EVALUATED, now, new.round, evaluation.wire))
            self._keep(evaluation)

    def _keep(self, evaluation: Signed[Evaluation]) -> None:
        if evaluation.value.round in self.unevaluated():
            self.evaluations.setdefault(evaluation.value.round, {})[evaluation.signer] = evaluation

    def _note(self, manifest: Manifest) -> None:
        if manifest.held_out is not None:
            self.scores[manifest.round] = Score(manifest.tokens, manifest.held_out)

    def standing(self) -> Standing | None:
        """Which checkpoints are the promoted, the best and the newest; None before the first is settled."""
        losses = {
            round: manifest.held_out.loss if manifest.held_out else None
            for round in sorted(self.settled)
            for manifest in [self.checkpoints[round].value]
        }
        return standing(losses, self.charter.spec.checkpoint.promote_within) if losses else None

    def content(self, mirrors: Sequence[str]) -> ArchiveContent:
        """What the archive has to show. mirrors: addresses of other servers with a copy."""
        return ArchiveContent(
            charter=sign(self.authority, self.charter).wire,
            closes=tuple(self.closes),
            contributions={round: frozenset(blobs) for round, blobs in self.history.blobs.items()},
            replay_from=self.replay_from,
            checkpoints={round: self.checkpoints[round] for round in sorted(self.settled)},
            standing=self.standing(),
            mirrors=mirrors,
        )

    def _forget(self, now: Millis) -> None:
        """Drop old checkpoints, and contributions above what the spec keeps. Closes stay."""
        spec = self.charter.spec.checkpoint
        start = replay_start(self.replay_from, self.history.sizes(), self.settled, spec.log_gigabytes * 1e9)
        if start > self.replay_from:
            self.journal.append(Event(Kind.FORGOT, now, start, b""))
            self.replay_from = start
            for blob in self.history.drop_before(start):
                self.blobs.remove(blob)
        stands = self.standing()
        named = (stands.main, stands.best) if stands else ()
        needed = {round for round in (*named, self.replay_from, self.settling) if round is not None}
        manifests = {round: signed.value for round, signed in self.checkpoints.items()}
        rounds = outdated(manifests, spec.keep, needed)
        removed = [manifests.pop(round) for round in rounds]
        for round in rounds:  # the manifests first: one that is there has all of its files
            self.blobs.remove(blob_hash(self.checkpoints.pop(round).wire))
            self.settled.discard(round)
            self.evaluations.pop(round, None)
        for name in orphaned(removed, list(manifests.values())):
            self.blobs.remove(name)

    def newest_checkpoint(self) -> Signed[Manifest]:
        return self.checkpoints[max(self.checkpoints)]

    def head(
        self, now: Millis, bootstrap: tuple[str, ...], *, turns: int, volunteers: int, tokens: int
    ) -> Head:
        newest = self.newest_checkpoint()
        return Head(
            run=self.charter.run,
            round=self.window.round,
            close=self.closes[-1] if self.closes else None,
            state=self.tip.state if self.tip.round == self.window.round else None,
            opens=self.opens,
            turns=turns,
            volunteers=volunteers,
            tokens=tokens,
            checkpoint=blob_hash(newest.wire),
            checkpoint_round=newest.value.round,
            at=now,
            bootstrap=bootstrap,
        )
