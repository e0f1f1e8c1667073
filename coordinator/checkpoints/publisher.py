"""Checkpoints become public: evaluated, told about, named, and written in other forms where that is asked.

One that the coordinator cannot evaluate is settled again once vouched volunteers agree on its held-out loss.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from barnraise.contract.archive import folder_of
from barnraise.contract.evaluation_quorum import (
    EvaluationTask,
    Quorum,
    QuorumOutcome,
    check_evaluation,
    find_quorum,
)
from barnraise.contract.evaluations import EVALUATIONS, evaluations_json
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation
from barnraise.core.ids import Millis, StateHash, short
from barnraise.core.signed import Signed
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.evaluation.runner import Evaluated, evaluate_checkpoint
from barnraise.runtime.files import scratch_folder
from coordinator.checkpoints.archive_writer import ArchiveWriter
from coordinator.checkpoints.card_data import card_facts, card_files
from coordinator.checkpoints.exports import Exporter
from coordinator.checkpoints.held_out_set import HeldOutSet, publish_held_out_set, read_held_out_set
from coordinator.checkpoints.reasons import (
    AlreadyEvaluated,
    EvaluationProgress,
    EvaluationStatus,
    NotEvaluatedReason,
    Superseded,
)
from coordinator.messages import checkpoints as messages
from coordinator.messages.evaluations import (
    evaluation_message,
    evaluation_refusal,
    not_evaluated_message,
)
from coordinator.run_folder import ARCHIVE, HELD_OUT
from coordinator.store.archive_content import ArchiveContent
from coordinator.store.checkpoints import lay_out
from coordinator.store.promotion import LossNearBest, NoneEvaluated
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator.checkpoints.publisher")

Evaluate = Callable[[Path], Awaitable["Evaluated | EvaluationFailure"]]
"""Evaluates a folder with a checkpoint's files."""


