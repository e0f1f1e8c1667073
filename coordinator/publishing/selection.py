"""Which checkpoints of an archive are published, and what a mirror's index names afterwards. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from barnraise.contract.archive import ArchiveIndex, Repo, Revision, find_revision
from barnraise.contract.manifest import Form
from barnraise.core.errors import StateError, UserError

_UNVERSIONED: tuple[Form, ...] = ("base", "data")
"""Forms that have one revision, whichever round is selected."""


def select(index: ArchiveIndex, forms: Collection[Form], revision: str | None) -> tuple[Repo, ...]:
    """The repositories of `forms` (all where it is empty), each with one revision or, where None, all.

    A form that does not exist for the revision is left out. Raises UserError where nothing is left.
    """
    repos = _of_forms(index, forms)
    return repos if revision is None else _at_revision(repos, revision)


def joined(existing: ArchiveIndex, added: ArchiveIndex) -> ArchiveIndex:
    """The index of a mirror that had `existing` and received the files of `added`, with nothing removed.

    Raises UserError where it holds another run, StateError where its log is longer.
    """
    _check_joinable(existing, added)
    repos = {(repo.kind, repo.id): repo for repo in existing.repos}
    for repo in added.repos:
        before = repos.get((repo.kind, repo.id))
        repos[repo.kind, repo.id] = _joined_repo(before, repo) if before is not None else repo
    # The mirror's older contributions extend the new ones only if there is no gap between the two.
    seamless = existing.replay_from <= added.replay_from <= existing.closed
    return added.model_copy(
        update={
            "replay_from": existing.replay_from if seamless else added.replay_from,
            "repos": tuple(repos.values()),
        }
    )


def _of_forms(index: ArchiveIndex, forms: Collection[Form]) -> tuple[Repo, ...]:
    have = [repo.form for repo in index.repos]
    if missing := [form for form in forms if form not in have]:
        raise UserError(
            f"the archive has no checkpoint of the form {missing[0]}",
            fix=f"It has: {', '.join(have) or 'nothing yet'}. [checkpoint] in run.toml says which forms are"
            " written.",
        )
    repos = tuple(repo for repo in index.repos if not forms or repo.form in forms)
    if not repos:
        raise UserError(
            "the archive has no checkpoint yet", fix="Publish again when the run has published its first one."
        )
    return repos


def _at_revision(repos: Sequence[Repo], revision: str) -> tuple[Repo, ...]:
    chosen, refusals = [], []
    for repo in repos:
        try:
            found = repo.revisions[0] if repo.form in _UNVERSIONED else find_revision(repo, revision)
            chosen.append(repo.model_copy(update={"revisions": (found,)}))
        except UserError as error:
            refusals.append(error)
    if refusals and all(repo.form in _UNVERSIONED for repo in chosen):
        raise refusals[0]
    return tuple(chosen)


def _check_joinable(existing: ArchiveIndex, added: ArchiveIndex) -> None:
    if (existing.run, existing.authority) != (added.run, added.authority):
        raise UserError(
            f"the destination holds the run {existing.run} of the key {existing.authority[:8]}…,"
            f" this is {added.run} of {added.authority[:8]}…",
            fix="Publish each run to its own destination.",
        )
    if existing.length > added.length:
        raise StateError(
            f"the destination has {existing.closed} rounds of the log, this archive only {added.closed}",
            fix="This archive may be an old copy: publish from the newest one, or to another destination.",
        )


def _joined_repo(before: Repo, repo: Repo) -> Repo:
    """The revisions of both. A name moves to where the new ones have it."""
    taken = {name for revision in repo.revisions for name in revision.names}
    revisions: dict[str, Revision] = {
        revision.folder: revision.model_copy(
            update={"names": tuple(name for name in revision.names if name not in taken)}
        )
        for revision in before.revisions
    }
    revisions |= {revision.folder: revision for revision in repo.revisions}
    ordered = tuple(sorted(revisions.values(), key=lambda revision: revision.round))
    return repo.model_copy(update={"revisions": ordered})
