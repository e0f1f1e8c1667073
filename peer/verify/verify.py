"""`peer verify`: prove that a checkpoint is the result of its run's log, from any source.

Only the run's key is trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from barnraise.contract.archive import CHARTER, place_of, round_tag, tag_of
from barnraise.contract.charter import Charter
from barnraise.contract.evaluations import EVALUATIONS
from barnraise.contract.invite import SCHEME
from barnraise.contract.manifest import Manifest
from barnraise.contract.spec import Lora
from barnraise.contract.standing import STANDINGS_FILE
from barnraise.contract.state import Layout, TrainState
from barnraise.core.errors import (
    MalformedRecord,
    ModelUnavailable,
    SpecError,
    UserError,
)
from barnraise.core.ids import BlobHash, StateHash
from barnraise.fold.adapter_init import initial_adapter
from barnraise.fold.replay import Cause, Difference, Replay
from barnraise.models.checkpoint_files import read_tip
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.runtime.files import scratch_folder
from peer.archive.base_model import BaseFinder
from peer.archive.opening import open_archive
from peer.archive.reading import LoneCheckpoint, RunArchive
from peer.archive.sources import Source
from peer.verify.archive_reader import ArchiveReader
from peer.verify.checkpoint_reader import files_in, manifest_of, revision_of, state_in
from peer.verify.display import VerifyDisplay
from peer.verify.evaluations import EvaluationsDiffer, HeldOutOrigin, by_evaluations, without_evaluations
from peer.verify.events import (
    CheckingFiles,
    ContributionsDropped,
    InitializingAdapter,
    ReadingBaseModel,
    StartFromCheckpoint,
)
from peer.verify.histories import two_histories
from peer.verify.named_states import NamedStates
from peer.verify.proof import FromAdapterSeed, FromBaseModel, FromCheckpoint, Proved, Start
from peer.verify.replay_pipeline import replay_rounds

SCRATCH = "verify"
"""The name of the scratch folder in the cache folder."""


@dataclass(frozen=True)
class VerifyOptions:
    """The command line of `peer verify`."""

    source: str
    """An invite, an address, or a folder: of an archive, or of one checkpoint."""
    log: str | None
    """The archive of a lone checkpoint."""
    key: str | None
    revision: str
    start: int | None
    """The round of the checkpoint to start from. None: the base model, if the log reaches back to it."""
    base: Path | None
    """The base model's folder or .gguf file, if the name in the spec does not lead to it."""
    max_download: int | None = None
    """Limit of the download rate, bytes a second; None: no limit."""

    @cached_property
    def limiter(self) -> RateLimiter:
        """Of all that is downloaded."""
        return RateLimiter(self.max_download)


@dataclass(frozen=True)
class _Claim:
    """The checkpoint to prove."""

    manifest: Manifest
    source: Source
    folder: str
    """Its folder in the source; empty if it is the source."""


async def verify(
    options: VerifyOptions, cache: Path, display: VerifyDisplay, clock: Callable[[], float]
) -> Proved | Difference | EvaluationsDiffer:
    """Replay the log, or return the first difference. clock: seconds, for the report only.

    Raises InviteError and UserError for wrong options, Unreachable, ModelUnavailable, DiskFull; TrustError
    if the source has no archive that the run's key signed.
    """
    began = clock()
    async with AsyncExitStack() as stack:
        found = await _open(options, stack)
        if isinstance(found, Difference):
            return found
        archive, claim = found
        manifest = claim.manifest
        contradiction = await two_histories(archive, manifest.successors, display.report)
        if contradiction is not None:
            return contradiction
        scratch = stack.enter_context(scratch_folder(cache / SCRATCH))
        state_hash = StateHash(manifest.state)
        display.report(
            CheckingFiles(archive.run, manifest.round, state_hash, len(manifest.files), manifest.size)
        )
        files = await files_in(ArchiveReader(claim.source, scratch), claim.folder, manifest)
        if isinstance(files, Difference):
            return files
        state = await state_in(files, claim.folder, manifest, archive.charter)
        if isinstance(state, Difference):
            return state
        held_out = _held_out(files, claim.folder, manifest, archive.charter)
        if isinstance(held_out, EvaluationsDiffer):
            return held_out
        layout = state.layout
        del state  # large for a whole model; the manifest has its hash
        archive_reader = ArchiveReader(archive.source, scratch)
        started = await _start(options, archive, manifest, layout, archive_reader, cache, display, clock)
        if isinstance(started, Difference):
            return started
        start, replay = started
        named = NamedStates.of(manifest)
        lacking = await named.take_before(replay.tip.round, archive, archive_reader)
        if lacking is not None:
            return lacking
        done = await replay_rounds(archive_reader, archive.index, replay, manifest, named, display, clock)
        if isinstance(done, Difference):
            return done
        now, mean = done.replay, await asyncio.to_thread(named.mean)
        proved = mean or now.tip.state
        return now.compare(manifest, mean) or Proved(
            run=archive.run, key=archive.key, round=manifest.round, state=proved, start=start,
            rounds=now.rounds, contributions=now.contributions, volunteers=len(now.owners), tokens=now.tokens,
            files=len(manifest.files), held_out=held_out, seconds=clock() - began, training=done.training,
            mean_of=tuple(each.round for each in manifest.mean_of), signed=tuple(named.signed),
        )  # fmt: skip


