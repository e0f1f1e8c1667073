"""The archive as repositories of the Hugging Face Hub: one for each form, a commit and a tag for each round.

The branch `rounds` gets the commits, `round-N`, `latest` and `best` are tags on them, and `main` follows the
promoted round. A round that has its tag is there: it is not sent again.
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

from barnraise.contract.archive import BEST, LATEST, MAIN, Repo, Revision, round_tag
from barnraise.contract.manifest import MANIFEST, Form
from barnraise.core.errors import RefusedError, Unreachable
from barnraise.core.units import format_bytes
from coordinator.publishing.local_archive import Checkpoint, LocalArchive

ROUNDS = "rounds"
"""The branch whose commits are the rounds, in the order in which they were published."""
_HUB_S_OWN = (".gitattributes",)
"""Files that the Hub put there: they stay."""
_SUFFIX: dict[Form, str] = {
    "trained": "", "data": "", "merged": "-merged", "gguf": "-gguf", "base": "-base",
}  # fmt: skip
_LOG_IN = "Run `hf auth login` with a token that may write, or set HF_TOKEN, and run the command again."


def repo_name(name: str, form: Form) -> str:
    """name: of the trained checkpoints, OWNER/NAME."""
    return name + _SUFFIX[form]


def check_login(token: str | None) -> None:
    """Raises RefusedError where nobody is logged in: before anything is hashed or sent."""
    if token is None:
        raise RefusedError("nobody is logged in to the Hugging Face Hub here", fix=_LOG_IN)


def rehearse(archive: LocalArchive, repos: Sequence[Repo], name: str, say: Callable[[str], None]) -> None:
    """Tell what `Hub.send` would send to a Hub that has none of it. Asks nobody. Raises as it does."""
    for repo in repos:
        for revision in repo.revisions:
            checkpoint = archive.checkpoint(repo.form, revision)
            names = ", ".join(revision.names)
            say(
                f"would send {repo.kind} {repo_name(name, repo.form)}, {names}:"
                f" {len(checkpoint.hashes)} files, {format_bytes(checkpoint.size)}"
            )


@dataclass(frozen=True)
class Hub:
    archive: LocalArchive
    api: HfApi
    say: Callable[[str], None]

    def send(self, repos: Sequence[Repo], name: str) -> None:
        """Bring the Hub's repositories up to the archive, as far as `repos` go.

        name: OWNER/NAME of the trained checkpoints. Raises ArchiveChanged, TrustError for damaged local
        files, RefusedError without a login that may write, Unreachable.
        """
        for repo in repos:
            target = _Target(self, repo, repo_name(name, repo.form))
            with _told(target.name):
                target.send()
            folder = "datasets/" if repo.kind == "dataset" else ""
            self.say(f"published: {self.api.endpoint}/{folder}{target.name}")


@dataclass(frozen=True)
class _Target:
    hub: Hub
    repo: Repo
    name: str

    def send(self) -> None:
        api, where = self.hub.api, self._where
        api.create_repo(**where, exist_ok=True)
        refs = api.list_repo_refs(**where)
        commits = {ref.name: ref.target_commit for ref in refs.tags}
        missing = [each for each in self.repo.revisions if round_tag(each.round) not in commits]
        if missing and ROUNDS not in {ref.name for ref in refs.branches}:
            api.create_branch(**where, branch=ROUNDS, exist_ok=True)
        for revision in missing:
            tag = round_tag(revision.round)
            commits[tag] = self._commit(revision, ROUNDS)
            api.create_tag(**where, tag=tag, revision=commits[tag])
        if not missing:
            self.hub.say(f"{self.name}: every round is there")
        for revision in self.repo.revisions:
            for tag in {LATEST, BEST} & set(revision.names):
                self._move(tag, commits.get(tag), commits[round_tag(revision.round)])
            if MAIN in revision.names:
                self._align(revision)

    @property
    def _where(self) -> dict[str, Any]:
        return {"repo_id": self.name, "repo_type": self.repo.kind}

    def _commit(self, revision: Revision, branch: str) -> str:
        """The id of a commit that makes `branch` hold just this revision's files, every one checked."""
        checkpoint = self.hub.archive.checkpoint(self.repo.form, revision)
        what = f"round {revision.round}: {len(checkpoint.hashes)} files, {format_bytes(checkpoint.size)}"
        self.hub.say(f"{self.name}, {branch}, {what}")
        files = {name: self.hub.archive.checked_file(checkpoint, name) for name in checkpoint.hashes}
        gone = self._files(branch).keys() - files.keys() - set(_HUB_S_OWN)
        operations: list[Any] = [
            *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in sorted(gone)),
            *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()),
        ]
        done = self.hub.api.create_commit(
            **self._where, operations=operations, revision=branch, commit_message=self._message(checkpoint)
        )
        return str(done.oid)

    def _message(self, checkpoint: Checkpoint) -> str:
        found = checkpoint.manifest
        loss = f", held-out loss {found.held_out.loss:.4f}" if found.held_out is not None else ""
        return f"Round {found.round} of {found.run}: {found.tokens:,} tokens{loss}"

    def _align(self, revision: Revision) -> None:
        """Let `main` hold a revision, if it does not already."""
        there = self._files(MAIN).get(MANIFEST)
        wire = (self.hub.archive.folder / revision.folder / MANIFEST).read_bytes()
        same = there is not None and (
            there.lfs.sha256 == revision.manifest if there.lfs is not None else there.blob_id == _git(wire)
        )
        if not same:
            self._commit(revision, MAIN)

    def _files(self, branch: str) -> dict[str, RepoFile]:
        tree = self.hub.api.list_repo_tree(**self._where, revision=branch, recursive=True)
        return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    def _move(self, tag: str, stands: str | None, commit: str) -> None:
        if stands == commit:
            return
        if stands is not None:
            self.hub.api.delete_tag(**self._where, tag=tag)
        self.hub.api.create_tag(**self._where, tag=tag, revision=commit)


def _git(data: bytes) -> str:
    """Git's name of a file with these contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the Hub's client raises into what to do."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = error.server_message or str(error).partition("\n")[0]
        if status == 401:
            raise RefusedError(f"the Hub asks who writes to {name}: {said}", fix=_LOG_IN) from None
        if status in (403, 404):
            raise RefusedError(
                f"this login may not write to {name}: {said}",
                fix="`hf auth whoami` says who you are. Publish to a name of your own, or use a token that"
                " may write there.",
            ) from None
        raise Unreachable(
            f"the Hub does not take {name} (status {status}): {said}",
            fix="Run the command again: it goes on from there.",
        ) from error
    except ValueError as error:
        raise RefusedError(
            f"the Hub refuses what {name} would get: {error}",
            fix="Correct what it names in the run's spec, or publish to a folder instead.",
        ) from None
    except OfflineModeIsEnabled as error:
        raise Unreachable(str(error), fix="Unset HF_HUB_OFFLINE and run the command again.") from None
    except (httpx2.HTTPError, OSError, RuntimeError) as error:  # the last two: uploads that broke off
        raise Unreachable(
            f"the Hub cannot be reached: {error}",
            fix="Check the connection (and HF_ENDPOINT) and run the command again: it goes on from there.",
        ) from error
