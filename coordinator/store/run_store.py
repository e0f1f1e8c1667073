"""The run store: the one writer of a run's journal, state and files.

Every change is made in this order: the event is journaled, then applied to the state, then files are removed.
A crash between two steps loses nothing: a restart applies the journal and removes what the state does not
name.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from barnraise.contract.certificates import Certificate, certify
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import tokens_after
from barnraise.contract.log_entries import Close, Entry, Unfolded, vote_on
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.records import Commit, Evaluation, JoinClaim, blob_name
from barnraise.contract.state import TrainState
from barnraise.core.errors import Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, short
from barnraise.core.signed import Signed, sign
from barnraise.fold.codec import blob_sizes
from barnraise.fold.log import Amendment, Link, Step, check_step
from barnraise.runtime.blob_store import BlobStore
from coordinator.run_folder import ARCHIVE, BLOBS
from coordinator.store.chance import chance_of
from coordinator.store.checkpoints import published_manifest, write_checkpoint
from coordinator.store.copies import Copies
from coordinator.store.events import (
    CheckpointPublished,
    CheckpointsDropped,
    CheckpointWritten,
    ContributionAccepted,
    ContributionsForgotten,
    EvaluationEnded,
    EvaluationReceived,
    EvaluationStarted,
    Journaled,
    Local,
    LogAmended,
    PeerAdmitted,
    RoundClosed,
    RoundFolded,
    RoundOpened,
    RunChartered,
    StateSaved,
    entered,
    payload_in,
)
from coordinator.store.journal import Journal
from coordinator.store.next_entry import close_of, resume_of
from coordinator.store.passing import fold_link, mean_loss, pass_over
from coordinator.store.restoring import Begin, Restoring
from coordinator.store.retention import blobs_of_dropped, blobs_of_replaced
from coordinator.store.run_state import RunState
from coordinator.store.standing_lists import keep_list
from coordinator.store.state_snapshot import snapshot_of
from coordinator.store.transitions import apply

log = logging.getLogger("coordinator.store.run_store")


@dataclass
class RunStore:
    """Slow where it folds or writes a checkpoint: the session does that in a thread.

    `snapshot` may be read from any thread: each read gives one consistent state. A decision that needs two
    facts takes both from one snapshot. `fold`, `write_checkpoint` and `publish` are called one at a time.
    """

    authority: Identity
    base: Path
    """Folder of the base model."""
    folder: Path
    """The coordinator's own folder."""
    blobs: BlobStore
    journal: Journal
    snapshot: RunState
    state: TrainState
    """State of `snapshot.tip`."""
    lost: tuple[Signed[Commit], ...] = ()
    """Contributions to the open round that were accepted before a restart, and whose blobs are lost."""
    _replaced: list[BlobHash] = field(default_factory=list)
    """Blobs of the manifest that the last published one replaced: a head may name it until the next one."""
    _writing: threading.RLock = field(default_factory=threading.RLock)
    """Held from the decision for an event, or for a removal, to its end: the session uses several threads."""

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
        signed = sign(authority, charter)
        before = RunState.before_events(signed)
        store = cls(authority, base, folder, BlobStore(folder / BLOBS), journal, before, genesis)
        store.write_checkpoint(now)
        store._record(RunChartered(now, signed))
        store.reopen(now)
        return store

    @classmethod
    def restore(
        cls,
        authority: Identity,
        charter: Signed[Charter],
        base: Path,
        folder: Path,
        journal: Journal,
        mirrors: Sequence[str] = (),
    ) -> RunStore:
        """The run that the journal records, from its newest intact checkpoint and the closes after it.

        mirrors: addresses of copies of the archive. Raises CopiesNeeded, and StateError when the journal is
        damaged or no copy of a file can exist. A state that was fetched from volunteers becomes a checkpoint.
        """
        blobs = BlobStore(folder / BLOBS)
        copies = Copies(blobs, folder / ARCHIVE, mirrors, journal.entry)
        restoring = Restoring(charter, base, blobs, copies, own=authority.public)
        snapshot = restoring.replay(journal.rows())
        start = restoring.begin(snapshot)
        store = cls(authority, base, folder, blobs, journal, snapshot, start.state, restoring.lost)
        store._go_on_from(start)
        restoring.drop_fetched()
        replay_from = restoring.replay_from(store.snapshot, start.tip.round)
        if replay_from > store.snapshot.replay_from:
            store.forget_contributions(replay_from, snapshot.opens)
        keep_list(blobs, RunState.before_events(charter), store.snapshot)  # a crash may have lost it
        store.remove([*restoring.named.files, *restoring.named.manifests])
        blobs.remove_stale_downloads(before=snapshot.opens / 1000)  # of earlier rounds
        return store

    @property
    def charter(self) -> Charter:
        return self.snapshot.charter

    @cached_property
    def blob_sizes(self) -> range:
        """Bytes that a contribution can have: the same for all of a run."""
        return blob_sizes(self.charter.spec.codec, self.state.layout)

    @cached_property
    def chance(self) -> float | None:
        """The loss of a model that knows nothing, in nats a token; None without the data's index."""
        return chance_of(self.charter, self.blobs)

    def reopen(self, now: Millis) -> None:
        """Start the TRAIN phase of the open round, again where it has started."""
        self._record(RoundOpened(now, self.snapshot.round))

    def admit(self, claim: Signed[JoinClaim], now: Millis) -> None:
        """Record a volunteer's name, consent to be named and instance, where they are new."""
        with self._writing:
            if self.snapshot.has_news(claim):
                self._record(PeerAdmitted(now, self.snapshot.round, claim))

    def accept(self, commit: Signed[Commit], now: Millis) -> None:
        """Record a contribution whose blob was checked: a restart keeps it.

        Raises Unreachable if the blob was removed since, with an earlier round that had the same blob.
        """
        with self._writing:
            if blob_name(commit.value) not in self.blobs:
                raise Unreachable("the blob was removed from the store", fix="It is fetched again.")
            self._record(ContributionAccepted(now, commit))

    def close(self, reason: str, now: Millis, turns: int = 1) -> Link:
        """Sign and journal the close of the open round. The next one opens at once. turns: as in `Close`."""
        with self._writing:
            close, commits = close_of(self.snapshot, reason, now, turns)
            link = Link(close, commits, self._certified(close))
            self._record(RoundClosed(now, link))
            if self.journal.snapshot_due:
                self.save(now)
        return link

    def candidate(self, reason: str, now: Millis, turns: int = 1) -> Close:
        """The close that would end the open round now, in the blob store. It counts once it is certified."""
        with self._writing:
            close, _ = close_of(self.snapshot, reason, now, turns)
            self.blobs.put(close.payload)
        return close

    def enter(self, step: Step) -> None:
        """Journal an entry that others certified, and remove what it leaves out.

        Raises BadSignature, StateError unless it continues the log.
        """
        with self._writing:
            run = self.snapshot
            check_step(run.position, step, self.charter)
            self.blobs.put(step.entry.payload)
            self._record(entered(step))
            self.remove(run.names() - self.snapshot.names())
            if isinstance(step, Link) and self.journal.snapshot_due:
                self.save(Millis(step.entry.at))

    def save(self, now: Millis) -> None:
        """Journal a snapshot, and prune what an older one covers. No contribution may be accepted yet."""
        with self._writing:
            run = self.snapshot
            saved = StateSaved(now, run.round, sign(self.authority, snapshot_of(run)))
            self.journal.extend([RunChartered(now, run.signed_charter).row(), saved.row()])
            self.journal.prune()

    def resume(self, now: Millis, *, after_epoch: int = 0) -> Amendment:
        """Begin an epoch: the run continues from here, and other ends of the epochs before are void.

        after_epoch: the latest epoch that anybody has seen. Raises StateError while a round is being folded.
        """
        with self._writing:
            return self.amend(resume_of(self.snapshot, now, after_epoch, self.authority.public), now)

    def amend(self, entry: Unfolded, now: Millis) -> Amendment:
        """Sign and journal an entry that the run key certifies alone, and remove what it leaves out."""
        with self._writing:
            before, amendment = self.snapshot, Amendment(entry, self._certified(entry))
            self._record(LogAmended(now, amendment))
            self.remove(before.names() - self.snapshot.names())
        return amendment

    def rebuild(self) -> None:
        """Compute the newest state again, after a rollback, as a restart does. Slow. Raises StateError."""
        copies = Copies(self.blobs, self.folder / ARCHIVE, (), self.journal.entry)
        signed, own = self.snapshot.signed_charter, self.authority.public
        self._go_on_from(Restoring(signed, self.base, self.blobs, copies, own=own).begin(self.snapshot))

    def _go_on_from(self, start: Begin) -> None:
        self.state = start.state
        self._note(RoundFolded(start.tip, start.tokens, None))
        if start.taken:  # the next start finds it as a checkpoint
            self.write_checkpoint(self.snapshot.opens)
        for step in start.steps:
            self._pass(step)

    def fold(self, link: Link) -> None:
        """Advance `state` by one close. Slow. Raises StateError; FileDamaged, and a restart then recovers."""
        before = self.snapshot
        tip, self.state = fold_link(before.tip, self.state, link, self.blobs, self.charter)
        tokens, loss = sum(commit.tokens for commit in link.commits), mean_loss(link)
        self._note(RoundFolded(tip, tokens_after(before.tokens, link.commits), loss))
        log.info(
            "round %d folded: %d contributions, %d tokens, training loss %.4f, state %s",
            link.close.round, len(link.commits), tokens, loss, short(tip.state),
        )  # fmt: skip

    def checkpoint_due(self) -> bool:
        """Whether the spec asks for a checkpoint of the newest state. The last state always gets one."""
        run = self.snapshot
        return run.tip.round % run.spec.checkpoint.every == 0 or run.lacks_last_checkpoint

    def write_checkpoint(self, now: Millis) -> Signed[Manifest]:
        """Put the files of `state` into the store, and drop what is not kept. Slow. Raises DiskFull."""
        run = self.snapshot
        signed = write_checkpoint(
            self.folder, run.charter, self.base, self.state, run.tip, run.tokens, self.authority, self.blobs
        )
        self.adopt_checkpoint(signed, now)
        return signed

    def adopt_checkpoint(self, signed: Signed[Manifest], now: Millis, *, shown: bool = False) -> None:
        """Keep a checkpoint whose files are in the store. shown: it is published, as every mean is."""
        self._record(CheckpointPublished(now, signed) if shown else CheckpointWritten(now, signed))
        self._forget(now)

    def start_evaluation(self, round: int, averaged: tuple[int, ...] = ()) -> None:
        """Keep the checkpoints of `round` and of the rounds `averaged` until `end_evaluation`."""
        self._note(EvaluationStarted(round, averaged))

    def end_evaluation(self) -> None:
        """Let retention drop what was evaluated."""
        self._note(EvaluationEnded())

    def publish(
        self, round: int, held_out: HeldOut | None, card_files: Mapping[str, bytes], now: Millis
    ) -> None:
        """Give a checkpoint its final manifest. card_files: its model card and figures, by file name."""
        before, named = self.snapshot.checkpoints[round], self.snapshot.position.successors
        signed = published_manifest(before.value, held_out, card_files, named, self.authority, self.blobs)
        self._record(CheckpointPublished(now, signed))
        self.remove(self._replaced)
        self._replaced = blobs_of_replaced(before, self.snapshot.manifests)
        self._forget(now)

    def evaluate(self, evaluation: Signed[Evaluation], now: Millis) -> None:
        """Record a vouched volunteer's evaluation: a restart keeps it. The same loss changes nothing."""
        with self._writing:
            if self.snapshot.has_other_loss(evaluation):
                self._record(EvaluationReceived(now, evaluation))

    def forget_contributions(self, before: int, now: Millis) -> None:
        """Drop the contributions of the rounds below `before`. Closes stay."""
        history = self.snapshot.history
        self._record(ContributionsForgotten(now, before))
        self.remove(history.only_before(before))

    def _forget(self, now: Millis) -> None:
        """Drop old contributions and checkpoints above what the spec keeps."""
        if (start := self.snapshot.next_replay_from()) > self.snapshot.replay_from:
            self.forget_contributions(start, now)
        run = self.snapshot
        dropped = CheckpointsDropped(run.outdated_checkpoints(), run.outdated_averages())
        if dropped.rounds or dropped.averages:
            self._note(dropped)
            removed = [signed for signed in run.manifests if signed not in self.snapshot.manifests]
            self.remove(blobs_of_dropped(removed, self.snapshot.manifests))

    def _certified(self, entry: Entry) -> Certificate:
        """Put an entry into the blob store, and certify it."""
        self.blobs.put(entry.payload)
        return certify([self.authority], vote_on(entry, ballot=0))

    def _pass(self, step: Step) -> None:
        run = self.snapshot
        if isinstance(step, Link) and run.position.folds(step.close.round):
            self.fold(step)
        else:
            self._note(RoundFolded(pass_over(run.tip, step, run), run.tokens, run.loss))

    def _record(self, event: Journaled) -> None:
        """Journal an event, then apply it. Raises DiskFull, StateError, and then nothing has happened."""
        with self._writing:
            self.journal.append(event.row(), payload_in(event))
            before, self.snapshot = self.snapshot, apply(self.snapshot, event)
            self.remove(keep_list(self.blobs, before, self.snapshot))

    def _note(self, event: Local) -> None:
        """Apply an event that has no row."""
        with self._writing:
            self.snapshot = apply(self.snapshot, event)

    def remove(self, blobs: Collection[BlobHash]) -> None:
        """Remove blobs in this order, except those that a checkpoint or a kept contribution needs."""
        with self._writing:  # no contribution is accepted between the decision and the removal
            needed = self.snapshot.names() if blobs else set()
            for blob in blobs:
                if blob not in needed:
                    self.blobs.remove(blob)
