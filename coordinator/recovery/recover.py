"""Continues a run from what others hold: the log first, then what it names, then a resume."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.archive import INDEX
from barnraise.contract.certificates import Authorities
from barnraise.contract.charter import Charter
from barnraise.contract.invite import SCHEME, parse_invite
from barnraise.contract.tip import certifiers, first_closers, first_position
from barnraise.core.errors import NetworkError, StateError, TrustError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, RunId
from barnraise.core.signed import Signed
from barnraise.fold.log import Link, in_effect
from barnraise.network.address_book import Node
from barnraise.network.address_file import AddressFile
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from coordinator.messages.recovered_log import log_message
from coordinator.reasons.recovered_log import (
    AskingVolunteers,
    KeyReplaced,
    LogFound,
    NoLogHeld,
    OwnArchiveUnused,
    RunResumed,
)
from coordinator.reasons.recovery import ContributionFile
from coordinator.recovery.archive_copy import ArchiveCopy, ArchivedRun
from coordinator.recovery.beginning import Beginning, Recover
from coordinator.recovery.chain import Chain
from coordinator.recovery.closers_reached import check_closers
from coordinator.recovery.holders import Holders
from coordinator.recovery.opening import logged_successors, recorded_charter
from coordinator.recovery.rebuild import Rebuilt, rebuild_journal
from coordinator.run_folder import ARCHIVE, BLOBS, JOURNAL
from coordinator.store.completeness import journal_facts
from coordinator.store.copies import Copies
from coordinator.store.events import ENTRIES
from coordinator.store.journal import Journal
from coordinator.store.row_reader import certified_in, find_charter
from coordinator.store.run_store import RunStore
from coordinator.timing import Timing

log = logging.getLogger("coordinator")

StartNode = Callable[[Identity, RunId, BlobStore], Awaitable[Swarm]]
"""Starts this coordinator's node of the swarm."""


