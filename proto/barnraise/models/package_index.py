"""Finds a wheel in the package index that pip is configured with (PEP 691, or PEP 503 pages)."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import httpx2
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from barnraise.contract.manifest import SAFE_NAME
from barnraise.models.http_fetch import Digest, RemoteFile, shown

PYPI = "https://pypi.org/simple"
MAX_PAGE_BYTES = 64 * 2**20
MAX_WHEEL_BYTES = 2**44
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class IndexUnusable(Exception):
    """The index or the wheel cannot be read without pip."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True)
class PipConfig:
    """What matters here of pip's configuration."""

    indexes: tuple[str, ...] = (PYPI,)
    """Addresses, the first one first."""
    certificates: str | None = None
    """A file of trusted certificates."""
    pip_only: str | None = None
    """The setting for which pip itself is needed."""


def read_pip_config() -> PipConfig:
    """pip's settings from its files and the environment, as pip lists them."""
    if importlib.util.find_spec("pip") is None:
        index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
        return PipConfig((index or PYPI,))
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return parse_pip_config(listed.stdout)


def parse_pip_config(listed: str) -> PipConfig:
    """listed: the output of `pip config list`."""
    found: dict[str, dict[str, str]] = {}
    for line in listed.splitlines():
        if match := re.fullmatch(r"([^=]+)\.([a-z-]+)='(.*)'", line.strip()):
            found.setdefault(match[1], {})[match[2]] = match[3]
    # pip prefers the environment to the command's section, and that to the global one.
    settings: dict[str, str] = {}
    for section in ("global", "install", "download", ":env:"):
        settings |= found.get(section, {})
    extra = settings.get("extra-index-url", "").replace("\\n", " ").split()
    indexes = (settings.get("index-url", PYPI), *extra)
    pip_only = next((key for key in ("no-index", "proxy", "client-cert") if settings.get(key)), None)
    return PipConfig(indexes, settings.get("cert"), pip_only)


async def find_wheel(
    client: httpx2.AsyncClient, name: str, version: str | None, config: PipConfig
) -> RemoteFile:
    """The newest wheel of `version`, or of the newest release, that fits this Python.

    Raises IndexUnusable.
    """
    if config.pip_only is not None:
        raise IndexUnusable(f"pip is configured with {config.pip_only}")
    problems = []
    for index in config.indexes:
        if urlsplit(index).scheme not in ("http", "https"):
            continue
        try:
            wheels = await _wheels(client, f"{index.rstrip('/')}/{canonicalize_name(name)}/")
        except IndexUnusable as error:
            problems.append(error.problem)
            continue
        if (best := choose_wheel(wheels, version)) is not None:
            return await _described(client, best)
    raise IndexUnusable("; ".join(problems) or f"no index has a wheel of {name} {version or ''}".rstrip())


@dataclass(frozen=True)
class Wheel:
    """A file of an index page."""

    name: str
    url: str
    sha256: str | None
    size: int | None
    """Bytes; None where the page does not say it."""
    yanked: bool


def choose_wheel(wheels: list[Wheel], version: str | None) -> Wheel | None:
    """The wheel that fits this Python best: no pre-release or yanked one, unless `version` names it."""
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    best: tuple[tuple[Version, int], Wheel] | None = None
    for wheel in wheels:
        try:
            _, released, _, tags = parse_wheel_filename(wheel.name)
            wanted = Version(version) if version else None
        except (InvalidWheelFilename, InvalidVersion):
            continue
        fits = [ranks[tag] for tag in tags if tag in ranks]
        hidden = wheel.yanked or released.is_prerelease
        if not fits or (released != wanted if wanted is not None else hidden):
            continue
        key = (released, -min(fits))
        if best is None or key > best[0]:
            best = (key, wheel)
    return best[1] if best is not None else None


async def _described(client: httpx2.AsyncClient, wheel: Wheel) -> RemoteFile:
    """Raises IndexUnusable for a wheel without hash or size."""
    if wheel.sha256 is None or not _SHA256.fullmatch(wheel.sha256) or not SAFE_NAME.match(wheel.name):
        raise IndexUnusable(f"the index has no SHA-256 of {wheel.name[:100]}")
    size = wheel.size if wheel.size is not None else await _size_of(client, wheel.url)
    if not 0 <= size < MAX_WHEEL_BYTES:
        raise IndexUnusable(f"{wheel.name} is said to have {size} bytes")
    return RemoteFile(wheel.name, wheel.url, size, Digest("sha256", wheel.sha256))


async def _size_of(client: httpx2.AsyncClient, url: str) -> int:
    try:
        response = await client.head(url)
        length = response.headers.get("Content-Length", "")
        if response.status_code == 200 and re.fullmatch(r"[0-9]{1,14}", length):
            return int(length)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise IndexUnusable(f"{shown(url)} cannot be read: {str(error) or type(error).__name__}") from None
    raise IndexUnusable(f"the server does not say the size of {shown(url)}")


async def _wheels(client: httpx2.AsyncClient, page: str) -> list[Wheel]:
    """The wheels on the page of a package. Raises IndexUnusable."""
    try:
        async with client.stream("GET", page, headers={"Accept": _ACCEPT}) as response:
            if response.status_code != 200:
                raise IndexUnusable(f"{shown(page)} answers with status {response.status_code}")
            data = bytearray()
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > MAX_PAGE_BYTES:
                    raise IndexUnusable(f"{shown(page)} is larger than {MAX_PAGE_BYTES} bytes")
            kind, address = response.headers.get("Content-Type", ""), str(response.url)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise IndexUnusable(f"{shown(page)} cannot be read: {str(error) or type(error).__name__}") from None
    try:
        found = _from_json(data) if "json" in kind else _from_html(data.decode(errors="replace"))
        return [_absolute(wheel, address) for wheel in found]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IndexUnusable(f"{shown(page)} is not the page of a package") from None


def _absolute(wheel: Wheel, page: str) -> Wheel:
    return Wheel(wheel.name, urljoin(page, wheel.url), wheel.sha256, wheel.size, wheel.yanked)


def _from_json(data: bytes | bytearray) -> list[Wheel]:
    found = []
    for file in json.loads(data)["files"]:
        size = file.get("size")
        if str(file["filename"]).endswith(".whl"):
            wheel = Wheel(
                str(file["filename"]),
                str(file["url"]),
                file.get("hashes", {}).get("sha256"),
                size if isinstance(size, int) else None,
                bool(file.get("yanked")),
            )
            found.append(wheel)
    return found


class _Links(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def _from_html(text: str) -> list[Wheel]:
    links = _Links()
    links.feed(text)
    return list(_linked(links.found))


def _linked(links: list[dict[str, str | None]]) -> Iterator[Wheel]:
    for link in links:
        url, fragment = urldefrag(link.get("href") or "")
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        if name.endswith(".whl"):
            digest = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
            yield Wheel(name, url, digest, None, "data-yanked" in link)
