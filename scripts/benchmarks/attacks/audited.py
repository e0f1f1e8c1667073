"""The arm of `scripts/bench attacks` with the defaults of open runs: the coordinator's own audits.

What an audit finds, which contributions are audited and what follows from the evidence is the programs' own
code. Only the losses come from the toy, and a change of a standing counts in the round after the audit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from barnraise.contract.audit_figures import MILLION
from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.shards import Sample
from barnraise.contract.spec import RunSpec
from barnraise.contract.standing import Standing
from barnraise.contract.state import TrainState
from barnraise.core.ids import PublicKey, blob_hash
from barnraise.evaluation.audit_job import AuditJob, Tried
from barnraise.evaluation.audit_program import Directions, summary, tried_step
from barnraise.fold.aggregators import Contribution, taken_of
from coordinator.audits.choose import SAMPLES, audited_keys
from coordinator.audits.ledger import Ledger
from coordinator.audits.verdicts import decide
from scripts.benchmarks.attacks.defences import Caps, Sent
from scripts.benchmarks.attacks.toys import Learner


class Audited(Caps):
    """Audits every round."""

    def __init__(
        self,
        trusted: frozenset[PublicKey],
        spec: RunSpec,
        auditor: Learner,
        secret: Sequence[Sample],
        seed: int,
        folder: Path,
    ) -> None:
        super().__init__(trusted)
        self._spec, self._auditor, self._secret = spec, auditor, secret
        self._random, self._round, self._ledger = random.Random(seed), 0, Ledger()
        self._standings: dict[PublicKey, Standing] = {}
        self._folder = folder

    def standing(self, key: PublicKey) -> Standing:
        """Of any key."""
        return self._standings.get(key) or super().standing(key)

    def after(self, before: TrainState, after: TrainState, sent: Sequence[Sent]) -> TrainState:
        """Audit a round."""
        standings = {each.key: self.standing(each.key) for each in sent}
        levels = {key: standing.level for key, standing in standings.items()}
        taken = self._taken(sent)
        clipped = {each.key for each, share in zip(sent, taken, strict=True) if share < MILLION}
        watched = self._ledger.suspicious | clipped
        chosen = audited_keys(levels, watched, self._random, self._ledger.least_drawn)
        report = AuditReport(
            run=self._spec.name, round=self._round, base_state=before.hash(), owner=sent[0].key,
            results=tuple(self._results(before, sent, taken, chosen)), at=0,
        )  # fmt: skip
        self._ledger = self._ledger.after(report, standings)
        self._round += 1
        known = {key: self.standing(key) for key in self._ledger.by_key}
        for decided in decide(self._ledger, known, self.trust):
            self._standings[decided.key] = Standing(decided.level, decided.work)
            if decided.claim == "harm":
                self.suspended |= {decided.key}
        return after

    def _results(
        self, state: TrainState, sent: Sequence[Sent], taken: Sequence[int], chosen: frozenset[PublicKey]
    ) -> Iterator[AuditResult]:
        job = self._job(sent, taken, chosen)
        directions = Directions(job, state.layout)
        found = directions.findings()
        samples = self._random.sample(list(self._secret), min(SAMPLES, len(self._secret)))
        self._auditor.load(state)
        usual = self._auditor.losses(samples)
        for place, each in enumerate(sent):
            norm = directions.norms[place]
            step = tried_step(self._spec, norm, state.layout, taken[place] / MILLION)
            change, error = self._tried(state, each, step, samples, usual) if each.key in chosen else (0, 0)
            yield AuditResult(
                key=each.key, blob=blob_hash(each.blob), finding=found[place], audited=each.key in chosen,
                change=change, error=error, norm=norm, alignment=directions.alignments[place],
                taken=taken[place],
            )  # fmt: skip

    def _tried(
        self, state: TrainState, sent: Sent, step: float, samples: Sequence[Sample], usual: np.ndarray
    ) -> tuple[int, int]:
        params = {
            name: array - np.float32(step) * sent.decoder.tensor(name) for name, array in state.params.items()
        }
        self._auditor.load(replace(state, params=params))
        return summary((self._auditor.losses(samples) - usual).astype(np.float64))

    def _taken(self, sent: Sequence[Sent]) -> Sequence[int]:
        weighed = zip(sent, self.weigh(sent), strict=True)
        alike = [Contribution(each.decoder, 1, w.tokens or each.tokens, w.trusted) for each, w in weighed]
        return taken_of(self._spec.aggregate, alike)

    def _job(self, sent: Sequence[Sent], taken: Sequence[int], chosen: frozenset[PublicKey]) -> AuditJob:
        """Of the round: its contributions as files, as they arrive."""
        folder = self._folder
        tried = []
        for place, each in enumerate(sent):
            path = folder / f"{place}.blob"
            path.write_bytes(each.blob)
            name, audited = blob_hash(each.blob), each.key in chosen
            trusted = self.standing(each.key).level == "trusted"
            tried.append(
                Tried(
                    key=each.key,
                    blob=name,
                    path=str(path),
                    audited=audited,
                    trusted=trusted,
                    seen=place,
                    taken=taken[place],
                )
            )
        return AuditJob(
            base="", spec=self._spec, round=self._round, state="", sequence_length=1, vocab_size=1,
            contributions=tuple(tried), samples=(), sketches=str(folder / "sketches"), seed=1, threads=1,
        )  # fmt: skip
