"""From a closed round to the job of the auditing program: slow, called in a thread."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from safetensors.numpy import save_file

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.audit_figures import MILLION
from barnraise.contract.audit_report import MAX_RESULTS
from barnraise.contract.records import blob_name
from barnraise.contract.shards import DataIndex
from barnraise.contract.standing import Standing
from barnraise.contract.state import TrainState
from barnraise.contract.weights import weigh_commits
from barnraise.core.errors import FileDamaged, MalformedBlob
from barnraise.core.ids import BlobHash, Millis, PublicKey
from barnraise.evaluation.audit_job import AuditJob, SecretSample, Tried
from barnraise.fold.aggregators import Contribution, taken_of
from barnraise.fold.codec import Decoder
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import disk_errors
from coordinator.audits.choose import (
    FEWEST_SAMPLES,
    Budget,
    assigned,
    audited_keys,
    secret_random,
    secret_samples,
)
from coordinator.audits.ledger import Ledger
from coordinator.audits.ledger_file import LedgerFile
from coordinator.reasons.audits import BudgetSaved, FilesMissing, NoSecretSamples, NotAudited
from coordinator.run_folder import HELD_OUT
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore

STATE_FILE = "state.safetensors"
SKETCH_SEED_BITS = 63


@dataclass(frozen=True)
class ClosedRound:
    """A round whose contributions may be audited."""

    link: Link
    state: TrainState
    """From which they started."""
    seen: Mapping[BlobHash, Millis]
    """When the commit of each blob was first seen."""

    @property
    def owners(self) -> tuple[PublicKey, ...]:
        """Of its contributions."""
        return tuple(PublicKey(commit.owner) for commit in self.link.commits)

    @property
    def base_state(self) -> str:
        """Hash of the state."""
        return self.link.close.base_state

    @property
    def sizes(self) -> dict[str, int]:
        """Of its blobs."""
        return {commit.blob: commit.size for commit in self.link.commits}


def standings_of(run: RunState, keys: tuple[PublicKey, ...]) -> dict[PublicKey, Standing]:
    """What the log says of each key."""
    return {key: run.standing(key) for key in keys}


def prepare(
    closed: ClosedRound, store: RunStore, ledger: Ledger, budget: Budget, file: LedgerFile, work: Path
) -> AuditJob | NotAudited:
    """The job, whose files are in `work`; or why the round is not audited. Raises DiskFull."""
    run, round, secret = store.snapshot, closed.link.close.round, file.secret()
    levels = {key: each.level for key, each in standings_of(run, closed.owners).items()}
    history = closed.link.hash  # a round that is void, and closed again, draws others
    draw = secret_random(secret, f"keys/{history}", round)
    try:
        taken = _taken(closed, run, store.blobs)
        clipped = {owner for owner, share in zip(closed.owners, taken, strict=True) if share < MILLION}
        chosen = audited_keys(levels, ledger.suspicious | clipped, draw, ledger.least_drawn)
        count = budget.samples_for(len(chosen))
        if count is None:
            return BudgetSaved(len(chosen))
        index = DataIndex.from_bytes(store.blobs.get(store.charter.data_index_hash))
        samples = _samples(closed, store, index, count, secret)
    except (FileDamaged, FileNotFoundError, MalformedBlob, ValueError):  # an empty file cannot be mapped
        return FilesMissing()
    if not samples:
        return NoSecretSamples()
    tried = tuple(
        Tried(
            key=commit.owner,
            blob=commit.blob,
            path=str(store.blobs.path(blob_name(commit))),
            audited=PublicKey(commit.owner) in chosen,
            trusted=levels[PublicKey(commit.owner)] == "trusted",
            taken=share,
            seen=closed.seen.get(blob_name(commit)),
        )
        for commit, share in zip(closed.link.commits[:MAX_RESULTS], taken, strict=False)
    )
    paths = {*(each.path for each in tried), *(each.path for each in samples)}
    if not all(Path(path).is_file() for path in paths):
        return FilesMissing()
    with disk_errors(work):
        save_file(closed.state.params, work / STATE_FILE)
    return AuditJob(
        base=str(store.base),
        spec=run.spec,
        round=round,
        state=str(work / STATE_FILE),
        sequence_length=index.sequence_length,
        vocab_size=index.vocab_size,
        contributions=tried,
        samples=samples,
        sketches=str(file.sketches),
        seed=secret_random(secret, "sketches", 0).getrandbits(SKETCH_SEED_BITS),
        threads=max(1, (os.cpu_count() or 1) // 2),
    )


def _taken(closed: ClosedRound, run: RunState, blobs: BlobStore) -> tuple[int, ...]:
    """Millionths of each contribution that a fold would take, if its key had a weight. They are mapped, not
    read: together they may be larger than memory.
    """
    commits = closed.link.commits
    weighed = weigh_commits(commits, run.position.standings, run.spec.trust)
    return taken_of(
        run.spec.aggregate,
        [
            Contribution(
                Decoder(blobs.view(blob_name(commit)), run.spec.codec, closed.state.layout),
                1,
                each.tokens or commit.tokens,
                each.trusted,
            )
            for commit, each in zip(commits, weighed, strict=True)
        ],
    )


def _samples(
    closed: ClosedRound, store: RunStore, index: DataIndex, count: int, secret: bytes
) -> tuple[SecretSample, ...]:
    taken = assigned(closed.link.commits, store.charter.spec.seed, index.shard_sizes)
    draw = secret_random(secret, f"samples/{closed.link.hash}", closed.link.close.round)
    places = secret_samples(taken, index.shard_sizes, count, draw)
    found = tuple(
        each.model_copy(update={"shard": shard})
        for (shard, _), each in zip(places, _placed(places, index, store.blobs), strict=True)
    )
    if len(found) >= FEWEST_SAMPLES:
        return found
    return (*found, *_held_out(store.folder / HELD_OUT, count - len(found), draw))


def _held_out(folder: Path, count: int, draw: Random) -> tuple[SecretSample, ...]:
    """Of a small dataset all samples may be assigned; nobody trains on the held-out ones."""
    try:
        index = DataIndex.from_bytes((folder / HELD_OUT_INDEX).read_bytes())
    except (OSError, MalformedBlob):
        return ()
    return _placed(secret_samples(set(), index.shard_sizes, count, draw), index, BlobStore(folder))


def _placed(
    places: Iterable[tuple[int, int]], index: DataIndex, blobs: BlobStore
) -> tuple[SecretSample, ...]:
    paths = [str(blobs.path(ref.blob)) for ref in index.shards]
    return tuple(SecretSample(path=paths[shard], row=row) for shard, row in places)
