"""Whether the run goes back by itself when audits ban a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.audit_figures import Figures
from barnraise.contract.divergence import LossTrend
from barnraise.contract.log_entries import Change, StandingChange
from barnraise.contract.manifest import HeldOut
from barnraise.contract.standing import Level
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.verdict import Verdict
from barnraise.core.errors import StateError
from barnraise.core.ids import PublicKey
from barnraise.core.signed import sign
from barnraise.fold.log import check_follows
from coordinator.cli.rollback import continue_run
from coordinator.reasons.rounds import (
    HarmAfterRollback,
    LossesUnharmed,
    NothingFolded,
    NothingIsBanned,
    RunHalted,
)
from coordinator.rounds import amending
from coordinator.rounds.amending import Amending
from coordinator.rounds.automatic_rollback import (
    GoBack,
    Halt,
    Stay,
    after_verdicts,
    first_harm,
    harm_since,
    losses_rose,
)
from coordinator.store.next_entry import resume_of, standing_change_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_state import Score
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm, contribution, fold_round, opened_store, session_of

ADA, BEN = PublicKey(parts.ADA.public), PublicKey(parts.BEN.public)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        for _ in range(3):
            fold_round(made, parts.ADA)
        yield made


def test_without_a_ban_or_without_harm_the_run_goes_on(store: RunStore) -> None:
    assert after_verdicts({}, True, store.snapshot) == Stay(NothingIsBanned())
    assert after_verdicts({ADA: 1}, False, store.snapshot) == Stay(LossesUnharmed())
    assert after_verdicts({ADA: 3}, True, store.snapshot) == Stay(NothingFolded()), "of the open round"


def test_it_goes_back_to_before_the_first_harm(store: RunStore) -> None:
    assert after_verdicts({ADA: 2, BEN: 1}, True, store.snapshot) == GoBack(1)


def test_a_second_time_it_halts(store: RunStore) -> None:
    store.amend(rollback_to(2, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    assert after_verdicts({ADA: 2}, True, store.snapshot) == Stay(NothingFolded()), "it is void"
    fold_round(store, parts.ADA)
    assert after_verdicts({ADA: 4}, True, store.snapshot) == Halt(HarmAfterRollback((ADA,), 2))


def test_it_goes_back_to_no_round_that_is_void(tmp_path: Path) -> None:
    spec = parts.run_spec()
    short = spec.checkpoint.model_copy(update={"rollback_rounds": 1})
    with opened_store(tmp_path, spec.model_copy(update={"checkpoint": short})) as store:
        for _ in range(3):
            fold_round(store, parts.ADA)
        store.amend(rollback_to(1, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
        store.rebuild()
        for _ in range(2):
            fold_round(store, parts.ADA)
        forgotten = replace(store.snapshot, replay_from=1)
        for first_harm, run, to in (({ADA: 2, BEN: 5}, store.snapshot, 5), ({ADA: 0}, forgotten, 4)):
            assert after_verdicts(first_harm, True, run) == GoBack(to)
            rollback_to(to, (), "", run, store.blobs.get, parts.NOW)


@pytest.mark.parametrize(
    ("losses", "rose"), [([], False), ([2.0, 1.0], False), ([1.0, 1.04], False), ([1.0, 1.1], True)]
)
def test_when_the_losses_rose(store: RunStore, losses: list[float], rose: bool) -> None:
    scores = {round: Score(0, HeldOut(loss=loss, tokens=1)) for round, loss in enumerate(losses)}
    assert losses_rose(replace(store.snapshot, scores=scores), None) is rose


GOOD, BAD = -1000, 4000


def verdict_on(level: Level, scores: dict[int, int], wealth: float = 1.0) -> Change:
    """A change of ADA's standing by audits. scores: change of the loss by round."""
    figures = tuple(
        Figures(
            alignment=1,
            usual_alignment=1,
            round=round,
            blob=parts.HASH_A,
            change=change,
            error=1,
            usual=GOOD,
            scale=-GOOD,
        )
        for round, change in scores.items()
    )
    verdict = Verdict(
        run=parts.RUN, key=ADA, claim="harm", wealth=wealth, recent=0.1, figures=figures, at=parts.NOW
    )
    text = sign(parts.AUTHORITY, verdict).text
    return Change(key=ADA, level=level, cause="audit", verdict=text)


def changed(store: RunStore, change: Change) -> StandingChange:
    return standing_change_of(store.snapshot, [change], [], parts.NOW)


