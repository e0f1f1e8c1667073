"""A restart: the journal's run, with every file that it needs checked by its hash before it is used.

1. The state begins with the newest snapshot of the journal. Each close after it is read. One that is damaged
   or missing is taken from a copy (`Copies`).
2. Each file of the kept checkpoints is checked. A checkpoint that stays incomplete is dropped.
3. The state is that of the newest complete checkpoint, or state[0] from the base model; the contributions
   to later rounds are checked, and folded.
4. Contributions to earlier rounds, which others need for a replay, are searched for where they are missing.
   Where one is lost for good, the log can be replayed from a later checkpoint only.
5. Contributions that were accepted for the open round are checked. One that is lost is no longer accepted;
   the session fetches it again.

What 1 and 3 need and no archive has is raised as `CopiesNeeded`: volunteers may have it. Where contributions
are lost, or no checkpoint is left, 3 begins with a state of a later round that a close names and a volunteer
has served (`later_states`); the log can then be replayed from there only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.certificates import Certificate
from barnraise.contract.charter import Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.log_entries import certificate_in
from barnraise.contract.manifest import Manifest
from barnraise.contract.records import Commit
from barnraise.contract.tip import Tip, first_closers, genesis_tip
from barnraise.core.errors import StateError
from barnraise.core.ids import BlobHash, PublicKey, Round, RunId, blob_hash
from barnraise.core.signed import Signed
from barnraise.fold.log import Link, Step, Unreadable, read_step
from barnraise.fold.named_states import NamedState, named_states, wanted_state
from barnraise.models.checkpoint_files import read_state, read_tip
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore, SetAside, file_hash
from barnraise.runtime.files import write_atomic
from barnraise.runtime.stored_state import remove_state
from coordinator.messages.recovery import files_message, recovery_message
from coordinator.reasons.recovery import (
    CheckpointFile,
    CheckpointGivenUp,
    ContributionFile,
    EntryFile,
    FirstStateRecomputed,
    NeededFile,
    OlderContribution,
    OlderContributionsGivenUp,
    OwnFileRestored,
    RecoveryReason,
    StateTaken,
)
from coordinator.run_folder import CHAT_TEMPLATE
from coordinator.store.copies import Copies
from coordinator.store.events import ENTRIES, ContributionsLost, Row
from coordinator.store.later_states import LaterStates, Start, usable_states
from coordinator.store.retention import NamedBlobs
from coordinator.store.row_reader import (
    RowReader,
    certified_in,
    entry_file,
    open_own_snapshot,
    since_snapshot,
)
from coordinator.store.run_state import RunState
from coordinator.store.state_snapshot import state_of
from coordinator.store.transitions import apply, lost_checkpoints

log = logging.getLogger("coordinator.store.restoring")

OWN_FILES = (CHAT_TEMPLATE, ADAPTER_CONFIG)
"""Files of every checkpoint that the run's folder has as well."""


class CopiesNeeded(StateError):
    """Files without which the run cannot continue, and that no archive has."""

    def __init__(
        self, run: RunId, folder: Path, files: tuple[NeededFile, ...], later: LaterStates | None = None
    ) -> None:
        """later: states that take the place of the contributions among `files`, or of lost checkpoints."""
        names = files_message(files) or "a state that the log continues"
        super().__init__(
            f"{folder} and its archive lack {names}",
            fix="They are fetched from volunteers. --mirror or `coordinator restore` helps too.",
        )
        self.run, self.files, self.later = run, files, later


@dataclass(frozen=True)
class NoStart:
    """No state is here, and none can be computed."""

    tip: Tip
    """Where the log begins."""
    problem: str
    tokens: int = 0


@dataclass(frozen=True)
class Begin(Start):
    """How the state of the newest round is computed."""

    steps: tuple[Step, ...]
    """The log from there, with all contributions that it folds in the store."""
    taken: bool
    """The state was taken from a volunteer: no checkpoint has it."""


