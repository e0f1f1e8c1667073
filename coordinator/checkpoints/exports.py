"""Writes what the archive holds in addition to the trained state: other forms, the base model, the data."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import folder_of, forms
from barnraise.contract.base_files import DEFINING, GGUF, ORIGINAL, WEIGHTS, ArchivedBase, find_archived_base
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import (
    MANIFEST,
    SAFE_NAME,
    FileEntry,
    Form,
    Manifest,
    open_manifest,
)
from barnraise.contract.run_keys import Signers, Successors
from barnraise.contract.spec import Lora, RunSpec
from barnraise.core.identity import Identity
from barnraise.core.signed import sign
from barnraise.models.model_files import write_descriptions
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.child_failures import child_message
from barnraise.runtime.child_process import ChildDone, run_child
from barnraise.runtime.files import disk_errors, link_or_copy, put_in_place, scratch_folder, write_atomic
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, card, gguf_name, lora_name
from coordinator.checkpoints.card_data import base_facts
from coordinator.messages.setup import not_redistributable
from coordinator.reasons.setup import BaseChanged, BaseNotServed, BaseServed, NotRedistributable
from coordinator.setup.licences import check_licence
from coordinator.store.checkpoints import write_manifest

log = logging.getLogger("coordinator.checkpoints.exports")

PROGRAM = "coordinator.checkpoints.export_program"


@dataclass(frozen=True)
class Exporter:
    """Writes folders of the archive, each with a signed manifest, whole or not at all."""

    charter: Charter
    base: Path
    folder: Path
    """The coordinator's own, for unfinished work. On the disk of the archive."""
    archive: Path
    blobs: Path
    """The folder of the blob store."""
    authority: Identity
    successors: Callable[[], Successors] = tuple
    """Of the charter's run key: they show that `authority` is one."""

    @property
    def spec(self) -> RunSpec:
        """The spec of the run."""
        return self.charter.spec

    async def export_base(self) -> BaseServed | BaseNotServed:
        """Write the base model where its licence permits it; one that volunteers can use is kept.

        Raises DiskFull.
        """
        licence = check_licence(self.spec.model.licence, "model.licence")
        if isinstance(licence, NotRedistributable):
            return BaseNotServed(licence)
        if self._archived_base() is None:
            log.info("putting the base model into the archive, for volunteers who do not have it")
            with scratch_folder(self.folder) as work:
                await asyncio.to_thread(self._link_base, work)
                await asyncio.to_thread(self._place, "base", work, base_facts(self.charter))
        found = self._archived_base()
        return BaseNotServed(BaseChanged()) if found is None else BaseServed(found.size)

    async def export_data(self) -> None:
        """Write the data where its licence permits it. Existing data is kept. Raises DiskFull."""
        licence = check_licence(self.spec.data.licence, "data.licence")
        if isinstance(licence, NotRedistributable):
            log.info("the data is not served: %s", not_redistributable(licence))
        elif not self._exists("data", base_facts(self.charter)):
            with scratch_folder(self.folder) as work:
                if await self._run_program("data", self.base, self.blobs, self.charter.data_index, work):
                    await asyncio.to_thread(self._place, "data", work, base_facts(self.charter))

    async def export(self, checkpoint: Path, facts: CardFacts) -> bool:
        """Write a promoted checkpoint in the other forms that the spec asks for. Returns whether any changed.

        checkpoint: the folder of the trained one. An existing form is kept, and gets a new card where its
        held-out loss has become known since. Raises DiskFull.
        """
        asked = set(forms(self.charter)) - {"trained"}
        existing = {form for form in asked if self._exists(form, facts)}
        stale = {form for form in existing if self._is_stale(form, facts)}
        for form in sorted(stale):
            await asyncio.to_thread(self._replace_card, form, facts, checkpoint / CURVE)
        written = await self._write(asked - existing, checkpoint, facts)
        return written or bool(stale)

    def _archived_base(self) -> ArchivedBase | None:
        """The exact base model in the archive; None where volunteers cannot get it from there."""
        if not self._exists("base", base_facts(self.charter)):
            return None
        files = self._manifest("base", base_facts(self.charter)).files
        return find_archived_base(files, self.charter.model_files)

    async def _write(self, missing: Collection[Form], checkpoint: Path, facts: CardFacts) -> bool:
        """Returns whether one of the forms could be written."""
        if not missing:
            return False
        with scratch_folder(self.folder) as work:
            merged = "merged" in missing and await self._write_merged(work / "merged", checkpoint, facts)
            gguf_folder = work / "gguf"
            gguf_folder.mkdir()
            gguf = "gguf" in missing and await self._write_gguf(gguf_folder, checkpoint, facts)
        return merged or gguf

    async def _write_merged(self, folder: Path, checkpoint: Path, facts: CardFacts) -> bool:
        if not await self._run_program("merged", self.base, checkpoint, folder):
            return False
        await asyncio.to_thread(self._place, "merged", folder, facts, checkpoint / CURVE)
        return True

    async def _write_gguf(self, folder: Path, checkpoint: Path, facts: CardFacts) -> bool:
        spec = self.spec
        output, precision = folder / gguf_name(facts), str(spec.checkpoint.gguf)
        name = f"{self.charter.run} {facts.tag}"
        adapter = isinstance(spec.train.target, Lora)
        model = [self.base, checkpoint, folder / lora_name(facts)] if adapter else [checkpoint]
        if not await self._run_program("gguf", output, precision, name, *model):
            return False
        await asyncio.to_thread(self._place, "gguf", folder, facts, checkpoint / CURVE)
        return True

    def _folder(self, form: Form, facts: CardFacts) -> Path:
        return self.archive / folder_of(form, facts.round, averaged=bool(facts.mean_of))

    def _exists(self, form: Form, facts: CardFacts) -> bool:
        return (self._folder(form, facts) / MANIFEST).is_file()

    def _is_stale(self, form: Form, facts: CardFacts) -> bool:
        return self._manifest(form, facts).held_out != facts.held_out

    def _manifest(self, form: Form, facts: CardFacts) -> Manifest:
        wire = (self._folder(form, facts) / MANIFEST).read_bytes()
        return open_manifest(wire, run=self.charter.run, signers=Signers(self.charter.authority_key)).value

    def _replace_card(self, form: Form, facts: CardFacts, curve: Path) -> None:
        there = self._folder(form, facts)
        with scratch_folder(self.folder) as work:
            for entry in self._manifest(form, facts).files:
                if entry.name not in (CARD, CURVE):
                    link_or_copy(there / entry.name, work / entry.name)
            self._place(form, work, facts, curve)

    async def _run_program(self, what: str, *arguments: object) -> bool:
        """Returns whether the export program succeeded."""
        ended = await run_child(PROGRAM, what, *arguments)
        if isinstance(ended, ChildDone):
            return True
        log.warning("the form %s could not be written: %s", what, child_message(ended))
        return False

    def _link_base(self, folder: Path) -> None:
        weights = [path for path in self.base.glob(f"{WEIGHTS}*") if SAFE_NAME.match(path.name)]
        gguf = self.base / GGUF
        for path in [*weights, gguf] if gguf.is_file() else weights:
            link_or_copy(path.resolve(), folder / path.name)
        write_descriptions([self.base], folder)
        for name in DEFINING:  # the fingerprint in the charter covers them as they were
            if (self.base / name).is_file() and not _equal(self.base / name, folder / name):
                link_or_copy((self.base / name).resolve(), folder / f"{ORIGINAL}{name}")

    def _place(self, form: Form, folder: Path, facts: CardFacts, curve: Path | None = None) -> None:
        """Add a card to what is in `folder`, sign it, and move it to its place in the archive."""
        with disk_errors(self.archive):
            write_atomic(folder / CARD, card(facts, form).encode())
            if curve is not None and curve.is_file():
                link_or_copy(curve, folder / CURVE)
            write_manifest(sign(self.authority, self._describe(form, folder, facts)), folder)
            folder.chmod(0o755)
            put_in_place(folder, self._folder(form, facts))

    def _describe(self, form: Form, folder: Path, facts: CardFacts) -> Manifest:
        files = tuple(
            FileEntry(name=path.name, hash=file_hash(path), size=path.stat().st_size)
            for path in sorted(folder.iterdir())
        )
        return Manifest(
            form=form,
            run=self.charter.run,
            state=facts.state,
            mean_of=facts.mean_of,
            charter=self.charter.digest,
            tokens=facts.tokens,
            held_out=facts.held_out,
            files=files,
            **{**facts.place, "successors": self.successors()},
        )


def _equal(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()
