"""The API of the Hugging Face Hub: an archive's repositories, revisions and files, as JSON values. Pure.

docs/CHECKPOINTS.md says which clients need which fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from barnraise.contract.archive import MAIN, Repo, Revision, find_revision
from barnraise.contract.manifest import FileEntry
from barnraise.core.errors import UserError
from barnraise.gateway.catalogue import Catalogue, Files, find_file
from barnraise.gateway.routes import (
    Kind,
    PathsInfo,
    RepoInfo,
    RepoRefs,
    RepoRevision,
    RepoSearch,
    RepoTree,
    Resolve,
)

MAX_LISTED = 1000
"""Repositories in the result of one search."""
_LIBRARIES = {"merged": "transformers", "base": "transformers", "gguf": "gguf"}


@dataclass(frozen=True)
class JsonReply:
    """A JSON document."""

    value: Any
    commit: str | None = None
    """Of the revision that it describes."""


@dataclass(frozen=True)
class HubFile:
    """A file of the archive."""

    path: str
    entry: FileEntry
    commit: str
    fixed: bool
    """Requested by commit hash: the content never changes."""


@dataclass(frozen=True)
class NotFound:
    """A 404 with the error code that Hub clients turn into their exceptions."""

    code: Literal["RepoNotFound", "RevisionNotFound", "EntryNotFound"]
    problem: str
    fix: str
    commit: str | None = None


@dataclass(frozen=True)
class _Found:
    """The repository, revision and files that a request is about."""

    repo: Repo
    revision: Revision
    files: Files

    def json(self, value: Any) -> JsonReply:
        return JsonReply(value, self.revision.commit)


def hub_reply(
    catalogue: Catalogue,
    asked: RepoSearch | RepoInfo | RepoRefs | RepoTree | PathsInfo | Resolve,
    query: Mapping[str, str],
    paths: Collection[str] = (),
) -> JsonReply | HubFile | NotFound:
    """query: of the request, by name. paths: what `PathsInfo` is about."""
    if isinstance(asked, RepoSearch):
        return JsonReply(_search(catalogue, asked.kind, query))
    found = _find(catalogue, asked.at)
    if isinstance(found, NotFound):
        return found
    match asked:
        case RepoInfo():
            return found.json(_info(found, blobs="blobs" in query))
        case RepoRefs():
            return found.json(_refs(found.repo))
        case RepoTree(path=path):
            return _tree(found, path)
        case PathsInfo():
            return found.json([_file(entry) for entry in found.files if entry.name in paths])
        case Resolve(at=at, path=path):
            return _resolve(found, at.revision, path)


def _find(catalogue: Catalogue, at: RepoRevision) -> _Found | NotFound:
    repos = catalogue.repos(at.kind)
    repo = next((repo for repo in repos if repo.id == at.repo), None)
    if repo is None:
        have = ", ".join(sorted(repo.id for repo in repos)) or "none yet"
        return NotFound(
            "RepoNotFound",
            f"there is no {at.kind} {at.repo[:120]!r} here",
            fix=f"The run {catalogue.index.run} has the {at.kind}s: {have}.",
        )
    try:
        revision = find_revision(repo, at.revision)
    except UserError as error:
        if at.revision != MAIN and not _of_the_run(catalogue, repo, at.revision):
            return NotFound("RevisionNotFound", error.problem, error.fix)
        revision = repo.revisions[-1]
    return _Found(repo, revision, catalogue.files[revision.manifest])


def _tree(found: _Found, path: str) -> JsonReply | NotFound:
    """The files below `path`; checkpoints have no folders."""
    return _no_entry(found, path) if path else found.json([_file(entry) for entry in found.files])


def _resolve(found: _Found, requested: str, path: str) -> HubFile | NotFound:
    entry = find_file(found.files, path)
    if entry is None:
        return _no_entry(found, path)
    commit = found.revision.commit
    return HubFile(f"{found.revision.folder}/{entry.name}", entry, commit, fixed=requested == commit)


def _no_entry(found: _Found, path: str) -> NotFound:
    repo, revision = found.repo, found.revision
    return NotFound(
        "EntryNotFound",
        f"{repo.id} has no {path[:120]!r} in {revision.tag}",
        fix=f"See /api/{repo.kind}s/{repo.id}/tree/{revision.commit} for what it has.",
        commit=revision.commit,
    )


def _of_the_run(catalogue: Catalogue, repo: Repo, wanted: str) -> bool:
    """Whether `repo` is the same for all rounds, and `wanted` names a checkpoint of the run.

    transformers requests the base model at the revision that was given for the adapter.
    """
    trained = catalogue.index.repo("trained")
    if trained is None or repo.form not in ("base", "data"):
        return False
    try:
        find_revision(trained, wanted)
    except UserError:
        return False
    return True


def _search(catalogue: Catalogue, kind: Kind, query: Mapping[str, str]) -> list[dict[str, Any]]:
    word, author = query.get("search", "").lower(), query.get("author")
    limit = query.get("limit", "")
    most = min(int(limit), MAX_LISTED) if limit.isascii() and limit.isdigit() else MAX_LISTED
    fitting = [
        repo
        for repo in catalogue.repos(kind)
        if word in repo.id.lower() and author in (None, repo.id.partition("/")[0])
    ]
    return [_head(repo, _find_main(repo)) for repo in fitting[:most]]


def _find_main(repo: Repo) -> Revision:
    return next((each for each in repo.revisions if MAIN in each.names), repo.revisions[-1])


def _head(repo: Repo, revision: Revision) -> dict[str, Any]:
    head: dict[str, Any] = {
        "_id": revision.manifest[:24],
        "id": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": revision.commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": ["barnraise", repo.form],
    }
    if repo.kind == "model":
        head |= {"modelId": repo.id, "pipeline_tag": "text-generation"}
    return head


def _info(found: _Found, *, blobs: bool) -> dict[str, Any]:
    repo, files = found.repo, found.files
    siblings = [{"rfilename": entry.name, **(_blob(entry) if blobs else {})} for entry in files]
    info = {
        **_head(repo, found.revision),
        "siblings": siblings,
        "usedStorage": sum(entry.size for entry in files),
    }
    if repo.kind == "model":
        adapter = find_file(files, "adapter_config.json") is not None
        info["library_name"] = "peft" if adapter else _LIBRARIES.get(repo.form, "transformers")
    return info


def _refs(repo: Repo) -> dict[str, Any]:
    branches = [_ref("heads", MAIN, _find_main(repo))]
    tags = [
        _ref("tags", name, revision) for revision in repo.revisions for name in revision.names if name != MAIN
    ]
    return {"branches": branches, "converts": [], "tags": tags}


def _ref(kind: str, name: str, revision: Revision) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": revision.commit}


def _file(entry: FileEntry) -> dict[str, Any]:
    blob = _blob(entry)
    lfs = {"oid": entry.hash, "size": entry.size, "pointerSize": blob["lfs"]["pointerSize"]}
    return {"type": "file", "path": entry.name, "size": entry.size, "oid": blob["blobId"], "lfs": lfs}


def _blob(entry: FileEntry) -> dict[str, Any]:
    """As if the file were in Git LFS, whose object ids are a file's SHA-256."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{entry.hash}\nsize {entry.size}\n"
    object_id = hashlib.sha1(f"blob {len(pointer)}\0{pointer}".encode(), usedforsecurity=False).hexdigest()
    lfs = {"sha256": entry.hash, "size": entry.size, "pointerSize": len(pointer)}
    return {"blobId": object_id, "size": entry.size, "lfs": lfs}
