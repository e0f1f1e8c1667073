"""`peer evaluate`: measure the held-out loss of checkpoints that lack one, as an evaluator of the charter."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX, held_out_path, round_tag
from barnraise.contract.charter import Charter
from barnraise.contract.invite import Invite
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.records import Evaluation
from barnraise.contract.shards import MAX_INDEX_BYTES, DataIndex, parse_shard
from barnraise.core.errors import (
    HashMismatch,
    MachineError,
    NetworkError,
    RefusedError,
    StateError,
    TrustError,
    UserError,
)
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, blob_hash, short
from barnraise.core.reason import Reason
from barnraise.core.signed import sign
from barnraise.evaluation.failures import failure_message
from barnraise.evaluation.runner import Evaluated, evaluate_checkpoint
from barnraise.models.checkpoint_files import read_state
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import scratch_folder, write_atomic
from barnraise.runtime.waits import unless_stopped
from peer.archive.events import DownloadListener
from peer.archive.opening import open_archive
from peer.archive.reading import RunArchive
from peer.coordinator_client import connect
from peer.download.download import DownloadOptions, download_to_cache
from peer.download.events import DownloadEvent
from peer.timing import TIMING, Timing

SCRATCH = "evaluate"
"""The name of the scratch folder in the cache folder."""


@dataclass(frozen=True)
class NothingToEvaluate(Reason):
    """Every checkpoint has a held-out loss, or was tried before."""


@dataclass(frozen=True)
class EvaluationStarts(Reason):
    """The files are here, and the state is the signed one."""

    round: int


@dataclass(frozen=True)
class LossMeasured(Reason):
    """The evaluation goes to the coordinator next."""

    round: int
    loss: float
    """Nats per token."""


@dataclass(frozen=True)
class CoordinatorAnswered(Reason):
    """The coordinator's answer to an evaluation."""

    text: str


@dataclass(frozen=True)
class EvaluationFailed(Reason):
    """An error after which the program continues."""

    problem: str
    retry_seconds: float


EvaluationEvent = NothingToEvaluate | EvaluationStarts | LossMeasured | CoordinatorAnswered | EvaluationFailed


