"""A base model from the Hugging Face Hub, or from the server that HF_ENDPOINT names.

huggingface_hub knows the token, the endpoint and the repository's files; the files themselves are fetched
by `http_fetch`, which resumes across processes and keeps a rate limit. They lie in the cache as
huggingface_hub lays them out, so that snapshots which it downloaded are used as they are.
"""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barnraise.contract.manifest import SAFE_NAME
from barnraise.core.errors import HashMismatch, ModelMissing, ModelUnavailable, Unreachable
from barnraise.models.fetching import FetchOptions
from barnraise.models.gguf_import import full_disk
from barnraise.models.http_fetch import Digest, FetchRefused, RemoteFile, fetch_client, fetch_files, locked
from barnraise.runtime.files import write_atomic

HUB_FILES = ("model*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt", "LICENSE*", "README.md")
"""Files to download from a Hub repository: no pickles, no code, no other formats of the same weights."""
MAX_FILE_BYTES = 2**44
COMPLETE = ".barnraise-complete"
"""Marks a snapshot that has all files, so that it is used without asking the Hub."""
_COMMIT = re.compile(r"^[0-9a-f]{40}$")


def pin_hub_revision(repo: str, revision: str | None, cache: Path) -> str:
    """The commit that `revision` (a branch, a tag, or None for the default branch) names now.

    Raises ModelUnavailable.
    """
    if revision is not None and _COMMIT.match(revision):
        return revision
    try:
        commit, _ = _files_of(repo, revision)
    except ModelUnavailable:
        if (known := _known_commit(repo, revision, cache)) is None:
            raise
        return known
    _note_commit(repo, revision, commit, cache)
    return commit


def hub_snapshot(repo: str, revision: str | None, cache: Path, fetch: FetchOptions) -> Path:
    """The folder with the files of a repository. Raises ModelUnavailable, DiskFull."""
    folder = _repo_folder(repo, cache)
    commit = _known_commit(repo, revision, cache)
    if revision is not None and commit == revision and (folder / "snapshots" / commit / COMPLETE).is_file():
        return folder / "snapshots" / commit
    try:
        commit, files = _files_of(repo, revision)
    except ModelUnavailable:
        if commit is not None and (there := _usable(folder / "snapshots" / commit)) is not None:
            return there
        raise
    snapshot = folder / "snapshots" / commit
    if not (snapshot / COMPLETE).is_file():
        fetch.listener.say(f"Fetching {repo} from the Hugging Face Hub")
        with full_disk(cache), _fetch_errors(repo):
            fetch.interrupt.run(_fetch(files, snapshot, folder / ".lock", fetch))
    with full_disk(cache):
        _note_commit(repo, revision, commit, cache)
    return snapshot


async def _fetch(files: list[RemoteFile], snapshot: Path, lock: Path, fetch: FetchOptions) -> None:
    async with locked(lock, fetch), fetch_client() as client:
        await fetch_files(client, files, snapshot, fetch)
        write_atomic(snapshot / COMPLETE, b"")


def _files_of(repo: str, revision: str | None) -> tuple[str, list[RemoteFile]]:
    """The commit and its files. Raises ModelUnavailable."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils._headers import build_hf_headers

    # The client's HTTP library differs between versions; this is the base of its errors in each.
    failures: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError, HFValidationError)
    api = HfApi()
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True)
    except GatedRepoError as error:
        raise _gated(repo) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        where = f"{repo} at {revision}" if isinstance(error, RevisionNotFoundError) else repo
        raise ModelMissing(
            f"the Hub has no {where} that may be read here",
            fix="Correct the name or the revision; for a private repository, run `hf auth login` first.",
        ) from error
    except failures as error:
        raise _unavailable(repo, revision, (str(error).splitlines() or [""])[0]) from error
    commit, headers, files = str(info.sha), build_hf_headers(), []
    if not _COMMIT.match(commit):
        raise _unavailable(repo, revision, f"the server names {commit[:60]!r} as its commit")
    for sibling in info.siblings or ():
        name, size = sibling.rfilename, sibling.size
        if not SAFE_NAME.match(name) or not any(fnmatch.fnmatchcase(name, each) for each in HUB_FILES):
            continue
        digest = Digest("sha256", sibling.lfs.sha256) if sibling.lfs else Digest("git", str(sibling.blob_id))
        if size is None or not 0 <= size < MAX_FILE_BYTES or not re.fullmatch(r"[0-9a-f]{40,64}", digest.hex):
            raise _unavailable(repo, revision, f"the server does not say the size and hash of {name}")
        url = f"{api.endpoint}/{repo}/resolve/{commit}/{name}"
        files.append(RemoteFile(name, url, size, digest, headers))
    return commit, files


@contextmanager
def _fetch_errors(repo: str) -> Iterator[None]:
    try:
        yield
    except FetchRefused as error:
        if error.status not in (401, 403):
            raise _unavailable(repo, None, error.problem) from None
        raise _gated(repo) from None
    except (Unreachable, HashMismatch) as error:
        raise _unavailable(repo, None, error.problem) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _unavailable(repo, None, str(error)) from None


def _gated(repo: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{repo} is gated or private: its owner decides who may download it",
        fix=f"Accept its terms at https://huggingface.co/{repo}, then run `hf auth login`.",
    )


def _unavailable(repo: str, revision: str | None, why: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{repo}{f' at {revision}' if revision else ''} cannot be fetched from the Hub: {why}",
        fix="Check the name, the revision and the internet connection, or download the model "
        "yourself and give the path of its folder.",
    )


# The cache, in the layout of huggingface_hub


def _repo_folder(repo: str, cache: Path) -> Path:
    return cache / "hub" / f"models--{repo.replace('/', '--')}"


def _known_commit(repo: str, revision: str | None, cache: Path) -> str | None:
    """The commit that the cache knows for a revision."""
    if revision is not None and _COMMIT.match(revision):
        return revision
    note = _repo_folder(repo, cache) / "refs" / (revision or "main")
    try:
        found = note.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return found if _COMMIT.match(found) else None


def _note_commit(repo: str, revision: str | None, commit: str, cache: Path) -> None:
    name = revision or "main"
    if name == commit or not SAFE_NAME.match(name):
        return
    note = _repo_folder(repo, cache) / "refs" / name
    write_atomic(note, commit.encode("ascii"))


def _usable(snapshot: Path) -> Path | None:
    """A snapshot that was downloaded as a whole, as far as can be seen without the Hub."""
    if not (snapshot / "config.json").is_file() or any(snapshot.glob(".*.part")):
        return None
    return snapshot
