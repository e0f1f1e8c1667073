"""What a request's path asks for: of the archive as it is, or in the words of the Hugging Face Hub. Pure.

A path is cut at its slashes before its percent signs are resolved: a slash inside of a name stays there.
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
    rf"({re.escape(INDEX)}|{re.escape(CHARTER)}|log/[0-9]{{6,9}}\.close|contributions/[0-9a-f]{{64}}"
    rf"|(checkpoints|merged|gguf)/round-[0-9]{{6,9}}/{_NAME}|(base|data|held-out)/{_NAME})"
)
"""Every file that an archive has (`barnraise.contract.archive`), and none besides."""
_NEVER_CHANGES = re.compile(rf"{re.escape(CHARTER)}|(log|contributions)/.*")


@dataclass(frozen=True)
class LandingPage:
    """The page for people."""


@dataclass(frozen=True)
class ArchiveFile:
    path: str
    """Of a file below the archive."""

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
    """A repository at a revision, as the asker names them."""

    kind: Kind
    repo: str
    revision: str = MAIN


@dataclass(frozen=True)
class RepoSearch:
    kind: Kind


@dataclass(frozen=True)
class RepoInfo:
    place: RepoRevision


@dataclass(frozen=True)
class RepoRefs:
    place: RepoRevision


@dataclass(frozen=True)
class RepoTree:
    place: RepoRevision
    path: str
    """Empty for all of it."""


@dataclass(frozen=True)
class PathsInfo:
    """The paths are in the request's body."""

    place: RepoRevision


@dataclass(frozen=True)
class Resolve:
    place: RepoRevision
    path: str


@dataclass(frozen=True)
class WhoAmI:
    """Whose token it is. There are no accounts here."""


@dataclass(frozen=True)
class UnknownPath:
    """Nothing that is served."""


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
    """What is at a path, as it stands in the request, without its query."""
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
