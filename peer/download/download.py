"""`peer download`: a checkpoint without joining its run; every byte is checked, and downloads resume."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from typing_extensions import assert_never

from barnraise.contract.archive import CHARTER, ArchiveIndex, Revision, folder_name
from barnraise.contract.manifest import MANIFEST_JSON, Form, Manifest, manifest_json
from barnraise.contract.spec import Lora
from barnraise.core.errors import UserError
from barnraise.core.ids import RunId
from barnraise.core.signed import Signed
from barnraise.models.base_model import resolve
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.runtime.files import remove_unfinished, write_atomic
from peer.archive.base_model import BaseFinder
from peer.archive.checkpoint import fetch_checkpoint
from peer.archive.events import DownloadListener
from peer.archive.mirrors import named_mirrors
from peer.archive.opening import open_archive
from peer.archive.reading import LoneCheckpoint, RunArchive
from peer.archive.sources import Candidate, CheckpointSource
from peer.archive.web import WebSource, web_client
from peer.download.convert import Converted, check_absent, convert, is_adapter
from peer.download.events import (
    ConversionStarts,
    DownloadEvent,
    DownloadStarts,
    FormNotPublished,
)
from peer.download.select import Format, Published, ToConvert, index_of, select_form
from peer.timing import TIMING, Timing


@dataclass(frozen=True)
class DownloadOptions:
    """The command line of `peer download`."""

    source: str
    """An invite, an address or a folder."""
    key: str | None = None
    revision: str = "main"
    format: Format | None = None
    """None: the trained form."""
    mirrors: tuple[str, ...] = ()
    """Addresses of copies of the archive, or of the checkpoint."""
    output: Path | None = None
    base: Path | None = None
    """The base model, for a form that is converted here."""
    max_download: int | None = None
    """Limit of the download rate, bytes a second; None: no limit."""


@dataclass(frozen=True)
class Downloaded:
    """A folder of files that the run's key signed."""

    folder: Path


async def download(
    options: DownloadOptions,
    cache: Path,
    listener: DownloadListener[DownloadEvent],
    clock: Callable[[], float],
    timing: Timing = TIMING,
) -> Downloaded | Converted:
    """Fetch a checkpoint into a folder, and convert it if the form asked for is not published.

    cache: where base models are kept. clock: seconds. Raises InviteError, UserError, Unreachable, TrustError,
    DiskFull, MachineError, ModelUnavailable.
    """
    limiter = RateLimiter(options.max_download)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(web_client(timing))
        found = await stack.enter_async_context(
            open_archive(options.source, options.key, timing, limiter, options.mirrors)
        )
        fetcher = _fetcher(client, found, options, listener, clock, timing, limiter)
        match select_form(fetcher.index, fetcher.adapter, options.format, options.revision):
            case Published(form, revision, note):
                if note:
                    listener.report(note)
                signed = await fetcher.manifest(revision, form)
                folder = options.output or Path(_name(signed.value))
                await fetcher.get(signed, revision, folder)
                return Downloaded(folder)
            case ToConvert(form, revision):
                return await _convert(fetcher, form, revision, options, cache)
            case choice:
                assert_never(choice)


@dataclass(frozen=True)
class CachedCheckpoint:
    """The trained form of a checkpoint, as the run's key signed it, and its base model."""

    folder: Path
    base: Path | None
    """None for a whole model, unless `with_base`."""


async def download_to_cache(
    options: DownloadOptions,
    cache: Path,
    listener: DownloadListener[DownloadEvent],
    clock: Callable[[], float],
    timing: Timing = TIMING,
    *,
    with_base: bool,
) -> CachedCheckpoint:
    """Fetch the trained form into `cache`. with_base: a whole model's base, too. Raises as `download`."""
    limiter = RateLimiter(options.max_download)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(web_client(timing))
        found = await stack.enter_async_context(open_archive(options.source, options.key, timing, limiter))
        fetcher = _fetcher(client, found, options, listener, clock, timing, limiter)
        choice = select_form(fetcher.index, fetcher.adapter, None, options.revision)
        assert isinstance(choice, Published), "the trained form is published or an error"
        signed = await fetcher.manifest(choice.revision, choice.form)
        folder = cache / "checkpoints" / f"{_name(signed.value)}-{choice.revision.manifest[:8]}"
        await fetcher.get(signed, choice.revision, folder)
        base = await fetcher.base(cache) if fetcher.adapter or with_base else None
        return CachedCheckpoint(folder, base)


