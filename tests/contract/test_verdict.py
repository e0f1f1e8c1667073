"""Verdicts in the log: what does not follow from its figures is refused by closers and by `peer verify`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barnraise.contract.archive import entry_path
from barnraise.contract.audit_figures import Figures
from barnraise.contract.charter import Charter
from barnraise.contract.entry_order import with_order
from barnraise.contract.log_entries import Change, Rollback, StandingChange
from barnraise.contract.state import TrainState
from barnraise.contract.verdict import Verdict, check_verdict
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import sign
from barnraise.fold.log import Amendment
from barnraise.fold.replay import Cause, Difference, Replay
from coordinator.rounds.candidate_check import check_candidate
from coordinator.store.next_entry import rollback_of, standing_change_of
from coordinator.store.run_store import RunStore
from coordinator.verdicts import read_changes, render
from tests.support import parts
from tests.support.coordinators import opened_store
from tests.support.parts import ADA, AUTHORITY, BEN, HASH_A, NOW, RUN


def figures(change: int = 1000) -> Figures:
    return Figures(
        round=3, blob=HASH_A, change=change, error=10, usual=-1000, scale=1000, alignment=9, usual_alignment=9
    )


def change(by: Identity = AUTHORITY, *, level: str = "suspended", **other: Any) -> Change:
    fields = {
        "run": RUN, "key": ADA.public, "claim": "harm", "wealth": 1.0, "recent": 0.1,
        "figures": (figures(),) * 8, "at": NOW,
    } | other  # fmt: skip
    verdict = sign(by, Verdict.model_validate(fields))
    made = {"key": ADA.public, "level": level, "cause": "audit", "verdict": verdict.text}
    return Change.model_validate(made)


UNFOUNDED: list[Change] = [
    change(figures=(figures(),) * 5),
    change(figures=(figures(-1000),) * 12),
    change(key=BEN.public),
    change(run="other"),
    change(level="trusted"),
    change(level="probation"),
    change(claim="clean"),
    change().model_copy(update={"verdict": None}),
    change().model_copy(update={"cause": "order"}),
    change().model_copy(update={"cause": "work"}),
]


@pytest.mark.parametrize("found", [change(), change(level="banned")])
def test_a_verdict_is_decided_again_from_its_figures(found: Change) -> None:
    verdict = check_verdict(found, RUN, AUTHORITY.public)
    assert verdict is not None
    assert verdict.follows


def test_recovery_is_decided_again_too() -> None:
    clean = change(level="probation", claim="clean", wealth=20.0, figures=(figures(-1000),) * 12)
    assert check_verdict(clean, RUN, AUTHORITY.public) is not None


def test_an_order_and_work_need_no_verdict() -> None:
    order = Change(key=ADA.public, level="banned", cause="order")
    assert check_verdict(order, RUN, AUTHORITY.public) is None


@pytest.mark.parametrize("found", UNFOUNDED)
def test_what_does_not_follow_is_refused(found: Change) -> None:
    with pytest.raises(MalformedRecord):
        check_verdict(found, RUN, AUTHORITY.public)


def test_a_verdict_by_another_key_is_refused() -> None:
    with pytest.raises(BadSignature):
        check_verdict(change(BEN), RUN, AUTHORITY.public)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def entry(store: RunStore, found: Change) -> StandingChange:
    return with_order(standing_change_of(store.snapshot, [found], (), Millis(NOW)), AUTHORITY)


def test_a_closer_votes_for_founded_changes_alone(store: RunStore) -> None:
    def check(found: Change) -> None:
        check_candidate(entry(store, found), store.snapshot, None, Millis(NOW), store.blob_sizes)

    check(change())
    with pytest.raises(MalformedRecord):
        check(UNFOUNDED[0])


def test_a_replay_blames_the_coordinator_for_an_unfounded_verdict(store: RunStore) -> None:
    founded = store.amend(entry(store, change()), Millis(NOW))
    unfounded = store.amend(entry(store, UNFOUNDED[0]), Millis(NOW))
    charter: Charter = store.charter
    replay = Replay.from_base(charter, TrainState(dict(store.state.params)))
    assert isinstance(replay, Replay)
    passed = replay.check(founded)
    assert isinstance(passed, Amendment)
    after = replay.amend(passed)
    assert isinstance(after, Replay)
    found = after.check(unfounded)
    assert isinstance(found, Difference)
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, 1), Cause.COORDINATOR)


def test_the_verdicts_of_a_rollback_are_decided_again_too(store: RunStore) -> None:
    def back(found: Change) -> Rollback:
        run = store.snapshot
        return with_order(rollback_of(run, 0, run.tip.state, [found], "", Millis(NOW)), AUTHORITY)

    def check(found: Change) -> None:
        check_candidate(back(found), store.snapshot, None, Millis(NOW), store.blob_sizes)

    check(change())
    with pytest.raises(MalformedRecord):
        check(UNFOUNDED[0])
    replay = Replay.from_base(store.charter, TrainState(dict(store.state.params)))
    assert isinstance(replay, Replay)
    found = replay.check(store.amend(back(UNFOUNDED[0]), Millis(NOW)))
    assert isinstance(found, Difference)
    assert (found.what, found.where, found.cause) == ("entry", entry_path(0, 0), Cause.COORDINATOR)


def test_the_maintainer_reads_verdicts_with_their_figures(store: RunStore, tmp_path: Path) -> None:
    made = store.amend(entry(store, change()), Millis(NOW))
    file = tmp_path / "archive" / entry_path(0, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(made.entry.payload)
    (decision,) = read_changes(tmp_path / "archive")
    assert (decision.round, decision.change.key) == (0, ADA.public)
    text = render([decision])
    assert text.startswith(f"{parts.ADA.public[:8]} is suspended since round 0: harm, ")
    assert text.count("+0.0000 ± 0.0000") == 8
    assert render([]) == "no key was suspended by audits"
