"""Beside the trained state: the same checkpoint merged or as GGUF, the base model, and the run's data."""

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
from barnraise.contract.spec import Lora
from barnraise.core.identity import Identity
from barnraise.core.signed import sign
from barnraise.models.model_files import FROM_BASE
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.child_failures import child_message
from barnraise.runtime.child_process import ChildDone, run_child
from barnraise.runtime.files import disk_errors, link_or_copy, scratch_folder, write_atomic
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, card, gguf_name, lora_name
from coordinator.checkpoints.credits import Credits
from coordinator.run_folder import CHAT_TEMPLATE
from coordinator.setup.licences import NotRedistributable, Redistributable, check_licence
from coordinator.store.checkpoints import write_manifest

log = logging.getLogger("coordinator.checkpoints.exports")

PROGRAM = "coordinator.checkpoints.export_program"


@dataclass(frozen=True)
class Exporter:
    """Writes folders of the archive, each with a signed manifest, whole or not at all."""

    charter: Charter
    base: Path
    folder: Path
    """The coordinator's own, for what is half done. On the disk of the archive."""
    archive: Path
    blobs: Path
    """The folder of the blob store."""
    authority: Identity

    async def once(self) -> None:
        """The base model and the data, as far as their licences allow. What is there is left.

        Raises DiskFull.
        """
        spec = self.charter.spec
        match check_licence(spec.model.licence, "model.licence"):
            case NotRedistributable(reason):
                log.info("the base model is not served: %s", reason)
            case Redistributable() if not self._there("base", 0):
                with scratch_folder(self.folder) as work:
                    await asyncio.to_thread(self._link_base, work)
                    await asyncio.to_thread(self._place, "base", work, base_facts(self.charter))
        match check_licence(spec.data.licence, "data.licence"):
            case NotRedistributable(reason):
                log.info("the data is not served: %s", reason)
            case Redistributable() if not self._there("data", 0):
                with scratch_folder(self.folder) as work:
                    if await self._did("data", self.base, self.blobs, self.charter.data_index, work):
                        await asyncio.to_thread(self._place, "data", work, base_facts(self.charter))

    async def export(self, checkpoint: Path, facts: CardFacts) -> bool:
        """A promoted checkpoint in the other forms that the spec asks for; whether one of them is new.

        checkpoint: the folder of the trained one. What is there is left, and only told about anew where its
        held-out loss has become known since. Raises DiskFull.
        """
        asked = [form for form in forms(self.charter) if form != "trained"]
        missing = [form for form in asked if not self._there(form, facts.round)]
        stale = [
            form
            for form in asked
            if form not in missing and self._manifest(form, facts.round).held_out != facts.held_out
        ]
        for form in stale:
            await asyncio.to_thread(self._tell_anew, form, facts, checkpoint / CURVE)
        return bool(missing and await self._write(missing, checkpoint, facts)) or bool(stale)

    async def _write(self, missing: Collection[Form], checkpoint: Path, facts: CardFacts) -> bool:
        curve, placed = checkpoint / CURVE, False
        adapter = isinstance(self.charter.spec.train.target, Lora)
        with scratch_folder(self.folder) as work:
            if "merged" in missing:
                folder = work / "merged"
                if await self._did("merged", self.base, checkpoint, folder):
                    await asyncio.to_thread(self._place, "merged", folder, facts, curve)
                    placed = True
            if "gguf" in missing:
                folder, precision = work / "gguf", str(self.charter.spec.checkpoint.gguf)
                folder.mkdir()
                name = f"{self.charter.run} {round_tag(facts.round)}"
                model = [self.base, checkpoint, folder / lora_name(facts)] if adapter else [checkpoint]
                if await self._did("gguf", folder / gguf_name(facts), precision, name, *model):
                    await asyncio.to_thread(self._place, "gguf", folder, facts, curve)
                    placed = True
        return placed

    def _there(self, form: Form, round: int) -> bool:
        return (self.archive / folder_of(form, round) / MANIFEST).is_file()

    def _manifest(self, form: Form, round: int) -> Manifest:
        wire = (self.archive / folder_of(form, round) / MANIFEST).read_bytes()
        return open_manifest(wire, run=self.charter.run, authority=self.authority.public).value

    def _tell_anew(self, form: Form, facts: CardFacts, curve: Path) -> None:
        there = self.archive / folder_of(form, facts.round)
        with scratch_folder(self.folder) as work:
            for entry in self._manifest(form, facts.round).files:
                if entry.name not in (CARD, CURVE):
                    link_or_copy(there / entry.name, work / entry.name)
            self._place(form, work, facts, curve)

    async def _did(self, what: str, *arguments: object) -> bool:
        ended = await run_child(PROGRAM, what, *arguments)
        if isinstance(ended, ChildDone):
            return True
        log.warning("the form %s could not be written: %s", what, child_message(ended))
        return False

    def _link_base(self, folder: Path) -> None:
        weights = [path.name for path in self.base.glob("model*.safetensors*")]
        for name in (*FROM_BASE, CHAT_TEMPLATE, *weights):
            if (self.base / name).is_file():
                link_or_copy((self.base / name).resolve(), folder / name)

    def _place(self, form: Form, folder: Path, facts: CardFacts, curve: Path | None = None) -> None:
        """Tell about what is in `folder`, sign it, and move it to its place in the archive."""
        with disk_errors(self.archive):
            write_atomic(folder / CARD, card(facts, form).encode())
            if curve is not None and curve.is_file():
                link_or_copy(curve, folder / CURVE)
            files = tuple(
                FileEntry(name=path.name, hash=file_hash(path), size=path.stat().st_size)
                for path in sorted(folder.iterdir())
            )
            manifest = Manifest(
                form=form,
                run=self.charter.run,
                round=facts.round,
                state=facts.state,
                previous=facts.previous,
                spec=self.charter.spec.digest(),
                tokens=facts.tokens,
                held_out=facts.held_out,
                files=files,
            )
            write_manifest(sign(self.authority, manifest), folder)
            final = self.archive / folder_of(form, facts.round)
            final.parent.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
            shutil.rmtree(final, ignore_errors=True)
            folder.replace(final)


def base_facts(charter: Charter) -> CardFacts:
    """What a card says before the first round."""
    return CardFacts(
        charter=charter,
        round=0,
        tokens=0,
        state=charter.genesis,
        previous=charter.spec.digest(),
        held_out=None,
        first=None,
        curve=False,
        credits=Credits((), 0),
    )