def test_harm_begins_after_the_last_audit_that_shows_none_before_the_suspension(store: RunStore) -> None:
    """Since its suspension the key weighed nothing: what audits found later is no harm to the state."""
    assert (
        first_harm(changed(store, verdict_on("suspended", {0: BAD})), store.snapshot, store.blobs.get) == {}
    )
    store.amend(changed(store, verdict_on("suspended", {0: GOOD, 1: BAD, 2: BAD})), parts.NOW)
    for _ in range(3):
        fold_round(store, parts.BEN)
    banned = changed(store, verdict_on("banned", {3: BAD, 4: BAD, 5: BAD}))
    assert first_harm(banned, store.snapshot, store.blobs.get) == {ADA: 1}


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ({4: BAD, 5: BAD}, 4),
        ({2: GOOD, 4: BAD, 5: BAD}, 3),  # what was not audited between them may have done it
        ({1: BAD, 2: GOOD, 3: GOOD, 4: GOOD, 5: GOOD, 6: BAD, 7: BAD, 8: BAD}, 6),
        ({1: BAD, 2: BAD, 3: BAD, 4: GOOD, 5: BAD}, 1),
    ],
)
def test_where_harm_begins(store: RunStore, scores: dict[int, int], since: int) -> None:
    assert harm_since(verdict_on("banned", scores, wealth=0.5), store.snapshot) == since


def test_without_an_earlier_audit_harm_begins_where_the_losses_were_lowest(store: RunStore) -> None:
    change, run = verdict_on("banned", {4: BAD, 5: BAD}), store.snapshot
    by_training = replace(run, trend=LossTrend((1.0,), 1.0, 2))
    assert harm_since(change, by_training) == 2
    losses = {0: 3.0, 3: 1.0, 6: 4.0}
    scores = {round: Score(0, HeldOut(loss=loss, tokens=1)) for round, loss in losses.items()}
    evaluated = replace(by_training, scores=scores)
    assert harm_since(change, evaluated) == 3


def test_the_harm_of_a_key_that_had_no_weight_is_not_in_the_state(tmp_path: Path) -> None:
    """Else two strangers that are banned would halt a run whose losses rise for another reason."""
    spec = parts.run_spec().model_copy(update={"trust": TrustSpec(mode="open", vouched=(BEN,))})
    with opened_store(tmp_path, spec) as store:
        for _ in range(2):
            fold_round(store, parts.ADA, parts.BEN)
        store.amend(changed(store, verdict_on("suspended", {0: BAD, 1: BAD})), parts.NOW)
        fold_round(store, parts.ADA, parts.BEN)
        banned = changed(store, verdict_on("banned", {2: BAD}))
        found = first_harm(banned, store.snapshot, store.blobs.get)
        assert found == {ADA: None}
        assert after_verdicts(found, True, store.snapshot) == Stay(NothingFolded())


def test_harm_in_rounds_that_are_void_already_is_no_harm_any_more(store: RunStore) -> None:
    store.amend(rollback_to(1, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    fold_round(store, parts.ADA)
    store.amend(changed(store, verdict_on("suspended", {2: BAD, 4: BAD}, wealth=0.5)), parts.NOW)
    banned = changed(store, verdict_on("banned", {5: BAD}))
    assert first_harm(banned, store.snapshot, store.blobs.get) == {ADA: 4}


def test_a_halted_run_closes_no_round_until_its_maintainer_has_it_continue(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amending, "losses_rose", lambda *_: True)
    store.amend(rollback_to(2, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    fold_round(store, parts.ADA)
    banned = changed(store, verdict_on("banned", {4: BAD}))
    act = session_of(store, FakeSwarm(store.blobs))
    act.amending = Amending(store, audits=lambda _: banned if store.snapshot.may_be_amended else None)
    asyncio.run(act.tick())
    act.amending = Amending(store)
    assert store.snapshot.position.halted
    assert store.snapshot.position.standings.bans(ADA)
    commit, blob = contribution(store, parts.BEN, seed=99)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    asyncio.run(act.tick())
    assert act.progress == RunHalted()
    close = store.candidate("all contributed", parts.NOW)
    with pytest.raises(StateError, match="halted"):
        check_follows(store.snapshot.position, close, store.snapshot.spec)

    result = CliRunner().invoke(continue_run, [str(store.folder)])
    assert result.exit_code == 0, result.output
    asyncio.run(act.tick())
    assert not store.snapshot.position.halted
    assert store.snapshot.round == 6, "the contribution that waited is folded"


def test_a_rollback_ends_a_halt(store: RunStore) -> None:
    halting = standing_change_of(store.snapshot, [], [], parts.NOW, halted=True)
    store.amend(halting, parts.NOW)
    revoking = standing_change_of(store.snapshot, [], ["1f" * 8], parts.NOW)
    store.amend(revoking, parts.NOW)
    assert store.snapshot.position.halted, "another change of standings does not"
    store.amend(resume_of(store.snapshot, parts.NOW, 0, parts.AUTHORITY.public), parts.NOW)
    assert store.snapshot.position.halted, "nor does a recovery"
    store.amend(rollback_to(2, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    assert not store.snapshot.position.halted