@dataclass
class Publisher:
    """One checkpoint at a time, beside the rounds: nothing waits for it."""

    store: RunStore
    archive: ArchiveWriter
    evaluate: Evaluate
    exporter: Exporter
    clock: Callable[[], Millis]
    held_out_set: HeldOutSet | None = None
    """What vouched volunteers evaluate on; None where the spec names none."""
    mirrors: Sequence[str] = ()
    """Addresses of other servers with a copy of the archive."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes which files the store keeps, or links them."""
    _new: asyncio.Event = field(default_factory=asyncio.Event)
    _promotion: NoneEvaluated | LossNearBest | None = None
    """Why `main` is where it is, as logged last."""

    async def run(self) -> None:
        """Publish the checkpoints that are there, and each that `write_checkpoint` writes, until cancelled.

        Raises DiskFull, StateError.
        """
        await self.update_archive()
        if self.held_out_set is not None:
            held_out = self.store.folder / HELD_OUT
            await asyncio.to_thread(publish_held_out_set, self.held_out_set, held_out, self.archive.folder)
        await self.exporter.export_base_and_data()
        await self.update_archive()
        await self._export_main()
        while True:
            self._new.clear()
            if self.store.snapshot.unpublished:
                await self.evaluate_newest()
            elif (found := self._agreed()) is not None:
                await self._publish_agreed(*found)
            else:
                await self._new.wait()

    async def write_checkpoint(self) -> None:
        """Write the newest state as a checkpoint, which `run` evaluates and publishes. Raises DiskFull."""
        async with self.writing:
            await asyncio.to_thread(self.store.write_checkpoint, self.clock())
        self.notify()

    def notify(self) -> None:
        """There is a new checkpoint."""
        self._new.set()

    async def update_archive(self) -> None:
        """Make the archive say what the run store says. Raises DiskFull, StateError."""
        async with self.writing:
            content = ArchiveContent.of(self.store.snapshot, self.mirrors)
            await asyncio.to_thread(self.archive.write, content)

    async def evaluate_newest(self) -> None:
        """Evaluate the newest checkpoint; show it and all before. Raises DiskFull, StateError."""
        with scratch_folder(self.store.folder) as work:
            folder = work / "checkpoint"
            async with self.writing:
                run = self.store.snapshot
                round = run.unpublished[-1]
                self.store.start_evaluation(round)
                await asyncio.to_thread(lay_out, run.checkpoints[round], self.store.blobs, folder)
            outcome = await self.evaluate(folder)
        async with self.writing:
            for older in [before for before in self.store.snapshot.unpublished if before < round]:
                self._publish(older, Superseded(round))
            self._publish(round, outcome)
            self.store.end_evaluation()
        await self.update_archive()
        await self._export_main()

    def record_evaluation(self, evaluation: Signed[Evaluation]) -> EvaluationProgress:
        """Count a vouched volunteer's evaluation. Raises RefusedError, DiskFull."""
        value, spec = evaluation.value, self.store.charter.spec.checkpoint
        task = self._task(value.round)
        if (reason := check_evaluation(value, task, spec.evaluators)) is not None:
            refusal = evaluation_refusal(reason)
            log.info("refused an evaluation of %s: %s", short(evaluation.signer), refusal.problem)
            raise refusal
        if value.round not in self.store.snapshot.unevaluated:
            return AlreadyEvaluated(value.round)
        self.store.evaluate(evaluation, self.clock())
        status = EvaluationStatus(value.round, self._quorum(value.round))
        outcome = evaluation_message(status)
        log.info("%s found a held-out loss of %.4f: %s", short(evaluation.signer), value.loss, outcome)
        self._new.set()
        return status

    def pending_evaluation(self) -> EvaluationStatus | None:
        """The status of the newest checkpoint that waits for evaluators; None where none does."""
        open = self.store.snapshot.unevaluated if self.held_out_set is not None else []
        return EvaluationStatus(open[-1], self._quorum(open[-1])) if open else None

    def _task(self, round: int) -> EvaluationTask | None:
        run = self.store.snapshot
        if self.held_out_set is None or round not in run.published:
            return None
        state = StateHash(run.checkpoints[round].value.state)
        return EvaluationTask(self.store.charter.run, state, self.held_out_set.hash, self.held_out_set.tokens)

    def _quorum(self, round: int) -> QuorumOutcome:
        run = self.store.snapshot
        spec = run.spec.checkpoint
        found = [evaluation.value for evaluation in run.evaluations.get(round, {}).values()]
        return find_quorum(found, spec.evaluators, spec.agree)

    def _agreed(self) -> tuple[int, Quorum] | None:
        for round in sorted(self.store.snapshot.evaluations, reverse=True):
            if isinstance(outcome := self._quorum(round), Quorum):
                return round, outcome
        return None

    async def _publish_agreed(self, round: int, agreed: Quorum) -> None:
        async with self.writing:
            evaluations = self.store.snapshot.evaluations.get(round)
            if evaluations is None:  # the checkpoint was dropped meanwhile
                return
            signed = evaluations_json(evaluations.values())
            self._publish(round, Evaluated(agreed.held_out), {EVALUATIONS: signed})
        await self.update_archive()
        await self._export_main()

    def _publish(
        self,
        round: int,
        outcome: Evaluated | NotEvaluatedReason,
        more: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """more: files in addition to the checkpoint's card."""
        held_out: HeldOut | None
        match outcome:
            case Evaluated(held_out):
                log.info("checkpoint of round %d: held-out loss %.4f", round, held_out.loss)
            case _:
                held_out = None
                reason = not_evaluated_message(outcome)
                log.info("checkpoint of round %d is not evaluated: %s", round, reason)
        shown = {**card_files(self.store.snapshot, round, held_out), **more}
        self.store.publish(round, held_out, shown, self.clock())
        promotion = self.store.snapshot.promotion()
        if promotion is not None and promotion.reason != self._promotion:
            log.info("main: %s", messages.promotion(promotion.reason))
            self._promotion = promotion.reason

    async def _export_main(self) -> None:
        """The promoted checkpoint in the other forms that are asked for, where they are not there yet."""
        run = self.store.snapshot
        if (promotion := run.promotion()) is None:
            return
        round = promotion.main
        facts = card_facts(run, round, run.held_out(round))
        if await self.exporter.export(self.archive.folder / folder_of("trained", round), facts):
            await self.update_archive()


def publisher_of(store: RunStore, clock: Callable[[], Millis], mirrors: Sequence[str] = ()) -> Publisher:
    """What makes the checkpoints of `store` public, in its folder. mirrors: as of `Publisher`."""
    charter, archive, held_out = store.charter, store.folder / ARCHIVE, store.folder / HELD_OUT
    spec = charter.spec.checkpoint
    return Publisher(
        store=store,
        archive=ArchiveWriter(charter, archive, store.blobs),
        evaluate=functools.partial(
            evaluate_checkpoint,
            base=store.base,
            held_out=held_out,
            tokens=spec.held_out_tokens,
        ),
        exporter=Exporter(charter, store.base, store.folder, archive, store.blobs.folder, store.authority),
        clock=clock,
        held_out_set=read_held_out_set(held_out, spec.held_out_tokens) if spec.evaluators else None,
        mirrors=mirrors,
    )
