"""`peer download`: a checkpoint without joining its run; every byte is checked, and downloads resume."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from typing_extensions import assert_never

from barnraise.contract.archive import CHARTER, ArchiveIndex, Revision
from barnraise.contract.manifest import MANIFEST_JSON, Form, Manifest, manifest_json
from barnraise.contract.spec import Lora
from barnraise.core.errors import HashMismatch, InviteError, ModelUnavailable, UserError
from barnraise.core.ids import RunId
from barnraise.core.signed import Signed
from barnraise.models.base_model import resolve
from barnraise.runtime.files import write_atomic
from peer.archive.checkpoint import fetch_checkpoint
from peer.archive.events import DownloadListener
from peer.archive.opening import open_archive
from peer.archive.reading import LoneCheckpoint, RunArchive
from peer.archive.sources import Candidate, CheckpointSource
from peer.archive.web import WebSource, web_client
from peer.download.convert import Converted, check_absent, convert, is_adapter
from peer.download.events import (
    BaseFromArchive,
    ConversionStarts,
    DownloadEvent,
    DownloadStarts,
    FormNotPublished,
)
from peer.download.select import Format, Published, ToConvert, index_of, select_form
from peer.timing import TIMING, Timing

log = logging.getLogger("peer")

MAX_NAMED_MIRRORS = 16
"""At most this many of the mirrors that an archive names are used."""


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
    async with web_client(timing) as client, open_archive(options.source, options.key, timing) as found:
        fetcher = _fetcher(client, found, options, listener, clock, timing)
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
    async with web_client(timing) as client, open_archive(options.source, options.key, timing) as found:
        fetcher = _fetcher(client, found, options, listener, clock, timing)
        choice = select_form(fetcher.index, fetcher.adapter, None, options.revision)
        assert isinstance(choice, Published), "the trained form is published or an error"
        signed = await fetcher.manifest(choice.revision, choice.form)
        folder = cache / "checkpoints" / f"{_name(signed.value)}-{choice.revision.manifest[:8]}"
        await fetcher.get(signed, choice.revision, folder)
        base = await fetcher.base(options.base, cache) if fetcher.adapter or with_base else None
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
    fetcher.listener.report(FormNotPublished(form, manifest.round, checkpoint))
    await fetcher.get(signed, revision, checkpoint)
    base = await fetcher.base(options.base, cache) if fetcher.adapter else checkpoint
    fetcher.listener.report(ConversionStarts(form))
    return await asyncio.to_thread(convert, form, checkpoint, manifest, base, output)


def _name(manifest: Manifest) -> str:
    """The default name of a checkpoint's folder."""
    form = "" if manifest.form == "trained" else f"-{manifest.form}"
    return f"{manifest.run}-round-{manifest.round:06d}{form}"


def _fetcher(
    client: httpx2.AsyncClient,
    found: RunArchive | LoneCheckpoint,
    options: DownloadOptions,
    listener: DownloadListener[DownloadEvent],
    clock: Callable[[], float],
    timing: Timing,
) -> _Fetcher:
    mirrors = [WebSource(client, address, timing) for address in options.mirrors]
    if isinstance(found, RunArchive):
        mirrors += _named_mirrors(client, found.index, timing)
    return _Fetcher(found, mirrors, listener, clock, timing)


def _named_mirrors(client: httpx2.AsyncClient, index: ArchiveIndex, timing: Timing) -> list[WebSource]:
    """The mirrors with a valid address. They are untrusted: every file from them is checked by its hash."""
    found = []
    for address in index.mirrors[:MAX_NAMED_MIRRORS]:
        try:
            found.append(WebSource(client, address, timing))
        except InviteError as error:
            log.info("ignoring a mirror that the archive names: %s", error.problem)
    return found


@dataclass(frozen=True)
class _Fetcher:
    """An archive or a lone checkpoint, and its mirrors."""

    found: RunArchive | LoneCheckpoint
    mirrors: Sequence[WebSource]
    listener: DownloadListener[DownloadEvent]
    clock: Callable[[], float]
    timing: Timing

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
        self.listener.report(
            DownloadStarts(RunId(manifest.run), manifest.round, len(manifest.files), manifest.size)
        )
        place = revision.folder if isinstance(found, RunArchive) else ""
        candidates = [
            Candidate.first(CheckpointSource(found.source, place)),
            *(Candidate.mirror(mirror, revision.folder, signed.wire) for mirror in self.mirrors),
        ]
        await fetch_checkpoint(signed, folder, candidates, self.listener, self.clock, self.timing)
        write_atomic(folder / MANIFEST_JSON, manifest_json(signed))
        if isinstance(found, RunArchive):
            write_atomic(folder / CHARTER, found.signed_charter.wire)  # `peer seed` reads the run from it

    async def base(self, given: Path | None, cache: Path) -> Path:
        """The folder of the base model. Raises UserError, ModelUnavailable, HashMismatch."""
        if isinstance(self.found, LoneCheckpoint):
            return await _given_base(given, cache)
        charter = self.found.charter
        model, expected = charter.spec.model, charter.model_files
        source, revision = (model.source, model.revision) if given is None else (str(given), None)
        try:
            resolved = await asyncio.to_thread(
                resolve, source, revision, cache, expected=expected, progress=self.listener.say
            )
            return resolved.path
        except (ModelUnavailable, HashMismatch):
            served = self.index.repo("base")
            if given is not None or served is None:
                raise
        self.listener.report(BaseFromArchive())
        kept = served.revisions[-1]
        folder = cache / "bases" / kept.manifest
        await self.get(await self.manifest(kept, "base"), kept, folder)
        return folder


async def _given_base(given: Path | None, cache: Path) -> Path:
    """The base model of a lone checkpoint, which has no charter that names it."""
    if given is None:
        raise UserError(
            "a single checkpoint does not name its exact base model",
            fix="Give the base model's folder with --base, or download from the run's invite.",
        )
    return (await asyncio.to_thread(resolve, str(given), None, cache)).path
