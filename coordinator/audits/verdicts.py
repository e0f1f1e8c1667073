"""What follows from the evidence: changes of standings, with the verdicts that prove them. Pure.

| level                | evidence                          | becomes                                    |
|----------------------|-----------------------------------|--------------------------------------------|
| probation, trusted   | harm                              | suspended                                  |
| suspended            | harm, by audits since             | banned                                     |
| suspended            | clean, by audits since            | probation, from the beginning              |
| probation            | work: the first, and each fifth   | probation with more work; trusted with all |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from barnraise.contract.evidence import Claim
from barnraise.contract.log_entries import Change
from barnraise.contract.standing import Level, Standing
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.verdict import Verdict
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import sign
from coordinator.audits.ledger import Evidence, Ledger

MOST_CHANGES = 256
"""In one entry of the log, with a verdict each: less than a megabyte."""
STEPS = 5
"""Entries of the log in which a key's probation is counted, after that of its first work."""


@dataclass(frozen=True)
class Decided:
    """The next standing of one key."""

    key: PublicKey
    level: Level
    work: int
    claim: Claim | None
    """What audits prove; None where work alone counts."""


def decide(ledger: Ledger, standings: Mapping[PublicKey, Standing], trust: TrustSpec) -> Iterator[Decided]:
    """The changes that the evidence asks for. standings: of all keys in the ledger."""
    for key, now in standings.items():
        if (found := _decide(key, ledger.of(key, now), now, trust)) is not None:
            yield found


def _decide(key: PublicKey, evidence: Evidence, now: Standing, trust: TrustSpec) -> Decided | None:
    if now.level == "banned":
        return None
    if evidence.account("harm").proves("harm"):
        return Decided(key, "banned" if now.level == "suspended" else "suspended", now.work, "harm")
    if now.level == "suspended":
        clean = evidence.account("clean").proves("clean")
        return Decided(key, "probation", 0, "clean") if clean else None
    return _work(key, evidence, now, trust) if now.level == "probation" else None


def _work(key: PublicKey, evidence: Evidence, now: Standing, trust: TrustSpec) -> Decided | None:
    needed, work = trust.probation_work, evidence.work
    if work >= needed:
        return Decided(key, "trusted", work, None)
    is_due = (work - now.work) * STEPS >= needed or (work > 0 and now.work == 0)
    return Decided(key, "probation", work, None) if is_due else None


def changes(
    decided: Iterable[Decided],
    evidence: Callable[[PublicKey], Evidence],
    run: str,
    authority: Identity,
    now: Millis,
) -> tuple[Change, ...]:
    """For the log, with signed verdicts. Harm comes first where not all fit into one entry."""
    ordered = sorted(decided, key=lambda each: (each.claim != "harm", each.key))[:MOST_CHANGES]
    return tuple(_change(each, evidence(each.key), run, authority, now) for each in ordered)


def _change(decided: Decided, evidence: Evidence, run: str, authority: Identity, now: Millis) -> Change:
    if decided.claim is None:
        return Change(key=decided.key, level=decided.level, work=decided.work, cause="work")
    before = evidence.before[decided.claim]
    verdict = Verdict(
        run=run,
        key=decided.key,
        claim=decided.claim,
        wealth=before.wealth,
        recent=before.recent,
        figures=evidence.figures,
        at=now,
    )
    text = sign(authority, verdict).text
    return Change(key=decided.key, level=decided.level, work=decided.work, cause="audit", verdict=text)
