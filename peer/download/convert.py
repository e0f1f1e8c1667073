"""A merged model or a GGUF file, made here of a checkpoint that was downloaded and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from barnraise.contract.archive import round_tag
from barnraise.contract.manifest import Manifest
from barnraise.core.errors import UserError
from barnraise.runtime.files import disk_errors, scratch_folder

PRECISION: Literal["f16"] = "f16"
"""Of a GGUF file: what every tool for them reads, and nearly as exact as the checkpoint."""
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Converted:
    """A folder with one form of a checkpoint. Nobody signed it: it follows from what was signed."""

    folder: Path


def is_adapter(manifest: Manifest) -> bool:
    return any(entry.name == ADAPTER_CONFIG for entry in manifest.files)


def check_absent(output: Path) -> None:
    """Raises UserError where something is at `output`, before anything is fetched for it."""
    if output.exists():
        raise UserError(
            f"{output} is there already, and what is made here is not checked against a signature",
            fix="Remove it to have it made anew, or choose another folder with -o.",
        )


def convert(
    form: Literal["merged", "gguf"], checkpoint: Path, manifest: Manifest, base: Path, output: Path
) -> Converted:
    """checkpoint: the folder of an adapter or a model. base: the model of an adapter.

    Raises UserError where the form cannot be made, ModelUnavailable, MalformedBlob, DiskFull; then there is
    no `output`.
    """
    from barnraise.models import gguf_export
    from barnraise.models.merge import merge

    adapter = checkpoint if is_adapter(manifest) else None
    if form == "merged":
        merge(base, checkpoint, output)
        return Converted(output)
    tag = round_tag(manifest.round)
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
            work.rename(output)
    return Converted(output)
