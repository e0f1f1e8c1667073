"""What audits show of each key. Immutable and pure.

A report's results become figures by a reference: the changes of the loss by recently audited contributions of
trusted keys that the draw chose, or of all where there are none. Those that are audited because they look
suspicious do not count for it: 7 of 16 that turn would be most of what is audited, and harm would be usual.
The figures of a key add up since its level changed last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from types import MappingProxyType

from barnraise.contract.audit_figures import MILLION, Figures, Reference, reference_of, usual_alignment_of
from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.audit_task import Disagreement
from barnraise.contract.evidence import TOLERANCE, UNIT, Account, Claim, account_of
from barnraise.contract.standing import Level, Standing
from barnraise.contract.verdict import MAX_FIGURES
from barnraise.core.ids import PublicKey

REFERENCE_ROUNDS = 8
"""Audited rounds whose changes are remembered."""
FEWEST = 3
"""Changes that make a reference."""
MOST_KEYS = 4096
"""Keys with evidence: those that contributed longest ago are forgotten first."""
CLAIMS: tuple[Claim, ...] = ("harm", "clean")


def nothing() -> Mapping[Claim, Account]:
    """Accounts before the first audit."""
    return MappingProxyType({claim: Account() for claim in CLAIMS})


@dataclass(frozen=True)
class Evidence:
    """Of one key, since its level changed."""

    level: Level
    """While which it was found."""
    work: int
    """Audited contributions that did no harm, with those that the log counted before."""
    figures: tuple[Figures, ...] = ()
    """The newest ones."""
    before: Mapping[Claim, Account] = field(default_factory=nothing)
    """What the earlier ones add up to."""
    audited: int = 0
    opposed: bool = False
    """Whether its newest contribution pointed elsewhere than those of trusted keys, or was clipped."""
    auditors: frozenset[PublicKey] = frozenset()
    """Who else than the coordinator tried its contributions."""

    def after(self, figures: Figures, auditor: str | None, *, earns: bool) -> Evidence:
        """With one more audit. auditor: as of `AuditReport`. earns: whether it may count as work."""
        kept, before = (*self.figures, figures), self.before
        if len(kept) > MAX_FIGURES:
            oldest, *rest = kept
            before = MappingProxyType({claim: before[claim].after(oldest.score, claim) for claim in CLAIMS})
            kept = tuple(rest)
        good = earns and figures.finding == "tried" and figures.score <= TOLERANCE
        auditors = self.auditors if auditor is None else self.auditors | {PublicKey(auditor)}
        return replace(
            self,
            figures=kept,
            before=before,
            work=self.work + good,
            audited=self.audited + 1,
            auditors=auditors,
        )

    def account(self, claim: Claim) -> Account:
        """What all figures add up to."""
        return self._accounts[claim]

    @cached_property
    def _accounts(self) -> Mapping[Claim, Account]:
        """Asked for at each tick, of all keys."""
        scores = [each.score for each in self.figures]
        return {claim: account_of(scores, claim, self.before[claim]) for claim in CLAIMS}

    @property
    def is_suspicious(self) -> bool:
        """Whether all of the key's contributions are to be audited, on any level."""
        return self.opposed or self.account("harm").recent > TOLERANCE / UNIT


@dataclass(frozen=True)
class Changes:
    """Of the loss, in one round: by trusted keys that were drawn, and by others that are not suspended."""

    trusted: tuple[int, ...]
    others: tuple[int, ...]


