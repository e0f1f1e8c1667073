"""Random walks over the events of a run, and the laws that hold in each state, for tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import fold_order
from barnraise.contract.log_entries import Resume
from barnraise.contract.manifest import FileEntry, HeldOut, Manifest, position_fields
from barnraise.contract.records import Commit, Evaluation, JoinClaim, blob_name
from barnraise.contract.tip import Tip, genesis_tip
from barnraise.core.ids import BlobHash, Millis, Round, StateHash, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.runtime.blob_store import Absent, BlobCheck, BlobStore, Intact
from barnraise.runtime.files import Batch
from coordinator.reasons.recovery import CheckpointFile, RunFile
from coordinator.store.copies import Copies
from coordinator.store.events import (
    CheckpointPublished,
    CheckpointsDropped,
    CheckpointWritten,
    ContributionAccepted,
    ContributionsForgotten,
    ContributionsLost,
    EvaluationEnded,
    EvaluationReceived,
    EvaluationStarted,
    Event,
    LogAmended,
    PeerAdmitted,
    RoundClosed,
    RoundFolded,
    RoundOpened,
    StateSaved,
)
from coordinator.store.run_state import RunState
from coordinator.store.state_snapshot import snapshot_of
from tests.support import parts
from tests.support.parts import ADA, AUTHORITY, BEN, HASH_A, STRANGER

K = TypeVar("K")
V = TypeVar("V")

OWNERS = (ADA, BEN, STRANGER)


def check_laws(run: RunState) -> None:
    """Assert the laws in the docstring of `coordinator.store.run_state`, by number."""
    assert run.history.closed == run.round <= len(run.log) == run.position.height, "law 1"
    assert all(owner == commit.signer for owner, commit in run.accepted.items()), "law 2"
    assert all(commit.value.round == run.round for commit in run.accepted.values()), "law 2"
    assert all(at == signed.value.round <= run.round for at, signed in run.checkpoints.items()), "law 3"
    assert run.published <= run.checkpoints.keys(), "law 4"
    scored = {at: held_out for at in run.published if (held_out := run.held_out(at)) is not None}
    assert scored == {at: run.scores[at].held_out for at in scored}, "law 4"
    assert run.evaluations.keys() <= {*run.unevaluated}, "law 5"
    for round, found in run.evaluations.items():
        assert all(owner == each.signer for owner, each in found.items()), "law 5"
        assert all(round == each.value.round for each in found.values()), "law 5"
    assert run.history.kept_from == run.replay_from, "law 6"
    assert run.history.blobs.keys() == {*range(run.replay_from, run.round)}, "law 6"
    assert run.tip.round <= run.round, "law 7"


def check_growth(before: RunState, after: RunState) -> None:
    """Assert what it states of every transition."""
    assert after.log[: len(before.log)] == before.log
    assert after.history.closed >= before.history.closed
    assert after.replay_from >= before.replay_from
    assert after.scores.keys() >= before.scores.keys()


def durable(run: RunState) -> RunState:
    """`run` without what only local events change: a restart reads that from files, or starts without it."""
    return replace(run, tip=genesis_tip(run.charter), tokens=0, loss=None, evaluating=None)


class MemoryBlobs(BlobStore):
    """Blobs in memory."""

    def __init__(self) -> None:
        self.folder = Path("/memory/blobs")
        self.held: dict[BlobHash, bytes] = {}

    def __contains__(self, name: BlobHash) -> bool:
        return name in self.held

    def check(self, name: BlobHash) -> BlobCheck:
        return Intact() if name in self else Absent()

    def get(self, name: BlobHash) -> bytes:
        if name not in self.held:
            raise FileNotFoundError(name)
        return self.held[name]

    def put(self, data: bytes | bytearray, batch: Batch | None = None) -> BlobHash:
        name = blob_hash(data)
        self.held[name] = bytes(data)
        return name

    def remove(self, name: BlobHash) -> None:
        self.held.pop(name, None)


class MemoryCopies(Copies):
    """The files of checkpoints are not made in a walk, and count as intact."""

    def ensure(self, file: RunFile) -> bool:
        return isinstance(file, CheckpointFile) or file.name in self.blobs


@dataclass
class Walk:
    """Makes the next event of a run. Its blobs are those that a coordinator has after that event."""

    charter: Signed[Charter]
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def event(self, step: str, run: RunState, choice: int) -> Event | None:
        """The event of this step; None where `run` does not allow it. choice: which one of those possible."""
        return STEPS[step](self, run, choice)

    def next_event(self, step: str, run: RunState, choice: int) -> Event:
        """The event of this step, or of the first one after it in `STEPS` that `run` allows."""
        names = list(STEPS)
        found = (self.event(name, run, choice) for name in names[names.index(step) :])
        return next(event for event in found if event is not None)

    def now(self) -> Millis:
        """A later time at each call."""
        return Millis(parts.NOW + next(self._numbers))

    def admit(self, run: RunState, choice: int) -> Event | None:
        owner = OWNERS[choice % 3]
        claim = JoinClaim(
            run=parts.RUN,
            owner=owner.public,
            instance=parts.INSTANCE,
            name=f"peer {choice}",
            credit=choice % 2 == 0,
            at=self.now(),
        )
        return PeerAdmitted(self.now(), run.round, sign(owner, claim))

    def open(self, run: RunState, choice: int) -> Event | None:
        return RoundOpened(self.now(), run.round)

    def accept(self, run: RunState, choice: int) -> Event | None:
        return self._accept(run.round, choice)

    def accept_late(self, run: RunState, choice: int) -> Event | None:
        """For a round that was closed while the contribution was checked."""
        return self._accept(run.round - 1, choice) if run.round else None

    def _accept(self, round: int, choice: int) -> Event:
        owner = OWNERS[choice % 3]
        blob = self.blobs.put(f"contribution {next(self._numbers)}".encode())
        return ContributionAccepted(self.now(), sign(owner, parts.commit(owner, round=round, blob=blob)))

    def lose(self, run: RunState, choice: int) -> Event | None:
        if not run.accepted:
            return None
        owner, commit = _pick(run.accepted, choice)
        self.blobs.remove(blob_name(commit.value))
        return ContributionsLost((owner,))

    def close(self, run: RunState, choice: int) -> Event | None:
        if not run.accepted:
            return None
        seed, round = run.spec.seed, run.round
        commits: list[Signed[Commit]] = sorted(
            run.accepted.values(), key=lambda commit: fold_order(seed, round, commit.signer)
        )
        link = parts.link(
            commits,
            previous=run.position.previous,
            epoch=run.position.epoch,
            height=run.position.height,
            certificate=run.certificate,
        )
        self.blobs.put(link.close.payload)
        return RoundClosed(self.now(), link)

    def save(self, run: RunState, choice: int) -> Event | None:
        if run.accepted:
            return None
        return StateSaved(self.now(), run.round, sign(parts.AUTHORITY, snapshot_of(run)))

    def resume(self, run: RunState, choice: int) -> Event | None:
        if choice % 4:  # rarely
            return None
        amendment = parts.amendment(Resume, run.position, certificate=run.certificate)
        self.blobs.put(amendment.entry.payload)
        return LogAmended(self.now(), amendment)

    def fold(self, run: RunState, choice: int) -> Event | None:
        if run.tip.round == run.round:
            return None
        round = Round(run.tip.round + 1)
        tip = Tip(replace(run.position, round=round), StateHash(blob_hash(b"state %d" % round)))
        return RoundFolded(tip, run.tokens + run.history.tokens_of(run.tip.round), 2.5)

    def write(self, run: RunState, choice: int) -> Event | None:
        if run.tip.round in run.checkpoints:
            return None
        files = (FileEntry(name="weights", hash=blob_hash(b"weights %d" % run.tip.round), size=1),)
        manifest = Manifest(
            form="trained", run=parts.RUN, state=run.tip.state, charter=HASH_A, tokens=run.tokens,
            held_out=None, files=files, **position_fields(run.tip.position),
        )  # fmt: skip
        signed = sign(AUTHORITY, manifest)
        self.blobs.put(signed.wire)
        return CheckpointWritten(self.now(), signed)

    def publish(self, run: RunState, choice: int) -> Event | None:
        """A checkpoint after its evaluation, or one that volunteers evaluated: again."""
        waiting = [*run.unpublished, *run.unevaluated]
        if not waiting:
            return None
        round = waiting[choice % len(waiting)]
        held_out = None if choice % 2 else HeldOut(loss=2.0 + choice / 100, tokens=100)
        before = run.checkpoints[round]
        card = FileEntry(name="README.md", hash=blob_hash(f"card {choice}".encode()), size=1)
        files = (card, *(entry for entry in before.value.files if entry.name != card.name))
        signed = sign(AUTHORITY, before.value.model_copy(update={"held_out": held_out, "files": files}))
        if choice % 3 == 0:
            self.blobs.remove(blob_hash(before.wire))
        self.blobs.put(signed.wire)
        return CheckpointPublished(self.now(), signed)

    def evaluate(self, run: RunState, choice: int) -> Event | None:
        return self._evaluate(run.unevaluated, run, choice)

    def evaluate_late(self, run: RunState, choice: int) -> Event | None:
        """Of a checkpoint that got its held-out loss while the evaluation was checked."""
        evaluated = [round for round in sorted(run.published) if run.held_out(round) is not None]
        return self._evaluate(evaluated, run, choice)

    def _evaluate(self, rounds: list[int], run: RunState, choice: int) -> Event | None:
        if not rounds:
            return None
        round, owner = rounds[choice % len(rounds)], OWNERS[choice % 3]
        evaluation = Evaluation(
            run=parts.RUN, round=round, state=run.checkpoints[round].value.state, panel=HASH_A,
            owner=owner.public, loss=2.0 + choice / 100, tokens=100, at=self.now(),
        )  # fmt: skip
        return EvaluationReceived(self.now(), sign(owner, evaluation))

    def forget(self, run: RunState, choice: int) -> Event | None:
        later = [round for round in sorted(run.published) if round > run.replay_from]
        return ContributionsForgotten(self.now(), later[choice % len(later)]) if later else None

    def drop(self, run: RunState, choice: int) -> Event | None:
        if len(run.checkpoints) < 2:
            return None
        round, signed = _pick(run.checkpoints, choice)
        self.blobs.remove(blob_hash(signed.wire))
        return CheckpointsDropped((round,))

    def start_evaluation(self, run: RunState, choice: int) -> Event | None:
        return EvaluationStarted(run.unpublished[-1]) if run.unpublished else None

    def end_evaluation(self, run: RunState, choice: int) -> Event | None:
        return EvaluationEnded()


def _pick(mapping: Mapping[K, V], choice: int) -> tuple[K, V]:
    return list(mapping.items())[choice % len(mapping)]


STEPS: Mapping[str, Callable[[Walk, RunState, int], Event | None]] = {
    step.__name__: step
    for step in (
        Walk.lose, Walk.accept_late, Walk.evaluate_late, Walk.start_evaluation, Walk.end_evaluation,
        Walk.drop, Walk.forget, Walk.evaluate, Walk.publish, Walk.write, Walk.fold, Walk.close, Walk.accept,
        Walk.save, Walk.resume, Walk.open, Walk.admit,
    )
}  # fmt: skip
"""Each after those that it makes possible, so that a walk which cannot take a step moves the run on."""
