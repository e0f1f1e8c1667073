"""Evidence of keys: reports in, changes of standings out, with verdicts that follow from their figures."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.audit_figures import Finding
from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.evidence import FLOOR, UNIT
from barnraise.contract.log_entries import Change
from barnraise.contract.standing import Level, Standing
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.verdict import MAX_FIGURES, Verdict
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import open_text
from coordinator.audits import ledger as module
from coordinator.audits.ledger import Ledger
from coordinator.audits.verdicts import Decided, changes, decide
from tests.support.parts import ADA, AUTHORITY, BEN, HASH_A, NOW, RUN

TRUST = TrustSpec(mode="open", probation_work=10)
GOOD, BAD = -1000, 1000
TRUSTED = {PublicKey(f"{number:064x}"): Standing("trusted") for number in range(4)}
BAD_KEY = ADA.public


def result(key: PublicKey, change: int, **other: object) -> AuditResult:
    fields = {
        "key": key, "blob": HASH_A, "finding": "tried", "audited": True, "change": change, "error": 10,
        "norm": 1.0, "alignment": 500_000, "taken": 10**6,
    }  # fmt: skip
    return AuditResult.model_validate(fields | other)


def report(round: int, *results: AuditResult) -> AuditReport:
    return AuditReport(
        run=RUN, round=round, base_state=HASH_A, owner=AUTHORITY.public, results=results, at=NOW
    )


def played(
    standings: Mapping[PublicKey, Standing],
    changes_of: Mapping[PublicKey, int],
    rounds: range,
    ledger: Ledger | None = None,
) -> Ledger:
    ledger = ledger or Ledger()
    every = {**TRUSTED, **standings}
    for round in rounds:
        honest = [result(key, GOOD) for key in TRUSTED]
        ledger = ledger.after(
            report(round, *honest, *(result(key, change) for key, change in changes_of.items())), every
        )
    return ledger


def decided(ledger: Ledger, standings: Mapping[PublicKey, Standing]) -> list[Decided]:
    return list(decide(ledger, {**TRUSTED, **standings}, TRUST))


@pytest.mark.parametrize("level", ["probation", "trusted"])
def test_a_key_that_does_harm_is_suspended_within_ten_rounds(level: str) -> None:
    standing = {BAD_KEY: Standing("trusted" if level == "trusted" else "probation")}
    before = played(standing, {BAD_KEY: BAD}, range(6))
    assert decided(before, standing) == []
    after = played(standing, {BAD_KEY: BAD}, range(6, 7), before)
    assert decided(after, standing) == [Decided(BAD_KEY, "suspended", 0, "harm")]


def test_a_suspended_key_that_goes_on_is_banned_and_one_that_ceased_begins_again() -> None:
    suspended = {BAD_KEY: Standing("suspended")}
    judged = played({BAD_KEY: Standing("probation")}, {BAD_KEY: BAD}, range(8))
    assert decided(judged, suspended) == [], "a new level has evidence of its own"
    worse = played(suspended, {BAD_KEY: BAD}, range(8, 16), judged)
    assert decided(worse, suspended) == [Decided(BAD_KEY, "banned", 0, "harm")]
    better = played(suspended, {BAD_KEY: GOOD}, range(8, 30), judged)
    assert decided(better, suspended) == [Decided(BAD_KEY, "probation", 0, "clean")]
    assert decided(worse, {BAD_KEY: Standing("banned")}) == []


def test_probation_is_served_by_audited_work_in_steps() -> None:
    standing = Standing("probation")
    ledger, found, said = Ledger(), list[Decided](), list[int]()
    for round in range(10):
        ledger = played({BAD_KEY: standing}, {BAD_KEY: GOOD}, range(round, round + 1), ledger)
        for each in [each for each in decided(ledger, {BAD_KEY: standing}) if each.key == BAD_KEY]:
            found.append(each)
            said.append(round)
            standing = Standing(each.level, each.work)
    assert [(each.level, each.work) for each in found[:-1]] == [("probation", n) for n in (1, 3, 5, 7, 9)]
    assert found[-1] == Decided(BAD_KEY, "trusted", 10, None)
    assert said == [0, 2, 4, 6, 8, 9]


def test_verdicts_are_signed_with_the_newest_figures_and_follow_from_them() -> None:
    standing = {BAD_KEY: Standing("probation")}
    ledger = played(standing, {BAD_KEY: GOOD}, range(40))
    ledger = played(standing, {BAD_KEY: BAD}, range(40, 47), ledger)
    found = [each for each in decided(ledger, standing) if each.key == BAD_KEY]
    (change,) = changes(found, lambda key: ledger.of(key, standing[key]), RUN, AUTHORITY, Millis(NOW))
    assert change == Change(key=BAD_KEY, level="suspended", work=0, cause="audit", verdict=change.verdict)
    verdict = open_text(Verdict, str(change.verdict), signer=AUTHORITY.public).value
    assert (verdict.key, verdict.claim, len(verdict.figures)) == (BAD_KEY, "harm", MAX_FIGURES)
    assert verdict.follows
    assert verdict.account == ledger.of(BAD_KEY, standing[BAD_KEY]).account("harm")


def test_work_and_harm_of_many_keys_fit_into_one_entry_harm_first() -> None:
    keys = [PublicKey(f"{number:064x}") for number in range(100, 700)]
    found = [Decided(key, "trusted", 10, None) for key in keys] + [Decided(BAD_KEY, "suspended", 0, "harm")]
    ledger = played({BAD_KEY: Standing("probation")}, {BAD_KEY: BAD}, range(7))
    made = changes(found, lambda key: ledger.of(key, Standing("probation")), RUN, AUTHORITY, Millis(NOW))
    assert len(made) == 256
    assert made[0].key == BAD_KEY


def noise(round: int) -> AuditResult:
    """It points nowhere, and neither lowers nor raises the loss."""
    return result(BAD_KEY, (-1) ** round, alignment=(-1) ** round * 4000)


@pytest.mark.parametrize("level", ["probation", "trusted"])
def test_noise_that_does_not_raise_the_loss_is_suspended_and_earns_nothing(level: Level) -> None:
    standings = {**TRUSTED, BAD_KEY: Standing(level)}
    ledger = Ledger()
    for round in range(7):
        assert decided(ledger, {BAD_KEY: standings[BAD_KEY]}) == []
        ledger = ledger.after(report(round, *(result(key, GOOD) for key in TRUSTED), noise(round)), standings)
    assert decided(ledger, {BAD_KEY: standings[BAD_KEY]}) == [Decided(BAD_KEY, "suspended", 0, "harm")]


def test_with_few_trusted_contributions_no_direction_is_usual() -> None:
    standings = {**TRUSTED, BAD_KEY: Standing("probation")}
    few, ledger = list(TRUSTED)[:3], Ledger()
    for round in range(20):
        ledger = ledger.after(report(round, *(result(key, GOOD) for key in few), noise(round)), standings)
    assert ledger.of(BAD_KEY, standings[BAD_KEY]).work == 20


def test_keys_that_are_watched_do_not_make_their_own_harm_usual() -> None:
    """7 of 16 trusted keys turn: all of theirs are audited from then on, and one of the others a round."""
    bad = [PublicKey(f"{number:064x}") for number in range(100, 107)]
    good = [PublicKey(f"{number:064x}") for number in range(200, 209)]
    standings = {key: Standing("trusted") for key in (*bad, *good)}
    ledger = Ledger()
    for round in range(11):
        honest = [result(key, GOOD, audited=place == round % 9) for place, key in enumerate(good)]
        turned = [result(key, BAD, audited=round > 3, alignment=-300_000) for key in bad]
        ledger = ledger.after(report(round, *honest, *(turned if round > 2 else ())), standings)
    assert {each.usual for each in ledger.of(bad[0], standings[bad[0]]).figures} == {GOOD}
    assert {each.key for each in decide(ledger, standings, TRUST)} == {*bad}


def test_strangers_are_no_reference_where_any_trusted_key_was_tried() -> None:
    strangers = {PublicKey(f"{number:064x}"): BAD for number in range(100, 110)}
    standings = {**TRUSTED, **dict.fromkeys(strangers, Standing("probation"))}
    assert Ledger().least_drawn == 3
    first = result(next(iter(TRUSTED)), GOOD)
    ledger = Ledger().after(report(0, first, *(result(key, BAD) for key in strangers)), standings)
    assert {ledger.of(key, standings[key]).work for key in strangers} == {0}
    assert ledger.least_drawn == 2
    assert played({}, {}, range(3)).least_drawn == 1


@pytest.mark.parametrize("finding", ["copy", "replay", "empty"])
def test_repeated_and_empty_contributions_count_as_harm_also_where_they_are_not_tried(
    finding: Finding,
) -> None:
    standing = {**TRUSTED, BEN.public: Standing("trusted")}
    ledger = Ledger()
    for round in range(7):
        bad = result(BEN.public, 0, audited=False, finding=finding)
        ledger = ledger.after(report(round, *(result(key, GOOD) for key in TRUSTED), bad), standing)
    assert decided(ledger, {BEN.public: Standing("trusted")}) == [Decided(BEN.public, "suspended", 0, "harm")]


def test_a_contribution_that_points_away_from_the_others_is_watched() -> None:
    standing = {**TRUSTED, BEN.public: Standing("trusted")}
    away = result(BEN.public, 0, audited=False, alignment=100_000)
    honest = [result(key, GOOD) for key in TRUSTED]
    ledger = Ledger().after(report(0, *honest, away), standing)
    assert ledger.suspicious == {BEN.public}
    again = ledger.after(report(1, *honest, result(BEN.public, 0, audited=False)), standing)
    assert again.suspicious == frozenset()


def test_what_is_clipped_is_watched_and_no_reference() -> None:
    """Trusted keys that turn are audited at once, together: their harm is not what is usual."""
    bad = [PublicKey(f"{number:064x}") for number in range(100, 107)]
    standings = {**TRUSTED, **dict.fromkeys(bad, Standing("trusted"))}
    ledger = played({}, {}, range(3))
    honest = [result(key, GOOD, audited=key == min(TRUSTED)) for key in TRUSTED]
    turned = [result(key, BAD, taken=2000) for key in bad]
    ledger = ledger.after(report(3, *honest, *turned), standings)
    assert {ledger.of(key, standings[key]).figures[-1].usual for key in bad} == {GOOD}
    assert ledger.suspicious == {*bad}


def test_what_is_clipped_earns_nothing() -> None:
    """Large noise lowers the loss by luck now and then."""
    standings = {**TRUSTED, BAD_KEY: Standing("probation")}
    lucky = result(BAD_KEY, 10 * GOOD, alignment=0, taken=50_000)
    ledger = Ledger().after(report(0, *(result(key, GOOD) for key in TRUSTED), lucky), standings)
    assert ledger.of(BAD_KEY, standings[BAD_KEY]).work == 0


def test_a_round_counts_once() -> None:
    standing = {BAD_KEY: Standing("probation")}
    once = played(standing, {BAD_KEY: BAD}, range(3))
    assert played(standing, {BAD_KEY: BAD}, range(3), once) is once


def test_keys_that_contributed_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", len(TRUSTED) + 2)
    ledger, strangers = Ledger(), [PublicKey(f"{number:064x}") for number in range(100, 105)]
    for round, key in enumerate(strangers):
        ledger = played({key: Standing("probation")}, {key: GOOD}, range(round, round + 1), ledger)
    assert set(ledger.by_key) == {*TRUSTED, *strangers[-2:]}


def test_many_strangers_do_not_move_the_reference_of_trusted_keys() -> None:
    strangers = {PublicKey(f"{number:064x}"): BAD * 1000 for number in range(100, 130)}
    standings = {key: Standing("probation") for key in strangers} | {BAD_KEY: Standing("probation")}
    ledger = played(standings, strangers | {BAD_KEY: GOOD}, range(3))
    assert {each.usual for each in ledger.of(BAD_KEY, Standing("probation")).figures} == {GOOD}
    assert all(each.score == FLOOR for each in ledger.of(BAD_KEY, Standing("probation")).figures)
    assert ledger.of(PublicKey(f"{100:064x}"), Standing("probation")).figures[0].score == UNIT


@given(st.lists(st.integers(-2000, 2000), min_size=1, max_size=40))
def test_the_account_is_that_of_all_figures(found: list[int]) -> None:
    standing = {BAD_KEY: Standing("probation")}
    ledger, scores = Ledger(), []
    for round, change in enumerate(found):
        ledger = played(standing, {BAD_KEY: change}, range(round, round + 1), ledger)
        scores.append(ledger.of(BAD_KEY, standing[BAD_KEY]).figures[-1].score)
    evidence = ledger.of(BAD_KEY, standing[BAD_KEY])
    from barnraise.contract.evidence import account_of

    assert evidence.account("harm") == account_of(scores, "harm")
    assert evidence.audited == len(found)
