"""What a request's path names: a file of the archive, or a resource of the Hugging Face Hub's API. Pure.

A path is split at its slashes before percent decoding: an encoded slash stays inside its segment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from barnraise.contract.archive import CHARTER, INDEX, MAIN

Kind = Literal["model", "dataset"]
_API: dict[str, Kind] = {"models": "model", "datasets": "dataset"}
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_RAW = re.compile(
    rf"({re.escape(INDEX)}|{re.escape(CHARTER)}|log/[0-9]{{1,9}}/[0-9]{{6,12}}\.entry|(contributions|proofs)/[0-9a-f]{{64}}"
    rf"|(checkpoints|merged|gguf)/(round|average)-[0-9]{{6,9}}/{_NAME}|(base|data|held-out)/{_NAME})"
)
"""The paths of all files that an archive can contain (`barnraise.contract.archive`), and of no others."""
_NEVER_CHANGES = re.compile(rf"{re.escape(CHARTER)}|(log|contributions|proofs)/.*")


@dataclass(frozen=True)
class LandingPage:
    """The HTML page at `/`."""


@dataclass(frozen=True)
class ArchiveFile:
    """A file by its path in the archive."""

    path: str

    @property
    def never_changes(self) -> bool:
        return _NEVER_CHANGES.fullmatch(self.path) is not None

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class RepoRevision:
    """A repository and a branch, tag or commit, as the client names them."""

    kind: Kind
    repo: str
    revision: str = MAIN


@dataclass(frozen=True)
class RepoSearch:
    """`/api/models`, `/api/datasets`."""

    kind: Kind


@dataclass(frozen=True)
class RepoInfo:
    """Metadata of one revision."""

    at: RepoRevision


@dataclass(frozen=True)
class RepoRefs:
    """Branches and tags."""

    at: RepoRevision


@dataclass(frozen=True)
class RepoTree:
    """Files of one revision."""

    at: RepoRevision
    path: str
    """Empty for the root folder."""


@dataclass(frozen=True)
class PathsInfo:
    """Metadata of the files that the request's body names."""

    at: RepoRevision


@dataclass(frozen=True)
class Resolve:
    """The content of one file."""

    at: RepoRevision
    path: str


@dataclass(frozen=True)
class WhoAmI:
    """The account of a token. This server has no accounts."""


@dataclass(frozen=True)
class UnknownPath:
    """A path that this server does not serve."""


Route = (
    LandingPage
    | ArchiveFile
    | RepoSearch
    | RepoInfo
    | RepoRefs
    | RepoTree
    | PathsInfo
    | Resolve
    | WhoAmI
    | UnknownPath
)


def route(raw_path: str) -> Route:
    """Parse a path as it is in the request line, without its query."""
    if _RAW.fullmatch(raw_path.removeprefix("/")):
        return ArchiveFile(raw_path.removeprefix("/"))
    parts = [unquote(part) for part in raw_path.split("/")[1:]]
    match parts:
        case [""]:
            return LandingPage()
        case ["api", ("models" | "datasets") as kind, *rest]:
            return _api(_API[kind], rest)
        case ["api", "whoami-v2"]:
            return WhoAmI()
        case ["datasets", owner, name, "resolve", revision, *path] if path:
            return Resolve(RepoRevision("dataset", f"{owner}/{name}", revision), "/".join(path))
        case [owner, name, "resolve", revision, *path] if path:
            return Resolve(RepoRevision("model", f"{owner}/{name}", revision), "/".join(path))
        case _:
            return UnknownPath()


def _api(kind: Kind, rest: list[str]) -> Route:
    match rest:
        case [] | [""]:
            return RepoSearch(kind)
        case [owner, name]:
            return RepoInfo(RepoRevision(kind, f"{owner}/{name}"))
        case [owner, name, "revision", revision]:
            return RepoInfo(RepoRevision(kind, f"{owner}/{name}", revision))
        case [owner, name, "refs"]:
            return RepoRefs(RepoRevision(kind, f"{owner}/{name}"))
        case [owner, name, "tree", revision, *path]:
            return RepoTree(RepoRevision(kind, f"{owner}/{name}", revision), "/".join(path).strip("/"))
        case [owner, name, "paths-info", revision]:
            return PathsInfo(RepoRevision(kind, f"{owner}/{name}", revision))
        case _:
            return UnknownPath()
