"""Fetches the contributions that are announced for the open round; the run store gets the valid ones."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from barnraise.contract.records import Commit, blob_name, wanted
from barnraise.core.errors import TrustError, Unreachable
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round
from barnraise.core.signed import Signed
from barnraise.fold.log import check_blob
from barnraise.network.swarm import Swarm
from barnraise.runtime.peer_faults import BY_DATA, PeerFaults
from coordinator.messages.rounds import refusal_message
from coordinator.reasons.rounds import InvalidBlob, RefusalReason
from coordinator.rounds.commit_check import Fits, Misfit, check_commit
from coordinator.rounds.intake import Intake
from coordinator.rounds.membership import Membership
from coordinator.rounds.places import places
from coordinator.store.named_blobs import named_by_run
from coordinator.store.run_store import RunStore
from coordinator.timing import Timing

log = logging.getLogger("coordinator")


@dataclass
class Contributions:
    """The fetches of the open round's contributions. `Intake` decides which to start."""

    store: RunStore
    swarm: Swarm
    clock: Callable[[], Millis]
    timing: Timing
    faults: PeerFaults = field(default_factory=lambda: PeerFaults(log))
    intake: Intake = field(init=False)
    _fetches: dict[asyncio.Task[None], BlobHash] = field(default_factory=dict)
    """The blob that each fetches."""
    _foreign: dict[BlobHash, Round] = field(default_factory=dict)
    """Blobs that were not in the store when a fetch of them started, and are not accepted, with the round."""
    _seen: dict[BlobHash, Millis] = field(default_factory=dict)
    """When the commit of each blob was first seen in this round."""
    _is_listed: Callable[[BlobHash], bool] = lambda _: False

    def __post_init__(self) -> None:
        self.intake = Intake(self.timing)

    def keep_where(self, is_listed: Callable[[BlobHash], bool]) -> None:
        """Never remove a blob that a close lists on which closers may yet agree."""
        self._is_listed = is_listed

    @property
    def pending(self) -> frozenset[PublicKey]:
        """As of `Intake.pending`."""
        return self.intake.pending

    def consider(self, announced: Iterable[Signed[Commit]], members: Membership, now: Millis) -> None:
        """Start a fetch for each new commit that fits the open round; refuse the others, once."""
        run = self.store.snapshot
        self._remove_where(lambda blob: self._foreign[blob] < run.round)
        open_to = places(run, members.presences, self.pending)
        for commit in open_to.order(announced):
            owner = commit.signer
            listed = run.position.standings.lists(owner, run.spec.trust)
            left_out = owner in self.faults or owner in run.accepted or not listed
            if left_out or not self.intake.wants(commit) or not open_to.has(owner):
                continue
            with self.faults.contain("a commit", owner):
                self._check(commit, members, now)
            open_to = replace(open_to, pending=self.pending)

    def raise_failures(self) -> None:
        """Raise the errors of ended fetches that their contribution does not cause: DiskFull, StateError."""
        for fetch in [fetch for fetch in self._fetches if fetch.done()]:
            del self._fetches[fetch]
            fetch.result()

    def restart(self) -> None:
        """As `Intake.restart`."""
        self.intake.restart()

    def first_seen(self) -> Mapping[BlobHash, Millis]:
        """When the commit of each blob was first seen; the next round begins without any."""
        found, self._seen = self._seen, {}
        return found

    def cancel(self) -> None:
        """End all fetches."""
        for fetch in self._fetches:
            fetch.cancel()

    async def wait(self) -> None:
        """Until every fetch that is running now has ended."""
        await asyncio.gather(*self._fetches, return_exceptions=True)

    def _check(self, commit: Signed[Commit], members: Membership, now: Millis) -> None:
        run, sizes = self.store.snapshot, self.store.blob_sizes
        length = run.spec.data.sequence_length
        match check_commit(commit.value, run.window, now, run.tip.state, sizes, length):
            case Fits():
                self.intake.start(commit)
                self._seen.setdefault(blob_name(commit.value), now)
                self._fetches[asyncio.create_task(self._fetch(commit, members))] = blob_name(commit.value)
            case Misfit(reason):
                self._refuse(commit, reason, members)

    async def _fetch(self, commit: Signed[Commit], members: Membership) -> None:
        try:
            await self._take(commit, members)
        except Unreachable as error:
            name = members.name(commit.signer)
            refused = self.intake.fail(commit, error.problem)
            if refused is not None:
                self._log_refusal(name, refused)
            else:
                log.info("%s: %s; it is fetched again", name, error.problem)
                await asyncio.sleep(self.timing.retry)
        finally:
            self.intake.end(commit)

    async def _take(self, commit: Signed[Commit], members: Membership) -> None:
        """Fetch, check and accept a contribution, or refuse it. Raises Unreachable."""
        store, name = self.store, blob_name(commit.value)
        if name not in store.blobs:  # a commit may name a shard of the dataset
            self._foreign[name] = store.snapshot.round
        holders = members.working_on(store.snapshot.round)
        try:
            path = await self.swarm.fetch_pieces(wanted(commit.value), [commit.signer, *holders])
            blob = await asyncio.to_thread(path.read_bytes)
            await asyncio.to_thread(check_blob, commit.value, blob, store.charter, store.state.layout)
        except FileNotFoundError:  # the store dropped an earlier round with the same blob
            raise Unreachable("the blob was removed from the store", fix="It is fetched again.") from None
        except TrustError as error:
            self._refuse(commit, InvalidBlob(error.problem), members)
            self._remove_where(lambda blob: blob == name, but=1)
            return
        except BY_DATA as error:
            self.faults.record("a contribution", error, commit.signer)
            self._refuse(commit, InvalidBlob(f"{type(error).__name__}: {error}"), members)
            self._remove_where(lambda blob: blob == name, but=1)
            return
        run = store.snapshot
        banned = run.position.standings.bans(commit.signer)
        has_place = places(run, members.presences, self.pending).has(commit.signer)
        if banned or commit.value.round != run.round or not has_place:
            self._remove_where(lambda blob: blob == name, but=1)
            return
        store.accept(commit, self.clock())
        self._foreign.pop(name, None)
        log.info("accepted %s: %d tokens", members.name(commit.signer), commit.value.tokens)

    def _remove_where(self, is_meant: Callable[[BlobHash], bool], but: int = 0) -> None:
        """Remove blobs of contributions that were refused or came too late from the store.

        One stays where it was there before, where a close of others lists it, where the run itself names it,
        and where another fetch of it runs: a commit may copy the blob hash of another's contribution, or of a
        file of the run, and describe it wrongly. but: fetches of the blob that do not count.
        """
        running = Counter(blob for fetch, blob in self._fetches.items() if not fetch.done())
        meant = {blob for blob in self._foreign if is_meant(blob) and running[blob] <= but}
        for blob in meant:
            del self._foreign[blob]
        if meant:
            kept = named_by_run(self.store.snapshot, self.store.blobs)
            self.store.remove([blob for blob in meant - kept if not self._is_listed(blob)])

    def _refuse(self, commit: Signed[Commit], reason: RefusalReason, members: Membership) -> None:
        self.intake.refuse(commit, reason)
        self._log_refusal(members.name(commit.signer), reason)

    def _log_refusal(self, name: str, reason: RefusalReason) -> None:
        log.warning("refused the contribution of %s: %s", name, refusal_message(reason))