@dataclass
class Evaluator:
    """Evaluates the checkpoints of one run with one key."""

    invite: Invite
    identity: Identity
    cache: Path
    """For base models and downloaded files."""
    base: Path | None
    """The base model's folder or .gguf file, if the name in the spec does not lead to it."""
    listener: DownloadListener[EvaluationEvent | DownloadEvent]
    clock: Callable[[], float]
    """Seconds."""
    timing: Timing = TIMING
    max_download: int | None = None
    """As of `DownloadOptions`."""
    _tried: set[int] = field(default_factory=set, init=False)
    """Rounds of the checkpoints that were tried, with any result."""

    async def once(self) -> None:
        """Evaluate the checkpoints that lack a held-out loss, the newest first, and send the results.

        Raises UserError for a key that is not an evaluator's, MachineError if this machine cannot evaluate,
        RefusedError, Unreachable, TrustError, StateError, ModelUnavailable, DiskFull.
        """
        async with open_archive(str(self.invite), timing=self.timing) as archive:
            assert isinstance(archive, RunArchive), "an invite leads to a whole archive"
            _check_evaluator(archive.charter, self.identity)
            for manifest in await self._wanted(archive):
                self._tried.add(manifest.round)
                try:
                    await self._evaluate(archive, manifest)
                except NetworkError:
                    self._tried.discard(manifest.round)
                    raise

    async def until(self, stop: asyncio.Event) -> None:
        """Repeat `once` until `stop`, and report its errors. Raises UserError as `once` does."""
        await unless_stopped(stop, self._forever())

    async def _forever(self) -> None:
        while True:
            try:
                await self.once()
            except (NetworkError, TrustError, MachineError, RefusedError, StateError) as error:
                self.listener.report(EvaluationFailed(error.problem, self.timing.evaluate_poll))
            await asyncio.sleep(self.timing.evaluate_poll)

    async def _wanted(self, archive: RunArchive) -> list[Manifest]:
        """Checkpoints without a held-out loss that were not tried, the newest first."""
        repo = archive.index.repo("trained")
        manifests = [
            (await archive.manifest(revision, "trained")).value
            for revision in (reversed(repo.revisions) if repo is not None else ())
            if revision.round not in self._tried
        ]
        found = [manifest for manifest in manifests if manifest.held_out is None and not manifest.averaged]
        if not found:
            self.listener.report(NothingToEvaluate())
        return found

    async def _evaluate(self, archive: RunArchive, manifest: Manifest) -> None:
        options = DownloadOptions(
            str(self.invite),
            revision=round_tag(manifest.round),
            base=self.base,
            max_download=self.max_download,
        )
        got = await download_to_cache(
            options, self.cache, self.listener, self.clock, self.timing, with_base=False
        )
        try:
            await asyncio.to_thread(_check_state, manifest, archive.charter, got.folder)
            with scratch_folder(self.cache / SCRATCH) as held_out:
                held_out_set = await _fetch_held_out_set(archive, held_out)
                self.listener.report(EvaluationStarts(manifest.round))
                tokens = archive.charter.spec.checkpoint.held_out_tokens
                outcome = await evaluate_checkpoint(
                    got.folder,
                    base=got.base or got.folder,
                    held_out=held_out,
                    tokens=tokens,
                    attention=archive.charter.spec.model.attention,
                )
        finally:  # a run has many checkpoints
            await asyncio.to_thread(shutil.rmtree, got.folder)
        if not isinstance(outcome, Evaluated):
            raise MachineError(
                f"round {manifest.round} cannot be evaluated here: {failure_message(outcome)}",
                fix="Free some memory, or leave this checkpoint to the other evaluators.",
            )
        await self._send(manifest, held_out_set, outcome.held_out)

    async def _send(self, manifest: Manifest, held_out_set: BlobHash, found: HeldOut) -> None:
        self.listener.report(LossMeasured(manifest.round, found.loss))
        async with connect(self.invite, self.timing) as api:
            clock = await api.clock()  # the newest evaluation counts: this machine's clock may go back
            evaluation = Evaluation(
                run=self.invite.run, round=manifest.round, state=manifest.state, panel=held_out_set,
                owner=self.identity.public, loss=found.loss, tokens=found.tokens, at=clock(),
            )  # fmt: skip
            self.listener.report(CoordinatorAnswered(await api.evaluate(sign(self.identity, evaluation))))


def _check_evaluator(charter: Charter, identity: Identity) -> None:
    evaluators = charter.spec.checkpoint.evaluators
    if identity.public not in evaluators:
        raise UserError(
            f"your key is not among the {len(evaluators)} evaluators of {charter.run}: {identity.public}",
            fix="Choose another --data-dir if you have another key. Evaluators are fixed when a run begins:"
            " ask the maintainer to name your key in the next one.",
        )


def _check_state(manifest: Manifest, charter: Charter, folder: Path) -> None:
    """Check that the files hold the state to sign for. Raises StateError, MalformedBlob."""
    names = {entry.hash: entry.name for entry in manifest.files}
    read_state(manifest, charter.layout, lambda name: folder / names[name])


async def _fetch_held_out_set(archive: RunArchive, folder: Path) -> BlobHash:
    """The held-out samples that checkpoints are evaluated on, and the hash of their index.

    Raises Missing, Unreachable, MalformedBlob, MalformedRecord, HashMismatch, DiskFull.
    """
    source, blobs = archive.source, BlobStore(folder)
    wire = await source.get_small(held_out_path(HELD_OUT_INDEX), MAX_INDEX_BYTES)
    index, tokens = DataIndex.from_bytes(wire), 0
    for ref in index.shards:
        data = await source.get_small(held_out_path(ref.hash), ref.size)
        if blobs.put(data) != ref.hash:
            raise HashMismatch(
                f"{source.name} sends other bytes as the held-out shard {short(ref.hash)}",
                fix="Report it to the run's maintainer.",
            )
        tokens += int(parse_shard(data, index.sequence_length, index.vocab_size).trained.sum())
        if tokens >= archive.charter.spec.checkpoint.held_out_tokens:
            break
    write_atomic(folder / HELD_OUT_INDEX, wire)
    return blob_hash(wire)
