"""Convert a downloaded and checked checkpoint to a merged model or a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from barnraise.contract.archive import tag_of
from barnraise.contract.manifest import Manifest
from barnraise.core.errors import UserError
from barnraise.runtime.files import disk_errors, put_in_place, scratch_folder

PRECISION: Literal["f16"] = "f16"
"""Of a GGUF file: every tool reads it, and it is nearly as exact as the checkpoint."""
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Converted:
    """A folder with one form of a checkpoint. It is not signed: it is computed from signed files."""

    folder: Path


def is_adapter(manifest: Manifest) -> bool:
    return any(entry.name == ADAPTER_CONFIG for entry in manifest.files)


def check_absent(output: Path) -> None:
    """Raises UserError if `output` exists, before anything is fetched for it."""
    if output.exists():
        raise UserError(
            f"{output} exists already, and a converted form has no signature to check it by",
            fix="Remove it to convert again, or choose another folder with -o.",
        )


def convert(
    form: Literal["merged", "gguf"], checkpoint: Path, manifest: Manifest, base: Path, output: Path
) -> Converted:
    """checkpoint: the folder of an adapter or a model. base: the base model of an adapter.

    Raises UserError if the model cannot have this form, ModelUnavailable, MalformedBlob, DiskFull; then
    `output` does not exist.
    """
    from barnraise.models import gguf_export
    from barnraise.models.merge import merge

    adapter = checkpoint if is_adapter(manifest) else None
    if form == "merged":
        merge(base, checkpoint, output)
        return Converted(output)
    tag = tag_of(manifest)
    with scratch_folder(output.parent) as work:
        file = work / f"{manifest.run}-{tag}-{PRECISION.upper()}.gguf"
        gguf_export.export(
            base if adapter else checkpoint,
            file,
            PRECISION,
            gguf_export.GgufMetadata(f"{manifest.run} {tag}"),
            adapter,
        )
        with disk_errors(output):
            put_in_place(work, output)
    return Converted(output)
