"""Finds the base model of a run: given, cached, from the source that the spec names, or from the run.

Neither the run's gateway nor a mirror is trusted: the list of files is signed by the run's key, and the
names and hashes of those that define the model have the fingerprint in the charter.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from typing_extensions import assert_never

from barnraise.contract.archive import folder_of
from barnraise.contract.base_files import GGUF, ArchivedBase, find_archived_base
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, open_manifest
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import (
    BarnraiseError,
    HashMismatch,
    MalformedRecord,
    ModelUnavailable,
    ModelUnreachable,
    ModelUnusable,
    NetworkError,
    TrustError,
    Unreachable,
)
from barnraise.core.ids import PublicKey, short
from barnraise.models.base_sources import is_public
from barnraise.models.fetching import FetchOptions, Interrupt
from barnraise.network.blobs.rate_limiter import UNLIMITED, RateLimiter
from barnraise.runtime.files import disk_errors, link_or_copy, make_folder, put_in_place, scratch_folder
from peer.archive.checkpoint import fetch_files
from peer.archive.events import (
    BaseEvent,
    BaseFromRun,
    CachedBaseDamaged,
    DownloadListener,
    OnlyInRun,
    OtherProgramFetches,
    SourceDropped,
    SourceUnavailable,
)
from peer.archive.mirrors import named_mirrors
from peer.archive.reading import LoneCheckpoint, RunArchive
from peer.archive.sources import Candidate, CheckpointSource, Missing, Source
from peer.archive.web import WebSource, web_client
from peer.timing import TIMING, Timing

BASES = "bases"
"""Folder of the cache: base models from runs, by fingerprint, and by the key that signed their tokenizer's
settings, which the fingerprint ignores."""
_PARTIAL = "partial"

OpenArchive = Callable[[], AbstractAsyncContextManager[RunArchive | LoneCheckpoint]]


@dataclass(frozen=True)
class BaseFinder:
    """Finds the base model of one run."""

    charter: Charter
    given: Path | None
    """As `--base` names it."""
    cache: Path
    listener: DownloadListener[BaseEvent]
    clock: Callable[[], float]
    """Seconds."""
    timing: Timing = TIMING
    limiter: RateLimiter = UNLIMITED

    async def find(self, open_archive: OpenArchive, mirrors: tuple[str, ...] = ()) -> Path:
        """The folder of the base model. open_archive: called where the run has to serve it.

        mirrors: addresses in addition to those that the archive names.
        Raises ModelUnavailable, HashMismatch, Unreachable, TrustError, DiskFull, MachineError.
        """
        if self.given is not None:
            return await self._find_given(self.given)
        if (cached := await self._find_cached()) is not None:
            return cached
        found = await self._find_at_source()
        if isinstance(found, Path):
            return found
        try:
            async with open_archive() as archive:
                return await self._fetch(archive, found, mirrors)
        except (NetworkError, _NotServed) as error:
            raise self._unavailable(found, error) from None

    async def _find_given(self, given: Path) -> Path:
        try:
            return await self._resolve(str(given), None)
        except HashMismatch as error:
            raise HashMismatch(
                error.problem,
                fix="--base has to name exactly this run's base model, file by file. Leave it out, or ask the"
                f" maintainer for the model with the fingerprint {short(self.charter.model_files)}.",
            ) from None

    async def _find_cached(self) -> Path | None:
        folder = cached_base(self.charter, self.cache)
        if folder is None:
            return None
        try:
            return await self._resolve_folder(folder)
        except (HashMismatch, ModelUnavailable, ModelUnusable) as error:
            self.listener.report(CachedBaseDamaged(error.problem))
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            return None

    async def _find_at_source(self) -> Path | OnlyInRun | SourceUnavailable:
        model = self.charter.spec.model
        if not is_public(model.source) and not _is_here(model.source):
            return OnlyInRun(model.source)
        try:
            return await self._resolve(model.source, model.revision)
        except (HashMismatch, ModelUnavailable, ModelUnusable) as error:
            return SourceUnavailable(model.source, error.problem)

    async def _fetch(
        self,
        archive: RunArchive | LoneCheckpoint,
        why: OnlyInRun | SourceUnavailable,
        mirrors: tuple[str, ...],
    ) -> Path:
        if isinstance(archive, LoneCheckpoint):
            raise _NotServed(f"{archive.source.name} is a single checkpoint without it", fix="")
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(web_client(self.timing))
            web = [WebSource(client, address, self.timing, self.limiter) for address in mirrors]
            web += named_mirrors(client, archive.index, self.timing, self.limiter)
            sources: list[Source] = [archive.source, *web]
            at, wire, base = await self._describe(sources, archive.key)
            self.listener.report(BaseFromRun(why, len(base.files), base.size))
            place = folder_of("base", 0)
            candidates = [
                Candidate.first(CheckpointSource(at, place)),
                *(Candidate.mirror(source, place, wire) for source in sources[sources.index(at) + 1 :]),
            ]
            return await self._keep(base, candidates)

    async def _describe(self, sources: list[Source], key: PublicKey) -> tuple[Source, bytes, ArchivedBase]:
        """A source with a valid list of the model's files. Raises _NotServed, Unreachable, TrustError."""
        faults: list[BarnraiseError] = []
        path = f"{folder_of('base', 0)}/{MANIFEST}"
        for source in sources:
            try:
                wire = await source.get_small(path, MAX_MANIFEST_BYTES)
                return source, wire, self._checked(source.name, wire, key)
            except (Unreachable, TrustError) as error:
                faults.append(error)
                if not isinstance(error, Missing):
                    self.listener.report(SourceDropped(source.name, error.problem))
        false = [fault for fault in faults if isinstance(fault, TrustError)]
        silent = [fault for fault in faults if not isinstance(fault, Missing)]
        if false or silent:
            raise (false or silent)[0]
        raise _NotServed(f"{sources[0].name} does not serve it", fix="")

    def _checked(self, name: str, wire: bytes, key: PublicKey) -> ArchivedBase:
        manifest = open_manifest(wire, run=self.charter.run, signers=Signers(key)).value
        fix = "Report it to the run's maintainer, or give the model's folder or .gguf file with --base PATH."
        if manifest.form != "base":
            raise MalformedRecord(f"{name} serves the {manifest.form} form as the base model", fix=fix)
        base = find_archived_base(manifest.files, self.charter.model_files)
        if base is None:
            raise HashMismatch(
                f"the base model that {name} serves does not have the fingerprint"
                f" {short(self.charter.model_files)} that the run was made with",
                fix=fix,
            )
        return base

    async def _keep(self, base: ArchivedBase, candidates: list[Candidate]) -> Path:
        """Fetch the files into the cache, where one program at a time does."""
        bases = _bases_of(self.charter, self.cache)
        async with self._alone(bases):
            if (there := cached_base(self.charter, self.cache)) is None:
                partial = bases / _PARTIAL
                await asyncio.to_thread(_link_known, base, bases, partial)
                await fetch_files(
                    list(base.files.values()),
                    partial,
                    "--cache-dir",
                    candidates,
                    self.listener,
                    self.clock,
                    self.timing,
                )
                there = bases / _name_of(self.charter)
                await asyncio.to_thread(_move, base, partial, there)
        return await self._resolve_folder(there)

    @asynccontextmanager
    async def _alone(self, folder: Path) -> AsyncIterator[None]:
        await asyncio.to_thread(_make, folder)
        lock, reported = FileLock(folder / ".lock"), False
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                if not reported:
                    self.listener.report(OtherProgramFetches())
                    reported = True
                await asyncio.sleep(self.timing.lock_poll)
        try:
            yield
        finally:
            lock.release()

    async def _resolve_folder(self, folder: Path) -> Path:
        return await self._resolve(str(model_of(folder)), None)

    async def _resolve(self, source: str, revision: str | None) -> Path:
        """Stops at once when this task is cancelled."""
        from barnraise.models.base_model import resolve

        interrupt = Interrupt()
        fetch = FetchOptions(self.listener, self.limiter, interrupt)
        try:
            found = await asyncio.to_thread(
                resolve, source, revision, self.cache, expected=self.charter.model_files, fetch=fetch
            )
        finally:
            interrupt.set()
        return found.path

    def _unavailable(self, why: OnlyInRun | SourceUnavailable, error: BarnraiseError) -> ModelUnavailable:
        """The run does not have it either, or cannot be reached."""
        exact = f"the model with the fingerprint {short(self.charter.model_files)}"
        match why:
            case OnlyInRun(source):
                problem = f"there is no base model at {source} on this machine"
                fix = (
                    f"Get {exact} from the maintainer, or another complete copy of the run, and give its"
                    " folder or .gguf file with --base PATH."
                )
            case SourceUnavailable(_, problem):
                fix = f"Check the connection and try again, or give {exact} with --base PATH."
            case _:
                assert_never(why)
        if isinstance(error, NetworkError):
            fix = f"{error.fix} Or: {fix}"
            if not isinstance(error, Missing):
                return ModelUnreachable(f"{problem}, and {error.problem}", fix=fix)
        return ModelUnavailable(f"{problem}, and {error.problem}", fix=fix)


