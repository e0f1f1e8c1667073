"""Which checkpoints are selected, and what a mirror's index names after a newer archive."""

from __future__ import annotations

import pytest

from barnraise.contract.archive import ArchiveIndex, Repo, Revision
from barnraise.contract.manifest import Form
from barnraise.core.errors import StateError, UserError
from coordinator.publishing.selection import joined, select
from tests.support import parts
from tests.support.coordinators import raises_with_fix


def revision(round: int, *names: str, form: str = "checkpoints") -> Revision:
    return Revision(
        folder=f"{form}/round-{round:06d}", manifest=f"{round:064x}", round=round,
        names=(f"round-{round}", *names),
    )  # fmt: skip


def index(*revisions: Revision, closed: int = 10, replay_from: int = 0, run: str = parts.RUN) -> ArchiveIndex:
    repo = Repo(id="ada/barn", kind="model", form="trained", revisions=revisions)
    return ArchiveIndex(
        version=2, run=run, authority=parts.AUTHORITY.public, closed=closed, entries=closed,
        replay_from=replay_from,
        repos=(repo,) if revisions else (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("existing", "added", "replay_from"),
    [
        ((10, 0), (20, 0), 0),
        ((10, 0), (20, 5), 0),
        ((10, 0), (20, 10), 0),
        ((10, 0), (20, 11), 11),
        ((10, 8), (20, 5), 5),
    ],
)
def test_a_replay_starts_where_no_contribution_is_missing(
    existing: tuple[int, int], added: tuple[int, int], replay_from: int
) -> None:
    """Each pair: closed rounds, and the round from which contributions are kept."""
    before = index(revision(5), closed=existing[0], replay_from=existing[1])
    after = index(revision(8), closed=added[0], replay_from=added[1])
    assert joined(before, after).replay_from == replay_from


def test_names_are_those_of_the_newer_archive() -> None:
    before = index(revision(5, "main", "best"), revision(6, "latest"))
    repo = joined(before, index(revision(6, "main"), revision(8, "latest"))).repo("trained")
    assert repo is not None
    names = {each.round: each.names for each in repo.revisions}
    assert names == {5: ("round-5", "best"), 6: ("round-6", "main"), 8: ("round-8", "latest")}


def test_forms_of_the_mirror_are_kept() -> None:
    gguf = Repo(
        id="ada/barn-gguf", kind="model", form="gguf", revisions=(revision(5, "main", form="gguf"),)
    )  # fmt: skip
    before = index(revision(5)).model_copy(update={"repos": (*index(revision(5)).repos, gguf)})
    assert joined(before, index(revision(8))).repo("gguf") == gguf


def test_another_run_and_an_older_archive_are_refused() -> None:
    with raises_with_fix(UserError, 2, "the run shed", "its own destination"):
        joined(index(revision(5), run="shed"), index(revision(5)))
    with raises_with_fix(StateError, 7, "10 rounds", "only 9"):
        joined(index(revision(5)), index(revision(5), closed=9))


def test_selects_revisions_and_forms() -> None:
    whole = index(revision(5, "main", "best"), revision(8, "latest"))
    assert [each.round for repo in select(whole, (), None) for each in repo.revisions] == [5, 8]
    for wanted, round in (("main", 5), ("latest", 8), ("8", 8), ("round-000005", 5)):
        assert [each.round for repo in select(whole, (), wanted) for each in repo.revisions] == [round]
    with raises_with_fix(UserError, 2, "no checkpoint yet"):
        select(index(), (), None)
    merged: tuple[Form, ...] = ("merged",)
    with raises_with_fix(UserError, 2, "form merged", "trained"):
        select(whole, merged, None)