@dataclass(frozen=True)
class Recovery:
    """Of one run's folder. Synchronous."""

    folder: Path
    authority: Identity
    run: str
    clock: Callable[[], Millis]
    nodes: Sequence[Node] = ()
    """Others of the swarm that are dialled: volunteers and closers know this coordinator's old addresses."""
    reached: set[PublicKey] = field(default_factory=set)
    """Closers that answered."""

    def begin(self, beginning: Beginning) -> tuple[str, ...]:
        """As `from_source`, where a run is recovered."""
        return self.from_source(beginning.source) if isinstance(beginning, Recover) else ()

    def from_source(self, source: str | None) -> tuple[str, ...]:
        """Take the log of the archive in the folder and that of `source`, which may be the run's invite.

        Returns where copies of the run's files are. Raises UserError, Unreachable, TrustError, StateError.
        """
        self._from_own_archive()
        if source is None:
            return ()
        if not source.startswith(SCHEME):
            return (self.from_archive(source),)
        invite, charter = parse_invite(source), recorded_charter(self.folder)
        first = self.authority.public if charter is None else charter.signer
        if (invite.key, invite.run) != (first, self.run):
            raise UserError(
                f"the invite is of the run {invite.run} with the key {invite.key[:8]}; this is {self.run}"
                f" with {first[:8]}",
                fix="Give the invite of this run, or the folder or address of its archive, also"
                " where the key here is a successor and the journal is lost.",
            )
        return ()

    def from_archive(self, source: str) -> str:
        """Take an archive's log where it is longer; returns where copies of its files are.

        Raises UserError, Unreachable, TrustError, StateError, DiskFull.
        """
        copy = ArchiveCopy.at(source)
        found = copy.read_run(self.authority.public)
        start = self._fetch_contributions(copy, found)
        rebuilt = rebuild_journal(self.folder, found.chain, found.manifests, start, self.clock())
        _report_found(copy.location, found.chain, rebuilt)
        return copy.location

    async def ask_volunteers(self, node: StartNode, timing: Timing) -> None:
        """Take the longest log that volunteers hold where it is longer. Raises StateError, DiskFull."""
        blobs = BlobStore(self.folder / BLOBS)
        swarm = await node(self.authority, RunId(self.run), blobs)
        try:
            await swarm.guard(self.from_volunteers(swarm, blobs, timing))
        finally:
            await swarm.stop()

    async def from_volunteers(self, swarm: Swarm, blobs: BlobStore, timing: Timing) -> None:
        """As `ask_volunteers`, in a swarm that is running."""
        log.warning("%s", log_message(AskingVolunteers(timing.ask_holders)))
        charter, known, closers = await asyncio.to_thread(self._known)
        book = swarm.known_addresses()
        upkeep = AddressUpkeep(swarm, AddressFile(self.folder, book), self.authority.public, book.keys)
        await swarm.meet(self.nodes)
        holders = Holders(
            swarm,
            blobs,
            self.authority,
            RunId(self.run),
            timing.ask_holders,
            pause=timing.tick * 4,
            known=known,
            closers=closers,
            search=upkeep.search,
            reached=self.reached,
        )
        await holders.ask()
        found = await holders.longest(charter)
        if found is None:
            log.warning("%s", log_message(NoLogHeld()))
            return
        rebuilt = await asyncio.to_thread(rebuild_journal, self.folder, found, (), 0, self.clock())
        _report_found(None, found, rebuilt)

    def _from_own_archive(self) -> None:
        """Take the log of the archive in the run's own folder, where there is one that can be read."""
        if (self.folder / ARCHIVE / INDEX).is_file():
            try:
                self.from_archive(str(self.folder / ARCHIVE))
            except (TrustError, NetworkError, UserError, StateError) as error:
                log.warning("%s", log_message(OwnArchiveUnused(self.folder, error.problem)))

    def check_recovered(self) -> None:
        """Raises StateError where the journal still has no run: nobody held its log."""
        if recorded_charter(self.folder) is None:
            raise StateError(
                "nobody who was asked holds the log of this run",
                fix="Start this again while volunteers of the run are running, or give --recover-from the"
                " folder or the address of a copy of its archive. If there is none,"
                " `coordinator serve --new-run` begins a new run.",
            )

    def _known(self) -> tuple[Signed[Charter] | None, tuple[Authorities, ...], frozenset[PublicKey]]:
        """The charter in the journal, who may certify an entry without a delegation, and the closers that the
        charter names or that certified recorded entries.
        """
        with closing(Journal(self.folder / JOURNAL)) as journal:
            rows = list(journal.rows())
            successors = logged_successors(self.folder, journal, journal_facts(rows))
        signed = find_charter(rows, None)
        if signed is None:
            return None, (), frozenset()
        signers = (
            key for row in rows if row.kind in ENTRIES for key, _ in certified_in(row).certificate.signatures
        )
        closers = frozenset(map(PublicKey, (*first_closers(signed.value), *signers)))
        return signed, certifiers(signed.value, successors), closers

    def _fetch_contributions(self, copy: ArchiveCopy, found: ArchivedRun) -> int:
        """The round from which on all contributions are here: that of a checkpoint, or 0."""
        copies = Copies(BlobStore(self.folder / BLOBS), self.folder / ARCHIVE, (copy.location,))
        rounds = [signed.value.round for signed in found.manifests if found.chain.has(signed.value)]
        first = min(found.replay_from, max(rounds, default=0))  # the index is not signed
        lost = -1
        for step in in_effect(first_position(found.chain.charter.value), found.chain.steps):
            for commit in step.commits if isinstance(step, Link) else ():
                if commit.round >= first and not copies.fetch(ContributionFile(commit)):
                    lost = max(lost, commit.round)
        later = [round for round in rounds if round > lost]
        return first if lost < 0 else min(later, default=first)


def resume_after_recovery(
    store: RunStore,
    journal: Journal,
    now: Millis,
    reached: Collection[PublicKey] | None = None,
    *,
    after_epoch: int = 0,
) -> None:
    """Begin an epoch where the journal may lack rounds: others' ends of the log are void then.

    So does a successor that takes the place of the run key. reached: closers that answered; None: they are
    lost. Raises StateError where too few of them did, or where the log does not name the successor.
    """
    before = store.snapshot.run_key
    replaces = before != store.authority.public
    if journal.behind is None and not replaces:
        return
    if reached is not None:
        check_closers(store.snapshot.position.named, before, reached)
    resumed = store.resume(now, after_epoch=after_epoch)
    journal.mark_behind(None)
    log.warning("%s", log_message(RunResumed(resumed.entry.round, resumed.entry.epoch)))
    if replaces:
        log.warning("%s", log_message(KeyReplaced(before, store.authority.public)))


def _report_found(location: str | None, chain: Chain, rebuilt: Rebuilt) -> None:
    found = LogFound(location, chain.position.round, taken=rebuilt.entries, replaced=rebuilt.replaced)
    log.info("%s", log_message(found))
