"""Publishes the archive to the Hugging Face Hub: one repository per form, a commit and a tag per round.

Commits go to the branch `rounds`; `round-N`, `latest` and `best` are tags on them, and `main` follows the
promoted round. A round that has its tag is complete and is not sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from barnraise.contract.archive import BEST, LATEST, MAIN, Repo, Revision
from barnraise.contract.manifest import MANIFEST, Form
from barnraise.core.errors import RefusedError, Unreachable
from barnraise.core.units import format_bytes
from coordinator.publishing.local_archive import Checkpoint, LocalArchive

ROUNDS = "rounds"
"""The branch whose commits are the rounds, in order of publication."""
_HUB_FILES = (".gitattributes",)
"""Files that the Hub itself adds: they are kept."""
_SUFFIX: dict[Form, str] = {
    "trained": "", "data": "", "merged": "-merged", "gguf": "-gguf", "base": "-base",
}  # fmt: skip
_LOG_IN = "Run `hf auth login` with a token that may write, or set HF_TOKEN, and run the command again."


def repo_name(name: str, form: Form) -> str:
    """name: of the trained checkpoints, OWNER/NAME."""
    return name + _SUFFIX[form]


def check_login(token: str | None) -> None:
    """Raises RefusedError without a login, before anything is hashed or sent."""
    if token is None:
        raise RefusedError("this machine is not logged in to the Hugging Face Hub", fix=_LOG_IN)


def dry_run(archive: LocalArchive, repos: Sequence[Repo], name: str, say: Callable[[str], None]) -> None:
    """Say what `HubPublisher.send` would send to an empty Hub, without contacting it. Raises as it does."""
    for repo in repos:
        for revision in repo.revisions:
            checkpoint = archive.checkpoint(repo.form, revision)
            names = ", ".join(revision.names)
            say(
                f"would send {repo.kind} {repo_name(name, repo.form)}, {names}:"
                f" {len(checkpoint.hashes)} files, {format_bytes(checkpoint.size)}"
            )


@dataclass(frozen=True)
class HubPublisher:
    """Publishes an archive to the Hub that `api` is logged in to."""

    archive: LocalArchive
    api: HfApi
    say: Callable[[str], None]

    def send(self, repos: Sequence[Repo], name: str) -> None:
        """Bring the Hub's repositories up to the archive, for `repos` alone.

        name: OWNER/NAME of the trained checkpoints. Raises ArchiveChanged, TrustError for damaged local
        files, RefusedError without a login that may write, Unreachable.
        """
        for repo in repos:
            target = _HubRepo(self.archive, self.api, self.say, repo, repo_name(name, repo.form))
            with _hub_errors(target.name):
                target.send()
            folder = "datasets/" if repo.kind == "dataset" else ""
            self.say(f"published: {self.api.endpoint}/{folder}{target.name}")


@dataclass(frozen=True)
class _HubRepo:
    archive: LocalArchive
    api: HfApi
    say: Callable[[str], None]
    repo: Repo
    name: str

    def send(self) -> None:
        self.api.create_repo(**self._id, exist_ok=True)
        commits = self._publish_rounds()
        for revision in self.repo.revisions:
            for tag in {LATEST, BEST} & set(revision.names):
                self._move_tag(tag, commits.get(tag), commits[revision.tag])
            if MAIN in revision.names:
                self._update_main(revision)

    def _publish_rounds(self) -> dict[str, str]:
        """Commit and tag each round that has no tag yet. Returns the commit of every tag."""
        refs = self.api.list_repo_refs(**self._id)
        commits = {ref.name: ref.target_commit for ref in refs.tags}
        missing = [each for each in self.repo.revisions if each.tag not in commits]
        if not missing:
            self.say(f"{self.name}: every round is published already")
            return commits
        if ROUNDS not in {ref.name for ref in refs.branches}:
            self.api.create_branch(**self._id, branch=ROUNDS, exist_ok=True)
        for revision in missing:
            tag = revision.tag
            commits[tag] = self._commit(revision, ROUNDS)
            self.api.create_tag(**self._id, tag=tag, revision=commits[tag])
        return commits

    @property
    def _id(self) -> dict[str, Any]:
        return {"repo_id": self.name, "repo_type": self.repo.kind}

    def _commit(self, revision: Revision, branch: str) -> str:
        """Make `branch` hold exactly this revision's files, each checked. Returns the commit's id."""
        archive = self.archive
        checkpoint = archive.checkpoint(self.repo.form, revision)
        what = f"{revision.tag}: {len(checkpoint.hashes)} files, {format_bytes(checkpoint.size)}"
        self.say(f"{self.name}, {branch}, {what}")
        files = {name: archive.checked_file(checkpoint, name) for name in checkpoint.hashes}
        obsolete = self._files(branch).keys() - files.keys() - set(_HUB_FILES)
        operations: list[Any] = [
            *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in sorted(obsolete)),
            *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()),
        ]
        done = self.api.create_commit(
            **self._id, operations=operations, revision=branch, commit_message=_commit_message(checkpoint)
        )
        return str(done.oid)

    def _update_main(self, revision: Revision) -> None:
        """Make `main` hold a revision, unless it does already."""
        there = self._files(MAIN).get(MANIFEST)
        wire = self.archive.manifest(revision)
        if there is None or not _same_file(there, revision.manifest, wire):
            self._commit(revision, MAIN)

    def _files(self, branch: str) -> dict[str, RepoFile]:
        tree = self.api.list_repo_tree(**self._id, revision=branch, recursive=True)
        return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    def _move_tag(self, tag: str, before: str | None, commit: str) -> None:
        if before == commit:
            return
        if before is not None:
            self.api.delete_tag(**self._id, tag=tag)
        self.api.create_tag(**self._id, tag=tag, revision=commit)


def _commit_message(checkpoint: Checkpoint) -> str:
    manifest = checkpoint.manifest
    loss = f", held-out loss {manifest.held_out.loss:.4f}" if manifest.held_out is not None else ""
    what = "Mean of states up to round" if manifest.averaged else "Round"
    return f"{what} {manifest.round} of {manifest.run}: {manifest.tokens:,} tokens{loss}"


def _same_file(there: RepoFile, sha256: str, data: bytes) -> bool:
    """Whether a file of the Hub has these contents."""
    return bool(there.lfs.sha256 == sha256 if there.lfs is not None else there.blob_id == _git_hash(data))


def _git_hash(data: bytes) -> str:
    """Git's name of a file with these contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Raise the errors of the Hub's client as Barnraise errors."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        detail = error.server_message or str(error).partition("\n")[0]
        if status == 401:
            raise RefusedError(f"the Hub needs a login to write to {name}: {detail}", fix=_LOG_IN) from None
        if status in (403, 404):
            raise RefusedError(
                f"this login may not write to {name}: {detail}",
                fix="`hf auth whoami` says who you are. Publish to a name of your own, or use a token that"
                " may write there.",
            ) from None
        raise Unreachable(
            f"the Hub rejects {name} (status {status}): {detail}",
            fix="Run the command again: it resumes.",
        ) from error
    except ValueError as error:
        raise RefusedError(
            f"the Hub refuses the content of {name}: {error}",
            fix="Correct it in the run spec, or publish to a folder instead.",
        ) from None
    except OfflineModeIsEnabled as error:
        raise Unreachable(str(error), fix="Unset HF_HUB_OFFLINE and run the command again.") from None
    except (httpx2.HTTPError, OSError, RuntimeError) as error:  # the last two: uploads that broke off
        raise Unreachable(
            f"the Hub cannot be reached: {error}",
            fix="Check the connection (and HF_ENDPOINT) and run the command again: it resumes.",
        ) from error
