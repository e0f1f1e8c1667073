"""What is published of an archive, and what a place names that has some of it already. Pure."""

from __future__ import annotations

from collections.abc import Collection

from barnraise.contract.archive import ArchiveIndex, Repo, Revision, find_revision
from barnraise.contract.manifest import Form
from barnraise.core.errors import StateError, UserError


def select(index: ArchiveIndex, forms: Collection[Form], revision: str | None) -> tuple[Repo, ...]:
    """The repositories of `forms` (all where it is empty), each with one revision or, where None, all.

    A form that does not exist for the revision is left out. Raises UserError where nothing is left.
    """
    asked = [repo for repo in index.repos if not forms or repo.form in forms]
    if missing := [form for form in forms if index.repo(form) is None]:
        have = ", ".join(repo.form for repo in index.repos) or "nothing yet"
        raise UserError(
            f"the archive has no checkpoint of the form {missing[0]}",
            fix=f"There are: {have}. [checkpoint] in run.toml says which forms are written.",
        )
    if not asked:
        raise UserError(
            "the archive has no checkpoint yet", fix="Publish again when the run has settled its first one."
        )
    if revision is None:
        return tuple(asked)
    chosen, refusal = [], None
    for repo in asked:
        try:
            found = repo.revisions[0] if repo.form in ("base", "data") else find_revision(repo, revision)
        except UserError as error:
            refusal = refusal or error
            continue
        chosen.append(repo.model_copy(update={"revisions": (found,)}))
    if refusal is not None and all(repo.form in ("base", "data") for repo in chosen):
        raise refusal
    return tuple(chosen)


def joined(theirs: ArchiveIndex, ours: ArchiveIndex) -> ArchiveIndex:
    """What a place that had `theirs` has once it got what `ours` names, with nothing removed.

    Raises UserError where it holds another run, StateError where it is ahead of us.
    """
    if (theirs.run, theirs.authority) != (ours.run, ours.authority):
        raise UserError(
            f"the place holds the run {theirs.run} of the key {theirs.authority[:8]}…,"
            f" this is {ours.run} of {ours.authority[:8]}…",
            fix="Publish to a place of its own.",
        )
    if theirs.closed > ours.closed:
        raise StateError(
            f"the place has {theirs.closed} rounds of the log, this archive only {ours.closed}",
            fix="It may be an old copy: publish from the newest one, or to another place.",
        )
    repos = {(repo.kind, repo.id): repo for repo in theirs.repos}
    for repo in ours.repos:
        before = repos.get((repo.kind, repo.id))
        repos[repo.kind, repo.id] = _with(before, repo) if before is not None else repo
    # Contributions that were there before go on from where they ended only without a gap.
    seamless = theirs.replay_from <= ours.replay_from <= theirs.closed
    return ours.model_copy(
        update={
            "replay_from": theirs.replay_from if seamless else ours.replay_from,
            "repos": tuple(repos.values()),
        }
    )


def _with(before: Repo, repo: Repo) -> Repo:
    """The revisions of both. A name stands where the new ones put it."""
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
