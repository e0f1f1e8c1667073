"""`peer download`: a checkpoint as a stranger gets it: no joining, every byte checked, resumable."""

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
from barnraise.contract.manifest import Form, Manifest
from barnraise.contract.manifest_json import MANIFEST_JSON, manifest_json
from barnraise.contract.spec import Lora
from barnraise.core.errors import HashMismatch, InviteError, ModelUnavailable, UserError
from barnraise.core.signed import Signed
from barnraise.core.units import format_bytes
from barnraise.models.base_model import resolve
from barnraise.runtime.files import write_atomic
from peer.archive.checkpoint import fetch_checkpoint
from peer.archive.checkpoint_download import DownloadListener
from peer.archive.checkpoint_sources import Candidate, CheckpointSource
from peer.archive.opening import open_archive
from peer.archive.reading import Archive, LoneCheckpoint
from peer.archive.web import WebSource, web_client
from peer.download.convert import Converted, check_absent, convert, is_adapter
from peer.download.select import Format, Published, ToConvert, index_of, select_form

log = logging.getLogger("peer.download.download")

MAX_NAMED_MIRRORS = 16
"""Other servers that an archive names are tried up to so many."""


@dataclass(frozen=True)
class DownloadOptions:
    source: str
    """An invite, an address or a folder."""
    key: str | None = None
    revision: str = "main"
    format: Format | None = None
    """None: what was trained."""
    mirrors: tuple[str, ...] = ()
    """Addresses with a copy of the archive, or of the checkpoint alone."""
    output: Path | None = None
    base: Path | None = None
    """The base model, for a form that is made here."""


@dataclass(frozen=True)
class Downloaded:
    """Every file is what the run's key signed."""

    folder: Path


async def download(
    options: DownloadOptions, cache: Path, listener: DownloadListener, clock: Callable[[], float]
) -> Downloaded | Converted:
    """Fetch a checkpoint into a folder, or make the form that was asked for of one.

    cache: where base models are kept. clock: seconds. Raises InviteError, UserError, Unreachable, TrustError,
    DiskFull, MachineError, ModelUnavailable.
    """
    async with web_client() as client, open_archive(options.source, options.key) as found:
        fetcher = _fetcher(client, found, options, listener, clock)
        match select_form(fetcher.index, fetcher.adapter, options.format, options.revision):
            case Published(form, revision, note):
                if note:
                    listener.say(note)
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
    """What was trained, as the run's key signed it, and the model that it was trained on."""

    folder: Path
    base: Path | None
    """None for a whole model, unless its base was asked for."""


async def download_to_cache(
    options: DownloadOptions,
    cache: Path,
    listener: DownloadListener,
    clock: Callable[[], float],
    *,
    with_base: bool,
) -> CachedCheckpoint:
    """Have what was trained in `cache`, to be loaded from there. Raises as `download` does."""
    async with web_client() as client, open_archive(options.source, options.key) as found:
        fetcher = _fetcher(client, found, options, listener, clock)
        choice = select_form(fetcher.index, fetcher.adapter, None, options.revision)
        assert isinstance(choice, Published), "what was trained is there, or refused"
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
    beside = output.with_name(_name(manifest))
    if beside == output:
        beside = output.with_name(f"{output.name}-trained")
    fetcher.listener.say(
        f"round {manifest.round} is not published as {form}: making it of the checkpoint in {beside}"
    )
    await fetcher.get(signed, revision, beside)
    base = await fetcher.base(options.base, cache) if fetcher.adapter else beside
    fetcher.listener.say(f"making the {form} form")
    return await asyncio.to_thread(convert, form, beside, manifest, base, output)


def _name(manifest: Manifest) -> str:
    """Of the folder where nobody says another."""
    form = "" if manifest.form == "trained" else f"-{manifest.form}"
    return f"{manifest.run}-round-{manifest.round:06d}{form}"


def _fetcher(
    client: httpx2.AsyncClient,
    found: Archive | LoneCheckpoint,
    options: DownloadOptions,
    listener: DownloadListener,
    clock: Callable[[], float],
) -> _Fetcher:
    mirrors = [WebSource(client, address) for address in options.mirrors]
    if isinstance(found, Archive):
        mirrors += _named_mirrors(client, found.index)
    return _Fetcher(found, mirrors, listener, clock)


def _named_mirrors(client: httpx2.AsyncClient, index: ArchiveIndex) -> list[WebSource]:
    """Those whose address can be one. Nobody vouches for them: they are asked for what has a hash."""
    found = []
    for address in index.mirrors[:MAX_NAMED_MIRRORS]:
        try:
            found.append(WebSource(client, address))
        except InviteError as error:
            log.info("a mirror that the archive names is left out: %s", error.problem)
    return found


@dataclass(frozen=True)
class _Fetcher:
    """An archive, or a checkpoint alone, and whoever else has copies."""

    found: Archive | LoneCheckpoint
    mirrors: Sequence[WebSource]
    listener: DownloadListener
    clock: Callable[[], float]

    @property
    def index(self) -> ArchiveIndex:
        return self.found.index if isinstance(self.found, Archive) else index_of(self.found.signed)

    @property
    def adapter(self) -> bool:
        match self.found:
            case Archive(charter=charter):
                return isinstance(charter.spec.train.target, Lora)
            case LoneCheckpoint(signed=signed):
                return is_adapter(signed.value)

    async def manifest(self, revision: Revision, form: Form) -> Signed[Manifest]:
        if isinstance(self.found, Archive):
            return await self.found.manifest(revision, form)
        return self.found.signed

    async def get(self, signed: Signed[Manifest], revision: Revision, folder: Path) -> None:
        manifest, source = signed.value, self.found.source
        self.listener.say(
            f"round {manifest.round} of {manifest.run}: {len(manifest.files)} files,"
            f" {format_bytes(manifest.size)}"
        )
        place = revision.folder if isinstance(self.found, Archive) else ""
        candidates = [
            Candidate.first(CheckpointSource(source, place)),
            *(Candidate.mirror(mirror, revision.folder, signed.wire) for mirror in self.mirrors),
        ]
        await fetch_checkpoint(signed, folder, candidates, self.listener, self.clock)
        write_atomic(folder / MANIFEST_JSON, manifest_json(signed))
        if isinstance(self.found, Archive):
            write_atomic(folder / CHARTER, self.found.signed_charter.wire)  # whose run it is, for `peer seed`

    async def base(self, given: Path | None, cache: Path) -> Path:
        """The model that the adapter was trained on. Raises ModelUnavailable, HashMismatch."""
        if isinstance(self.found, LoneCheckpoint):
            if given is None:
                raise UserError(
                    "a checkpoint alone does not say exactly which base model it is for",
                    fix="Give the base model's folder with --base, or download from the run's invite.",
                )
            return (await asyncio.to_thread(resolve, str(given), None, cache)).path
        model, expected = self.found.charter.spec.model, self.found.charter.model_files
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
        self.listener.say("the base model comes from the run")
        kept = served.revisions[-1]
        folder = cache / "bases" / kept.manifest
        await self.get(await self.manifest(kept, "base"), kept, folder)
        return folder