async def _open(options: VerifyOptions, stack: AsyncExitStack) -> tuple[RunArchive, _Claim] | Difference:
    """The archive, and the checkpoint in it or of another source."""
    key = options.key or (options.log if options.log and options.log.startswith(f"{SCHEME}://") else None)
    match await stack.enter_async_context(open_archive(options.source, key, limiter=options.limiter)):
        case RunArchive() as archive:
            revision = revision_of(archive, options.revision)
            manifest = await manifest_of(archive, revision)
            if isinstance(manifest, Difference):
                return manifest
            return archive, _Claim(manifest, archive.source, revision.folder)
        case LoneCheckpoint(signed=signed, source=source):
            if options.log is None:
                raise UserError(
                    f"{source.name} holds one checkpoint, and no log to prove it by",
                    fix="Give the run's archive: --log with its invite, address or folder.",
                )
            if signed.value.form != "trained":
                raise UserError(
                    f"{source.name} holds the {signed.value.form} form of {tag_of(signed.value)}: it was"
                    f" converted from the trained state, and only that can be replayed",
                    fix=f"Verify the run's own archive with --revision {tag_of(signed.value)}.",
                )
            opened = await stack.enter_async_context(
                open_archive(options.log, options.key, limiter=options.limiter)
            )
            if isinstance(opened, LoneCheckpoint) or opened.run != signed.value.run:
                raise UserError(
                    f"{options.log} is not the archive of the run {signed.value.run}",
                    fix="Give that run's invite, or the address or folder of its archive.",
                )
            return opened, _Claim(signed.value, source, "")


def _held_out(
    files: Mapping[BlobHash, Path], folder: str, manifest: Manifest, charter: Charter
) -> HeldOutOrigin | EvaluationsDiffer:
    for entry in manifest.files:
        if entry.name == EVALUATIONS:
            where = f"{folder or place_of(manifest)}/{EVALUATIONS}"
            return by_evaluations(files[BlobHash(entry.hash)].read_bytes(), where, manifest, charter)
    return without_evaluations(manifest)


async def _start(
    options: VerifyOptions,
    archive: RunArchive,
    manifest: Manifest,
    layout: Layout,
    archive_reader: ArchiveReader,
    cache: Path,
    display: VerifyDisplay,
    clock: Callable[[], float],
) -> tuple[Start, Replay] | Difference:
    kept = archive.index.replay_from
    start = options.start if options.start is not None or kept == 0 else kept
    if start is not None:
        _check_start(options.start, kept, manifest.round)
        if start != options.start:
            display.report(ContributionsDropped(start))
        display.report(StartFromCheckpoint(start))
        replay = await _from_checkpoint(archive, start, archive_reader)
        return replay if isinstance(replay, Difference) else (FromCheckpoint(start), replay)
    finder = BaseFinder(archive.charter, options.base, cache, display, clock, limiter=options.limiter)
    made = await _first_state(archive, layout, finder, display)
    if isinstance(made, Difference):
        return made
    origin, state = made
    replay = await asyncio.to_thread(Replay.from_base, archive.charter, state)
    return replay if isinstance(replay, Difference) else (origin, replay)


def _check_start(start: int | None, kept: int, round: int) -> None:
    """start: as given by --from. kept: the round from which contributions are kept."""
    if start is None and kept >= round:
        raise UserError(
            f"contributions are kept from round {kept} on, so nothing leads to round {round}",
            fix="Choose a later checkpoint with --revision, or try again after the next one.",
        )
    if start is None:
        return
    if start >= round:
        raise UserError(
            f"--from {start} leaves nothing to replay up to round {round}",
            fix=f"Give the round of an earlier checkpoint, or a --revision after {start}.",
        )
    if start < kept:
        raise UserError(
            f"contributions are kept from round {kept} on, so nothing can be replayed from round {start}",
            fix=f"Give --from {kept} or later, and a --revision after that.",
        )


async def _from_checkpoint(
    archive: RunArchive, round: int, archive_reader: ArchiveReader
) -> Replay | Difference:
    revision = revision_of(archive, round_tag(round))
    manifest = await manifest_of(archive, revision)
    if isinstance(manifest, Difference):
        return manifest
    files = await files_in(archive_reader, revision.folder, manifest)
    if isinstance(files, Difference):
        return files
    state = await state_in(files, revision.folder, manifest, archive.charter)
    if isinstance(state, Difference):
        return state
    try:
        tip = await asyncio.to_thread(read_tip, manifest, files.__getitem__)
    except MalformedRecord as error:
        where = f"{revision.folder}/{STANDINGS_FILE}"
        return Difference("file", where, "a list of standings", error.problem, Cause.COORDINATOR)
    return Replay.from_checkpoint(archive.charter, manifest, state, tip.position.standings)


async def _first_state(
    archive: RunArchive, layout: Layout, finder: BaseFinder, display: VerifyDisplay
) -> tuple[FromAdapterSeed | FromBaseModel, TrainState] | Difference:
    """state[0], and its origin. layout: the checkpoint's, which is the charter's."""
    spec = archive.charter.spec
    if isinstance(spec.train.target, Lora):
        display.report(InitializingAdapter(spec.seed))
        try:
            params = await asyncio.to_thread(initial_adapter, layout, spec.seed)
        except SpecError as error:
            return Difference(
                "charter", CHARTER, "the tensors of an adapter", error.problem, Cause.COORDINATOR
            )
        return FromAdapterSeed(spec.seed), TrainState(params)
    from barnraise.models.trainable import initial_state  # torch and transformers take seconds

    display.report(ReadingBaseModel(str(finder.given or spec.model.source)))
    try:
        folder = await finder.find(lambda: nullcontext(archive))
    except ModelUnavailable as error:
        instead = (
            "Or start from the run's own first checkpoint with --from 0, which leaves the base unproved."
        )
        raise ModelUnavailable(error.problem, fix=f"{error.fix} {instead}") from None
    state = await asyncio.to_thread(initial_state, folder, spec.train.target, spec.seed)
    return FromBaseModel(spec.model.source), state