@dataclass(frozen=True)
class Ledger:
    """The evidence on keys that contributed to audited rounds."""

    by_key: Mapping[PublicKey, Evidence] = field(default_factory=lambda: MappingProxyType({}))
    recent: tuple[Changes, ...] = ()
    """Of the last rounds that were audited, oldest first."""
    newest: int = -1
    """The last round that was audited: a report of it or an earlier one changes nothing."""
    wrong: Mapping[PublicKey, Disagreement] = field(default_factory=lambda: MappingProxyType({}))
    """The auditors that are not asked any more, and why."""

    def after(self, report: AuditReport, standings: Mapping[PublicKey, Standing]) -> Ledger:
        """With the report of a round that is not audited yet. standings: of the keys in it."""
        if report.round <= self.newest:
            return self
        recent = (*self.recent, _changes(report.results, standings, self.suspicious))[-REFERENCE_ROUNDS:]
        figures = _Compared(report.round, _reference(recent), _usual_alignment(report.results, standings))
        by_key = dict(self.by_key)
        for result in report.results:
            key, found = PublicKey(result.key), figures.of(result)
            opposed = found.distance > TOLERANCE or result.taken < MILLION
            evidence = replace(self.of(key, standings[key]), opposed=opposed)
            if result.audited or result.finding != "tried":
                evidence = evidence.after(found, report.auditor, earns=result.taken == MILLION)
            by_key.pop(key, None)
            by_key[key] = evidence  # the newest are last
        newest = dict(islice(by_key.items(), max(0, len(by_key) - MOST_KEYS), None))
        return replace(self, by_key=MappingProxyType(newest), recent=recent, newest=report.round)

    def without(self, auditor: PublicKey, wrong: Disagreement) -> Ledger:
        """Where an auditor reported what is wrong: nothing that rests on its reports counts. Suspicious keys
        are watched on, so that their harm is found again at once.
        """
        kept = {
            key: each if auditor not in each.auditors else Evidence(each.level, 0, opposed=True)
            for key, each in self.by_key.items()
            if auditor not in each.auditors or each.is_suspicious
        }
        found = MappingProxyType({**self.wrong, auditor: wrong})
        return replace(self, by_key=MappingProxyType(kept), recent=(), wrong=found)

    def current(self, standings: Mapping[PublicKey, Standing]) -> Ledger:
        """Without the evidence on keys whose level the log changed since. standings: of all keys in it."""
        kept = {key: each for key, each in self.by_key.items() if each.level == standings[key].level}
        return self if len(kept) == len(self.by_key) else replace(self, by_key=MappingProxyType(kept))

    def of(self, key: PublicKey, standing: Standing) -> Evidence:
        """What is known of a key at its level; nothing where the log changed it since."""
        known = self.by_key.get(key)
        if known is None or known.level != standing.level:
            return Evidence(standing.level, standing.work)
        return known if known.work >= standing.work else replace(known, work=standing.work)

    @property
    def least_drawn(self) -> int:
        """Trusted keys to draw in the next round: more where too few changes are known for a reference."""
        return max(1, FEWEST - sum(len(each.trusted) for each in self.recent))

    @property
    def suspicious(self) -> frozenset[PublicKey]:
        """Keys whose contributions are all to be audited."""
        return frozenset(key for key, evidence in self.by_key.items() if evidence.is_suspicious)


def _changes(
    results: Iterable[AuditResult], standings: Mapping[PublicKey, Standing], watched: Collection[PublicKey]
) -> Changes:
    """watched: keys all of whose contributions are audited."""
    found: dict[bool, list[int]] = {True: [], False: []}
    for result in results:
        key = PublicKey(result.key)
        level = standings[key].level
        if result.audited and result.finding == "tried" and level in ("trusted", "probation"):
            was_drawn = key not in watched and result.taken == MILLION
            found[level == "trusted" and was_drawn].append(result.change)
    return Changes(tuple(found[True]), tuple(found[False]))


def _usual_alignment(results: Iterable[AuditResult], standings: Mapping[PublicKey, Standing]) -> int:
    return usual_alignment_of(
        [each.alignment for each in results if standings[PublicKey(each.key)].level == "trusted"]
    )


def _reference(recent: Sequence[Changes]) -> Reference:
    """Of the newest rounds that have enough changes: what they are falls as training goes on."""
    trusted = _newest(each.trusted for each in reversed(recent))
    return reference_of(trusted or _newest(each.others for each in reversed(recent)))


def _newest(rounds: Iterable[tuple[int, ...]]) -> list[int]:
    found: list[int] = []
    for each in rounds:
        found += each
        if len(found) >= FEWEST:
            break
    return found


@dataclass(frozen=True)
class _Compared:
    """What the results of a round are compared with."""

    round: int
    reference: Reference
    usual_alignment: int

    def of(self, result: AuditResult) -> Figures:
        return Figures(
            round=self.round,
            blob=result.blob,
            change=result.change,
            error=result.error,
            usual=self.reference.usual,
            scale=self.reference.scale,
            alignment=result.alignment,
            usual_alignment=self.usual_alignment,
            finding=result.finding,
        )
