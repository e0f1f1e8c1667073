"""Resolves a base model's source to a local folder with a fingerprint that all peers compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.base_files import DEFINING, GGUF, WEIGHTS
from barnraise.contract.base_files import fingerprint as fingerprint_of
from barnraise.core.errors import HashMismatch, ModelUnavailable, ModelUnusable
from barnraise.core.ids import short
from barnraise.models.base_sources import find, pin_revision
from barnraise.models.fetching import NO_LIMIT, FetchOptions, Limiter
from barnraise.models.gguf_import import converted, full_disk, is_gguf_file
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.fetch_display import fetch_display
from barnraise.runtime.files import write_atomic

__all__ = ["BaseFolder", "pin_revision", "resolve"]


@dataclass(frozen=True)
class BaseFolder:
    """A model folder: config.json, tokenizer files and `model*.safetensors`."""

    path: Path
    fingerprint: str
    """SHA-256, hex, of the names and hashes of the files that define the model (see `resolve`)."""


def _silent(_: str) -> None:
    """Ignore progress messages."""


def resolve(
    source: str,
    revision: str | None,
    cache: Path,
    *,
    expected: str | None = None,
    progress: Callable[[str], None] = _silent,
    limiter: Limiter = NO_LIMIT,
    fetch: FetchOptions | None = None,
) -> BaseFolder:
    """Find, fetch or convert the base model `source` (see `ModelSpec.source`), keeping it in `cache`.

    The fingerprint covers the files that define the model: a .gguf file under the name `model.gguf`,
    or a folder's safetensors with config.json and the tokenizer. A converted folder is a function
    of these. File hashes are cached with size and time, so that a second start reads no weights.
    progress, limiter: what shows a line, and the limit of the download rate, where there is no `fetch`.
    fetch: how files are downloaded.

    Raises ModelUnusable for a folder without a whole model, ModelUnavailable, DiskFull, or HashMismatch
    where the fingerprint is not `expected`.
    """
    if fetch is None:
        with fetch_display(progress) as display:
            options = FetchOptions(display, limiter)
            return resolve(source, revision, cache, expected=expected, fetch=options)
    found = find(source, revision, cache, fetch)
    is_gguf = is_gguf_file(found)
    files = {GGUF: found} if is_gguf else _defining_files(found)
    hashes = _file_hashes(files, cache)
    fingerprint = fingerprint_of(hashes)
    if expected is not None and fingerprint != expected:
        raise HashMismatch(
            f"the base model {source} at {found} has fingerprint {short(fingerprint)}, but the run was made "
            f"with {short(expected)}",
            fix="Remove it, so that it is fetched again; if it still differs, ask the maintainer for "
            "the exact model and give the path of its folder or .gguf file with --base.",
        )
    path = converted(found, hashes[GGUF], cache, fetch.listener.say) if is_gguf else found
    return BaseFolder(path, fingerprint)


def _defining_files(folder: Path) -> dict[str, Path]:
    weights = sorted(folder.glob(WEIGHTS)) if folder.is_dir() else []
    if not weights:
        raise _without_weights(folder)
    if not (folder / "config.json").is_file():
        raise ModelUnusable(
            f"the base model at {folder} has no config.json", fix="Give the folder of a complete model."
        )
    extra = [folder / name for name in DEFINING]
    return {path.name: path for path in [*weights, *(path for path in extra if path.is_file())]}


_CONVERT = "Use a model in safetensors, or convert it with `save_pretrained` where you trust it."
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")


def _without_weights(folder: Path) -> ModelUnusable:
    """Why a folder, or a file that is no .gguf, has no weights to start from."""
    if folder.is_file():
        return ModelUnusable(
            f"the base model {folder} is a file, and no .gguf", fix=f"Name its folder: {folder.parent}"
        )
    if (folder / "adapter_config.json").is_file():
        return ModelUnusable(
            f"{folder} holds an adapter and no whole model",
            fix="Merge it into the model that it was trained on (`merge_and_unload` of peft, then"
            " `save_pretrained`), or name that model.",
        )
    other = sorted(file.name for file in folder.glob("*.safetensors"))
    if other:
        return ModelUnusable(
            f"{folder} has {other[0]}, but no model.safetensors, which is what transformers loads",
            fix="Rename it where it has transformers' names of tensors, or save the model with"
            " `save_pretrained`.",
        )
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return ModelUnusable(
            f"{folder} is a folder with .gguf files", fix=f"Name the file itself, such as {ggufs[0]}"
        )
    inside = sorted(file.parent for file in folder.glob(f"*/{WEIGHTS}"))
    if inside:
        return ModelUnusable(f"{folder} has its weights in a folder below", fix=f"Name {inside[0]}")
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        why = "has its weights only as pickle files, which can run code"
        return ModelUnusable(f"the base model at {folder} {why}", fix=_CONVERT)
    return ModelUnusable(f"the base model at {folder} has no safetensors", fix=_CONVERT)


def _file_hashes(files: Mapping[str, Path], cache: Path) -> dict[str, str]:
    """SHA-256 of each file; cached where size and time are unchanged."""
    owner = hashlib.sha256("\n".join(str(path) for path in files.values()).encode()).hexdigest()
    cached = cache / "hashes" / f"{owner}.json"
    known = _cached_hashes(cached)
    found: dict[str, list[str | int]] = {}
    for name, path in files.items():
        try:
            stat = path.stat()
            seen = known.get(name, [])
            same = seen[:2] == [stat.st_size, stat.st_mtime_ns]
            found[name] = seen if same else [stat.st_size, stat.st_mtime_ns, file_hash(path)]
        except OSError as error:
            raise ModelUnavailable(
                f"{path} cannot be read: {error.strerror}", fix="Check the disk and the file's permissions."
            ) from error
    if found != known:
        with full_disk(cache):
            write_atomic(cached, json.dumps(found).encode())
    return {name: str(digest) for name, (_, _, digest) in found.items()}


def _cached_hashes(cached: Path) -> dict[str, list[str | int]]:
    """Cached hashes; empty where there are none or the cache is damaged."""
    if not cached.exists():
        return {}
    try:
        noted = json.loads(cached.read_text())
    except ValueError:
        return {}
    if not isinstance(noted, dict):
        return {}
    return {name: seen for name, seen in noted.items() if isinstance(seen, list) and len(seen) == 3}
