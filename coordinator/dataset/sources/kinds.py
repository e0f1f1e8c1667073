"""The kinds of files that can be read, by their names. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["json", "csv", "tsv", "parquet", "arrow", "text", "markdown"]
KINDS: dict[str, Kind] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_COLUMNS: tuple[Kind, ...] = ("parquet", "arrow")


def kind_of(name: str) -> Kind | None:
    """The kind of the file called `name`; None for one that cannot be read."""
    path = PurePosixPath(name.lower())
    packed = path.suffix in COMPRESSIONS
    kind = KINDS.get(PurePosixPath(path.stem if packed else path.name).suffix)
    return None if packed and kind in _COLUMNS else kind


def base_name(name: str) -> str:
    """The name of a file without its folders and suffixes of known meaning."""
    path = PurePosixPath(name)
    path = PurePosixPath(path.stem) if path.suffix.lower() in COMPRESSIONS else path
    return path.stem if path.suffix.lower() in KINDS else path.name


def holds_text(kind: Kind | None) -> bool:
    """Whether files of this kind are documents, not rows."""
    return kind in ("text", "markdown")


def known_suffixes() -> str:
    """In words, for messages."""
    return f"{', '.join(KINDS)} (all but .parquet and .arrow also with {', '.join(COMPRESSIONS)})"
