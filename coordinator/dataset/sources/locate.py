"""Finds the file or folder that a source names, and says what it probably means where there is none."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from barnraise.core.errors import DatasetError
from coordinator.dataset.sources.folder import cannot_read
from coordinator.dataset.sources.kinds import ARCHIVES, kind_of, known_suffixes

HUB = "hub:"
_HUB_URL = re.compile(
    r"^(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)datasets/"
    r"(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<at>[\w.-]+))?(?:/(?:resolve|blob|tree|raw|viewer)/(?P<revision>[^/?#]+).*)?"
    r"[/?#]?$"
)
_HUB_ID = re.compile(r"^(?:datasets/)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)$")
_URL = re.compile(r"^[a-z][a-z0-9+]*://", re.IGNORECASE)


def hub_name(source: str) -> str:
    """The name in `hub:owner/name`. Raises DatasetError for another form."""
    name = source.removeprefix(HUB).strip()
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
        return name
    meant = _on_the_hub(name)
    raise DatasetError(
        f"`{source}` does not name a dataset of the Hugging Face Hub",
        fix=meant or 'Write it as `source = "hub:owner/name"` in run.toml.',
    )


def find_path(source: str) -> Path:
    """The existing file or folder. Raises DatasetError."""
    if _URL.match(source):
        raise DatasetError(
            f"{source} is an address, and a source is a file, a folder or a dataset of the Hugging Face Hub",
            fix=_on_the_hub(source) or "Download it, and give the path of the file or folder.",
        )
    try:
        path = Path(source).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError, RuntimeError):
        raise _missing(source) from None
    except OSError as error:
        raise cannot_read(Path(source), error) from None
    if not path.is_dir():
        _check_file(path)
    return path


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DatasetError(
            f"{path} is not a regular file, and the data is read more than once",
            fix="Save what it gives to a file.",
        )
    if kind_of(path.name) is None:
        unpack = path.name.lower().endswith(ARCHIVES) or ".tar." in path.name.lower()
        raise DatasetError(
            f"{path} is of an unknown kind",
            fix="Unpack it, and give the folder." if unpack else f"Use one of: {known_suffixes()}.",
        )


def _missing(source: str) -> DatasetError:
    if set("*?[") & set(source):
        return DatasetError(
            f"the dataset {source} does not exist", fix="Give the folder: all files of rows in it are read."
        )
    near = _near(source)
    fixes = [f"Did you mean `{near}`?"] if near else []
    if not near and (meant := _on_the_hub(source)):
        fixes.append(f"For a dataset of the Hugging Face Hub: {meant[:1].lower()}{meant[1:]}")
    return DatasetError(
        f"the dataset {source} does not exist",
        fix=" ".join(fixes) or "Correct `source` under [data] in run.toml; a path is relative to its folder.",
    )


def _near(source: str) -> Path | None:
    """What exists under a similar name, in the nearest folder that exists."""
    try:
        path = Path(source).expanduser()
        if (slashes := Path(source.replace("\\", "/")).expanduser()) != path and slashes.exists():
            return slashes
        names = os.listdir(path.parent)
    except (OSError, RuntimeError, ValueError):
        return None
    lower = {name.lower(): name for name in sorted(names) if name != path.name}  # not a broken link itself
    found = difflib.get_close_matches(path.name.lower(), lower, n=1, cutoff=0.7)
    return path.parent / lower[found[0]] if found else None


def _on_the_hub(source: str) -> str | None:
    """How to write a name or an address of the Hub as a source."""
    found = _HUB_URL.match(source) or _HUB_ID.match(source)
    if found is None:
        return None
    parts = found.groupdict()
    revision = parts.get("revision") or parts.get("at")
    pinned = f' and `revision = "{revision}"`' if revision not in (None, "main", "default") else ""
    return f'Write `source = "{HUB}{found["name"]}"`{pinned} in run.toml.'
