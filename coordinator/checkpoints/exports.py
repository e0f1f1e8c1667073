"""Writes what the archive holds in addition to the trained state: other forms, the base model, the data."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import folder_of, forms, round_tag
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MANIFEST, FileEntry, Form, Manifest, open_manifest
from barnraise.contract.spec import Lora, RunSpec
from barnraise.core.identity import Identity
from barnraise.core.signed import sign
from barnraise.models.model_files import CONFIG, write_descriptions
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.child_failures import child_message
from barnraise.runtime.child_process import ChildDone, run_child
from barnraise.runtime.files import disk_errors, link_or_copy, scratch_folder, write_atomic
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, card, gguf_name, lora_name
from coordinator.checkpoints.card_data import base_facts
from coordinator.messages.setup import not_redistributable
from coordinator.reasons.setup import NotRedistributable, Redistributable
from coordinator.setup.licences import check_licence
from coordinator.store.checkpoints import write_manifest

log = logging.getLogger("coordinator.checkpoints.exports")

ORIGINAL = "original-"
"""Prefix of a file of the base model that the archive has in another version under its own name."""
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

    @property
    def spec(self) -> RunSpec:
        """The spec of the run."""
        return self.charter.spec

    async def export_base_and_data(self) -> None:
        """Write the base model and the data, where their licences permit it. Existing ones are kept.

        Raises DiskFull.
        """
        spec = self.spec
        model, data = spec.model.licence, spec.data.licence
        if self._permitted("base", "the base model", check_licence(model, "model.licence")):
            with scratch_folder(self.folder) as work:
                await asyncio.to_thread(self._link_base, work)
                await asyncio.to_thread(self._place, "base", work, base_facts(self.charter))
        if self._permitted("data", "the data", check_licence(data, "data.licence")):
            with scratch_folder(self.folder) as work:
                if await self._run_program("data", self.base, self.blobs, self.charter.data_index, work):
                    await asyncio.to_thread(self._place, "data", work, base_facts(self.charter))

    async def export(self, checkpoint: Path, facts: CardFacts) -> bool:
        """Write a promoted checkpoint in the other forms that the spec asks for. Returns whether any changed.

        checkpoint: the folder of the trained one. An existing form is kept, and gets a new card where its
        held-out loss has become known since. Raises DiskFull.
        """
        asked = set(forms(self.charter)) - {"trained"}
        existing = {form for form in asked if self._exists(form, facts.round)}
        stale = {form for form in existing if self._is_stale(form, facts)}
        for form in sorted(stale):
            await asyncio.to_thread(self._replace_card, form, facts, checkpoint / CURVE)
        written = await self._write(asked - existing, checkpoint, facts)
        return written or bool(stale)

    def _permitted(self, form: Form, what: str, licence: Redistributable | NotRedistributable) -> bool:
        """Whether `form` is still to be written."""
        if isinstance(licence, NotRedistributable):
            log.info("%s is not served: %s", what, not_redistributable(licence))
            return False
        return not self._exists(form, 0)

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
        name = f"{self.charter.run} {round_tag(facts.round)}"
        adapter = isinstance(spec.train.target, Lora)
        model = [self.base, checkpoint, folder / lora_name(facts)] if adapter else [checkpoint]
        if not await self._run_program("gguf", output, precision, name, *model):
            return False
        await asyncio.to_thread(self._place, "gguf", folder, facts, checkpoint / CURVE)
        return True

    def _exists(self, form: Form, round: int) -> bool:
        return (self.archive / folder_of(form, round) / MANIFEST).is_file()

    def _is_stale(self, form: Form, facts: CardFacts) -> bool:
        return self._manifest(form, facts.round).held_out != facts.held_out

    def _manifest(self, form: Form, round: int) -> Manifest:
        wire = (self.archive / folder_of(form, round) / MANIFEST).read_bytes()
        return open_manifest(wire, run=self.charter.run, authority=self.authority.public).value

    def _replace_card(self, form: Form, facts: CardFacts, curve: Path) -> None:
        there = self.archive / folder_of(form, facts.round)
        with scratch_folder(self.folder) as work:
            for entry in self._manifest(form, facts.round).files:
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
        for path in self.base.glob("model*.safetensors*"):
            link_or_copy(path.resolve(), folder / path.name)
        write_descriptions([self.base], folder)
        # The fingerprint in the charter covers the config as it was.
        if (folder / CONFIG).read_bytes() != (self.base / CONFIG).read_bytes():
            link_or_copy((self.base / CONFIG).resolve(), folder / f"{ORIGINAL}{CONFIG}")

    def _place(self, form: Form, folder: Path, facts: CardFacts, curve: Path | None = None) -> None:
        """Add a card to what is in `folder`, sign it, and move it to its place in the archive."""
        with disk_errors(self.archive):
            write_atomic(folder / CARD, card(facts, form).encode())
            if curve is not None and curve.is_file():
                link_or_copy(curve, folder / CURVE)
            write_manifest(sign(self.authority, self._describe(form, folder, facts)), folder)
            final = self.archive / folder_of(form, facts.round)
            final.parent.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
            shutil.rmtree(final, ignore_errors=True)
            folder.replace(final)

    def _describe(self, form: Form, folder: Path, facts: CardFacts) -> Manifest:
        files = tuple(
            FileEntry(name=path.name, hash=file_hash(path), size=path.stat().st_size)
            for path in sorted(folder.iterdir())
        )
        return Manifest(
            form=form,
            run=self.charter.run,
            round=facts.round,
            state=facts.state,
            previous=facts.previous,
            spec=self.spec.digest(),
            tokens=facts.tokens,
            held_out=facts.held_out,
            files=files,
        )