async def _convert(
    fetcher: _Fetcher,
    form: Literal["merged", "gguf"],
    revision: Revision,
    options: DownloadOptions,
    cache: Path,
) -> Converted:
    signed = await fetcher.manifest(revision, "trained")
    manifest = signed.value
    output = options.output or Path(f"{_name(manifest)}-{form}")
    check_absent(output)
    checkpoint = output.with_name(_name(manifest))
    if checkpoint == output:
        checkpoint = output.with_name(f"{output.name}-trained")
    fetcher.listener.report(FormNotPublished(form, manifest.round, manifest.averaged, checkpoint))
    await fetcher.get(signed, revision, checkpoint)
    base = await fetcher.base(cache) if fetcher.adapter else checkpoint
    fetcher.listener.report(ConversionStarts(form))
    return await asyncio.to_thread(convert, form, checkpoint, manifest, base, output)


def _name(manifest: Manifest) -> str:
    """The default name of a checkpoint's folder."""
    form = "" if manifest.form == "trained" else f"-{manifest.form}"
    return f"{manifest.run}-{folder_name(manifest.round, averaged=manifest.averaged)}{form}"


def _fetcher(
    client: httpx2.AsyncClient,
    found: RunArchive | LoneCheckpoint,
    options: DownloadOptions,
    listener: DownloadListener[DownloadEvent],
    clock: Callable[[], float],
    timing: Timing,
    limiter: RateLimiter,
) -> _Fetcher:
    mirrors = [WebSource(client, address, timing, limiter) for address in options.mirrors]
    if isinstance(found, RunArchive):
        mirrors += named_mirrors(client, found.index, timing, limiter)
    return _Fetcher(found, mirrors, options, listener, clock, timing, limiter)


@dataclass(frozen=True)
class _Fetcher:
    """An archive or a lone checkpoint, and its mirrors."""

    found: RunArchive | LoneCheckpoint
    mirrors: Sequence[WebSource]
    options: DownloadOptions
    listener: DownloadListener[DownloadEvent]
    clock: Callable[[], float]
    timing: Timing
    limiter: RateLimiter

    @property
    def index(self) -> ArchiveIndex:
        return self.found.index if isinstance(self.found, RunArchive) else index_of(self.found.signed)

    @property
    def adapter(self) -> bool:
        match self.found:
            case RunArchive(charter=charter):
                return isinstance(charter.spec.train.target, Lora)
            case LoneCheckpoint(signed=signed):
                return is_adapter(signed.value)

    async def manifest(self, revision: Revision, form: Form) -> Signed[Manifest]:
        if isinstance(self.found, RunArchive):
            return await self.found.manifest(revision, form)
        return self.found.signed

    async def get(self, signed: Signed[Manifest], revision: Revision, folder: Path) -> None:
        manifest, found = signed.value, self.found
        run, files = RunId(manifest.run), len(manifest.files)
        self.listener.report(DownloadStarts(run, manifest.round, manifest.averaged, files, manifest.size))
        place = revision.folder if isinstance(found, RunArchive) else ""
        candidates = [
            Candidate.first(CheckpointSource(found.source, place)),
            *(Candidate.mirror(mirror, revision.folder, signed.wire) for mirror in self.mirrors),
        ]
        await fetch_checkpoint(signed, folder, candidates, self.listener, self.clock, self.timing)
        described = {MANIFEST_JSON: manifest_json(signed)}
        if isinstance(found, RunArchive):
            described[CHARTER] = found.signed_charter.wire  # `peer seed` reads the run from it
        for name, data in described.items():
            write_atomic(folder / name, data)
            remove_unfinished(folder / name)

    async def base(self, cache: Path) -> Path:
        """The folder of the base model. Raises as `BaseFinder.find`; UserError for a lone checkpoint."""
        given, found = self.options.base, self.found
        if isinstance(found, LoneCheckpoint):
            return await _given_base(given, cache)
        finder = BaseFinder(found.charter, given, cache, self.listener, self.clock, self.timing, self.limiter)
        return await finder.find(lambda: nullcontext(found), self.options.mirrors)


async def _given_base(given: Path | None, cache: Path) -> Path:
    """The base model of a lone checkpoint, which has no charter that names it."""
    if given is None:
        raise UserError(
            "a single checkpoint does not name its exact base model",
            fix="Give the base model's folder with --base, or download from the run's invite.",
        )
    return (await asyncio.to_thread(resolve, str(given), None, cache)).path
