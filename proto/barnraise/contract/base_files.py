"""The files that define a base model, their fingerprint, and which files of an archive they are. Pure."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from barnraise.contract.manifest import FileEntry

GGUF = "model.gguf"
"""The name of a .gguf base model in its fingerprint and in an archive, under any name of its file."""
WEIGHTS = "model*.safetensors"
DEFINING = ("config.json", "tokenizer.json", "tokenizer.model")
"""Files of a model folder that define it together with WEIGHTS, as far as they exist."""
ORIGINAL = "original-"
"""Prefix of a defining file in an archive that publishes another version of it under its own name."""
MAX_EXTRA_BYTES = 256 * 2**20
_EXTRA = ("*.json", "*.jinja", "*.txt")
_NOT_EXTRA = "manifest.json"


def fingerprint(hashes: Mapping[str, str]) -> str:
    """SHA-256, hex, of the sorted names and hashes of the files that define a model."""
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()


def is_defining(name: str) -> bool:
    """Whether a model folder's file belongs to its fingerprint."""
    return name in DEFINING or fnmatch.fnmatchcase(name, WEIGHTS)


@dataclass(frozen=True)
class ArchivedBase:
    """The files of an archive's `base/` that a base model consists of, by their names in a model folder."""

    defining: Mapping[str, FileEntry]
    """Their names and hashes have the fingerprint that the charter names."""
    extra: Mapping[str, FileEntry]
    """Further tokenizer and generation settings: the run's key signed them, the fingerprint ignores them."""

    @property
    def is_gguf(self) -> bool:
        """Whether it is one .gguf file."""
        return GGUF in self.defining

    @property
    def files(self) -> dict[str, FileEntry]:
        """All of them."""
        return {**self.extra, **self.defining}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())


def find_archived_base(files: Sequence[FileEntry], expected: str) -> ArchivedBase | None:
    """The base model with the fingerprint `expected` among the files of a manifest; None if it is absent."""
    by_name = {entry.name: entry for entry in files}
    gguf = {GGUF: by_name[GGUF]} if GGUF in by_name else {}
    folder = {name: entry for name, entry in by_name.items() if is_defining(name)}
    replaced = {
        name.removeprefix(ORIGINAL): entry for name, entry in by_name.items() if name.startswith(ORIGINAL)
    }
    folder |= {name: entry for name, entry in replaced.items() if is_defining(name)}
    if _has_fingerprint(gguf, expected):
        return ArchivedBase(gguf, {})
    if _has_fingerprint(folder, expected):
        return ArchivedBase(folder, {name: entry for name, entry in by_name.items() if _is_extra(entry)})
    return None


def _has_fingerprint(files: Mapping[str, FileEntry], expected: str) -> bool:
    return bool(files) and fingerprint({name: entry.hash for name, entry in files.items()}) == expected


def _is_extra(entry: FileEntry) -> bool:
    name = entry.name
    if is_defining(name) or name.startswith(ORIGINAL) or entry.size > MAX_EXTRA_BYTES:
        return False
    wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in _EXTRA)
    return wanted and name != _NOT_EXTRA