def _is_here(source: str) -> bool:
    return Path(source).expanduser().exists()


class _NotServed(BarnraiseError):
    """No source of the archive has the base model."""


def cached_base(charter: Charter, cache: Path) -> Path | None:
    """The folder of the base model that an earlier command fetched from this run; None if there is none."""
    folder = _bases_of(charter, cache) / _name_of(charter)
    return folder if folder.is_dir() else None


def model_of(cached: Path) -> Path:
    """What to open in a folder of `cached_base`: the folder, or the .gguf file in it."""
    gguf = cached / GGUF
    return gguf if gguf.is_file() else cached


def _bases_of(charter: Charter, cache: Path) -> Path:
    return cache / BASES / charter.model_files


def _name_of(charter: Charter) -> str:
    return str(charter.authority)


def _make(folder: Path) -> None:
    with disk_errors(folder):
        make_folder(folder)


def _link_known(base: ArchivedBase, bases: Path, partial: Path) -> None:
    """Link the files that another run's copy of the model has; their hashes are checked afterwards."""
    with disk_errors(partial):
        make_folder(partial)
        others = [folder for folder in bases.iterdir() if folder.is_dir() and folder != partial]
        for name, entry in base.defining.items():
            there = next((other / name for other in others if (other / name).is_file()), None)
            if there is not None and not (partial / entry.name).exists():
                link_or_copy(there, partial / entry.name)


def _move(base: ArchivedBase, partial: Path, final: Path) -> None:
    """Give the files their names in a model folder, which appears with all of them."""
    with disk_errors(final), scratch_folder(final.parent) as work:
        for name, entry in base.files.items():
            (partial / entry.name).replace(work / name)
        put_in_place(work, final)
        shutil.rmtree(partial, ignore_errors=True)