@dataclass
class Restoring:
    """One restart."""

    charter: Signed[Charter]
    base: Path
    blobs: BlobStore
    copies: Copies
    named: NamedBlobs = field(default_factory=NamedBlobs)
    """What the journal names."""
    lost: tuple[Signed[Commit], ...] = ()
    """Contributions to the open round that were accepted, and whose blobs are lost."""
    own: PublicKey | None = None
    """The key that signs this folder's snapshots; None: the run key."""
    _named: list[NamedState] = field(default_factory=list)
    """States of which blobs may be here: those that the log names behind the newest intact checkpoint."""

    def replay(self, rows: Iterable[Row]) -> RunState:
        """The state that the journal leads to, without what is lost. Raises CopiesNeeded."""
        saved, after = since_snapshot(rows)
        state, rows = self._state_in(saved), iter(after)
        try:
            reader = RowReader(self.charter.value, self.blobs, self._entry, self._signers)
            for event in reader.events(rows, state.position):
                self.named.add(event)
                state = apply(state, event)
        except CopiesNeeded as needed:
            rest = [entry_file(certified_in(row)) for row in rows if row.kind in ENTRIES]
            self._need((*needed.files, *(file for file in rest if not self.copies.ensure(file))))
        log.info("resuming with round %d", state.round)
        return self._without_lost(self._without_incomplete(state))

    @property
    def _signers(self) -> frozenset[PublicKey]:
        """Of checkpoints that a follower's journal may name, next to the run key."""
        own = () if self.own is None else (self.own,)
        return frozenset((*first_closers(self.charter.value), *own))

    def _state_in(self, saved: Row | None) -> RunState:
        """The state of a snapshot; that before all events where there is none."""
        if saved is None:
            return RunState.before_events(self.charter)
        snapshot = open_own_snapshot(saved, self.own, self._charter).value
        state = state_of(snapshot, self.charter, self._signers)
        contributions = (blob for blobs in state.history.kept for blob in blobs)
        self.named.add_kept(state.manifests, contributions)
        return state

    def begin(self, state: RunState) -> Begin:
        """Where to fold from, and the log from there.

        Raises CopiesNeeded; StateError where nothing is left that the log continues.
        """
        start = self._start(state)
        steps, taken = self._steps(state, start.tip.position.height), False
        self._named = named_states(start.tip.position, start.tokens, steps)
        while True:
            missing = self._missing(steps, state.position.folds) if isinstance(start, Start) else []
            if isinstance(start, Start) and not missing:
                if not taken and not _usable(state):
                    _report(FirstStateRecomputed())
                return Begin(start.tip, start.tokens, start.state, tuple(steps), taken)
            # Every state after the first gap leaves less to fetch; what is missing after it may be had.
            gap = min((file.commit.round for file in missing), default=state.replay_from - 1)
            later = self._later(state, gap)
            found = later.stored()
            if found is None:
                raise self._lacking(start, tuple(missing), later)
            _report(StateTaken(found.tip.round))
            steps = steps[found.tip.position.height - start.tip.position.height :]
            start, taken = found, True

    def drop_fetched(self) -> None:
        """Remove what was fetched of states that the log names: a checkpoint has the one that was taken."""
        for named in self._named:
            remove_state(wanted_state(named.tip, self._charter), self.blobs)

    def _later(self, state: RunState, gap: int) -> LaterStates:
        if self.own not in (None, *state.signers.run_keys):  # it cannot sign the checkpoint
            return LaterStates(self._charter, self.blobs)
        return LaterStates(self._charter, self.blobs, usable_states(self._named, gap))

    def _lacking(
        self, start: Start | NoStart, files: tuple[NeededFile, ...], later: LaterStates
    ) -> StateError:
        if isinstance(start, NoStart) and not later.named:
            return _hopeless(start.problem)
        return CopiesNeeded(self._charter.run, self.blobs.folder.parent, files, later)

    def _start(self, state: RunState) -> Start | NoStart:
        if usable := _usable(state):
            manifest = state.checkpoints[max(usable)].value
            self._restore_own_files(manifest)
            tip = read_tip(manifest, self.blobs.path)
            return Start(tip, manifest.tokens, read_state(manifest, self._charter.layout, self.blobs.path))
        genesis = genesis_tip(self._charter)
        if state.replay_from > 0:
            return NoStart(genesis, f"no checkpoint of round {state.replay_from} or later is intact")
        spec = self._charter.spec
        first = initial_state(self.base, spec.train.target, spec.seed)
        if first.hash() != self._charter.genesis:
            return NoStart(
                genesis, "no checkpoint is intact, and the base model's state[0] is not the charter's"
            )
        return Start(genesis, 0, first)

    def _steps(self, state: RunState, height: int) -> list[Step]:
        """The log from a height on."""
        logged = state.log[height:]
        files = (EntryFile(each.name, each.epoch, at) for at, each in enumerate(logged, height))
        unread = [file for file in files if not self.blobs.is_unchanged(file.name)]  # of before a snapshot
        self._need(tuple(file for file in unread if not self.copies.ensure(file)))
        payloads = [self.blobs.get(each.name) for each in logged]
        # The certificate of each entry is in the next one.
        certificates = [*map(certificate_in, payloads), state.certificate][1:]
        return [self._step(*pair) for pair in zip(payloads, certificates, strict=True)]

    def _missing(self, steps: list[Step], folds: Callable[[int], bool]) -> list[ContributionFile]:
        """Contributions that are folded by `steps`, and are neither here nor in a copy."""
        links = [step for step in steps if isinstance(step, Link) and folds(step.close.round)]
        files = [ContributionFile(commit) for link in links for commit in link.commits]
        return [file for file in files if not self.copies.ensure(file)]

    def replay_from(self, state: RunState, start: Round) -> int:
        """The first checkpoint from which others can replay the log: later than before where files are lost.

        start: the checkpoint that contains the contributions in question. They are not hashed, as the run
        does not need them: those who replay the log do that.
        """
        lost = [
            round
            for round, blobs in state.history.blobs.items()
            if round < start and not all(self._has_older(name, round, blobs[name]) for name in blobs)
        ]
        if not lost:
            return state.replay_from
        found = min(at for at in state.checkpoints if at > max(lost))
        _report(OlderContributionsGivenUp(found))
        return found

    def _has_older(self, name: BlobHash, round: int, size: int) -> bool:
        return name in self.blobs or self.copies.ensure(OlderContribution(name, round, size))

    def _step(self, payload: bytes, certificate: Certificate | None) -> Step:
        assert certificate is not None, "only the first entry of the log has none"
        step = read_step(payload, certificate, self._charter)
        assert not isinstance(step, Unreadable), "the journal was read"
        return step

    @property
    def _charter(self) -> Charter:
        return self.charter.value

    def _entry(self, votes: Certified) -> bytes:
        file = entry_file(votes)
        if not self.copies.ensure(file):
            self._need((file,))
        return self.blobs.get(file.name)

    def _need(self, files: tuple[NeededFile, ...]) -> None:
        if files:
            raise CopiesNeeded(self._charter.run, self.blobs.folder.parent, files)

    def _without_incomplete(self, state: RunState) -> RunState:
        """Without the checkpoints that retention dropped, and those that are damaged beyond repair."""
        state = apply(state, lost_checkpoints(state, lambda signed: not self._has_manifest(signed)))
        checked: dict[BlobHash, bool] = {}
        broken = lost_checkpoints(state, lambda signed: not self._has_files(signed.value, checked))
        for round in broken.rounds:
            _report(CheckpointGivenUp(round))
        for round in broken.averages:
            _report(CheckpointGivenUp(round, averaged=True))
        return apply(state, broken)

    def _has_manifest(self, signed: Signed[Manifest]) -> bool:
        """The manifest of a dropped checkpoint is missing; a damaged one is written again."""
        found = self.blobs.check(blob_hash(signed.wire))
        if isinstance(found, SetAside):
            self.blobs.put(signed.wire)
        return blob_hash(signed.wire) in self.blobs

    def _has_files(self, manifest: Manifest, checked: dict[BlobHash, bool]) -> bool:
        """checked: the files of other checkpoints, which may be the same."""
        for entry in manifest.files:
            name = BlobHash(entry.hash)
            if name not in checked:
                file = CheckpointFile(name, manifest.round, entry.name, entry.size, manifest.averaged)
                checked[name] = self.copies.ensure(file)
        return all(checked[BlobHash(entry.hash)] for entry in manifest.files)

    def _restore_own_files(self, manifest: Manifest) -> None:
        """Bring back what the folder has for all checkpoints, from one of them."""
        for entry in manifest.files:
            path, name = self.blobs.folder.parent / entry.name, BlobHash(entry.hash)
            if entry.name not in OWN_FILES or (path.is_file() and file_hash(path) == name):
                continue
            aside = self.blobs.set_file_aside(path) if path.exists() else None
            write_atomic(path, self.blobs.get(name))
            _report(OwnFileRestored(entry.name, aside))

    def _without_lost(self, state: RunState) -> RunState:
        accepted = state.accepted.values()
        self.lost = tuple(
            commit for commit in accepted if not self.copies.ensure(ContributionFile(commit.value))
        )
        return apply(state, ContributionsLost(tuple(PublicKey(commit.signer) for commit in self.lost)))


def _hopeless(problem: str) -> StateError:
    return StateError(
        problem,
        fix="Give --mirror with the address of a copy of the archive, or bring the files back from a backup:"
        " coordinator restore BACKUP FOLDER",
    )


def _usable(state: RunState) -> list[int]:
    """The rounds of checkpoints from which the log can be folded."""
    return [at for at in state.checkpoints if at >= state.replay_from and not state.position.is_void(at)]


def _report(reason: RecoveryReason) -> None:
    log.warning("%s", recovery_message(reason))
