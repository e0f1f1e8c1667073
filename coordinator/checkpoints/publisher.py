"""Publishes checkpoints: evaluates them, writes their cards, updates the archive, exports other forms.

The states of a checkpoint, and what moves it on:

| from | to | when |
|---|---|---|
| written | published with a loss | the coordinator evaluated it |
| written | published without a loss | a newer one superseded it, or its evaluation failed |
| written, the base model | the run ends | its evaluation failed, and not for lack of memory |
| published without a loss | published with a loss | vouched volunteers agree on its held-out loss |
| the mean of it and those before | published with a loss | it becomes `main` or `best` |
| a mean | dropped | it is neither any more, and not the last that was |
| any but the one that is evaluated | dropped | retention (`coordinator.store.retention`) |
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from barnraise.contract.archive import folder_of
from barnraise.contract.evaluations import EVALUATIONS, evaluations_json
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation
from barnraise.core.errors import FileDamaged, MalformedBlob
from barnraise.core.ids import Millis, short
from barnraise.core.signed import Signed
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.evaluation.runner import Evaluated, evaluate_checkpoint
from barnraise.models.base_sources import is_public
from barnraise.runtime.files import scratch_folder
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.checkpoints.base_evaluation import base_error
from coordinator.checkpoints.card_data import card_facts, card_files
from coordinator.checkpoints.evaluations import (
    evaluation_refused,
    evaluation_status,
    newest_quorum,
    pending_evaluation,
)
from coordinator.checkpoints.exports import Exporter
from coordinator.checkpoints.held_out_set import HeldOutSet, publish_held_out_set, read_held_out_set
from coordinator.checkpoints.mean_files import averaged_rounds
from coordinator.checkpoints.mean_trial import (
    Evaluate,
    EvaluatedMean,
    LinkedStates,
    linked_states,
    publish_mean,
    try_mean,
)
from coordinator.messages.checkpoints import (
    evaluation_message,
    evaluation_refusal,
    mean_message,
    not_evaluated_message,
    promotion_message,
)
from coordinator.reasons.checkpoints import (
    AlreadyEvaluated,
    EvaluationProgress,
    EvaluationStatus,
    LossNearBest,
    MeanFailed,
    NoneEvaluated,
    NotEvaluatedReason,
    Superseded,
)
from coordinator.reasons.setup import BaseDelivery
from coordinator.run_folder import ARCHIVE, HELD_OUT
from coordinator.store.checkpoints import lay_out
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator.checkpoints.publisher")

BASE_ROUND = 0
"""The round of the checkpoint that is the base model."""
CHECKPOINT = "checkpoint"
"""In a scratch folder: the files of the checkpoint that is evaluated."""


@dataclass
class Publisher:
    """Publishes one checkpoint at a time while rounds continue: nothing waits for it."""

    store: RunStore
    archive: ArchiveWriter
    evaluate: Evaluate
    exporter: Exporter
    clock: Callable[[], Millis]
    evaluate_briefly: Evaluate
    """As `evaluate`, on one held-out sample."""
    held_out_set: HeldOutSet | None = None
    """What vouched volunteers evaluate on; None where the spec names none."""
    mirrors: Sequence[str] = ()
    """Addresses of other servers with a copy of the archive."""
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the set of files that the store keeps changes, and while they are linked."""
    _new: asyncio.Event = field(default_factory=asyncio.Event)
    """There may be something to publish."""
    _promotion: NoneEvaluated | LossNearBest | None = None
    """The reason for `main` that was logged last."""

    async def publish_base(self) -> BaseDelivery:
        """Put the base model into the archive where its licence permits it. Raises DiskFull, StateError."""
        served = await self.exporter.export_base()
        await self.update_archive()
        source = self.exporter.spec.model.source
        return BaseDelivery(source, is_public(source), served)

    async def run(self) -> None:
        """Publish the checkpoints that are there, and each that `write_checkpoint` writes, until cancelled.

        Raises DiskFull, StateError; SpecError or MachineError where the base model cannot be evaluated.
        """
        await self.publish_base()
        if self.held_out_set is not None:
            await asyncio.to_thread(publish_held_out_set, self.held_out_set, self._held_out, self._archive)
        await self.exporter.export_data()
        await self.update_archive()
        await self._export_main()
        while True:
            self._new.clear()
            if not (await self._evaluate_newest() or await self._publish_quorum()):
                await self._new.wait()

    async def try_base(self) -> None:
        """Evaluate the base model on one sample, unless its checkpoint is published already.

        Raises SpecError or MachineError where that shows that the run cannot work, DiskFull.
        """
        run = self.store.snapshot
        if BASE_ROUND not in run.unpublished:
            return
        log.info("evaluating the base model on one held-out sample")
        with scratch_folder(self.store.folder) as work:
            checkpoint = run.checkpoints[BASE_ROUND]
            await asyncio.to_thread(lay_out, checkpoint, self.store.blobs, work / CHECKPOINT)
            outcome = await self.evaluate_briefly(work / CHECKPOINT)
        _check_base(outcome)
        if not isinstance(outcome, Evaluated):
            log.info("checkpoints are not evaluated here: %s", not_evaluated_message(outcome))

    async def write_checkpoint(self, *, leads: bool = True) -> None:
        """Write the newest state as a checkpoint, which `run` evaluates and publishes. Raises DiskFull.

        leads: has no effect, as the run key signs it.
        """
        async with self._writing:
            signed = await asyncio.to_thread(self.store.write_checkpoint, self.clock())
        log.info("checkpoint of round %d written", signed.value.round)
        self._new.set()

    async def update_archive(self) -> None:
        """Bring the archive up to the run store. Raises DiskFull, StateError."""
        async with self._writing:
            content = ArchiveContent.of(self.store.snapshot, self.mirrors)
            await asyncio.to_thread(self.archive.write, content)

    def record_evaluation(self, evaluation: Signed[Evaluation]) -> EvaluationProgress:
        """Record a vouched volunteer's evaluation. Raises RefusedError, DiskFull."""
        value, run = evaluation.value, self.store.snapshot
        if (reason := evaluation_refused(run, self.held_out_set, value)) is not None:
            refusal = evaluation_refusal(reason)
            log.info("refused an evaluation of %s: %s", short(evaluation.signer), refusal.problem)
            raise refusal
        if value.round not in run.unevaluated:
            return AlreadyEvaluated(value.round)
        self.store.evaluate(evaluation, self.clock())
        status = evaluation_status(self.store.snapshot, value.round)
        outcome = evaluation_message(status)
        log.info("%s found a held-out loss of %.4f: %s", short(evaluation.signer), value.loss, outcome)
        self._new.set()
        return status

    def pending_evaluation(self) -> EvaluationStatus | None:
        """The status of the newest checkpoint that waits for evaluators; None where none does."""
        return pending_evaluation(self.store.snapshot, self.held_out_set)

    @property
    def _archive(self) -> Path:
        return self.archive.folder

    @property
    def _held_out(self) -> Path:
        return self.store.folder / HELD_OUT

    @property
    def _unpublished(self) -> list[int]:
        return self.store.snapshot.unpublished

    async def _evaluate_newest(self) -> bool:
        """Evaluate the newest unpublished checkpoint, and publish all; then try the mean of the states up to
        it. Returns whether there was one.
        """
        if not self._unpublished:
            return False
        with scratch_folder(self.store.folder) as work:
            round, states = await self._link_newest(work)
            outcome = await self.evaluate(work / CHECKPOINT)
            if round == BASE_ROUND:
                _check_base(outcome)
            async with self._writing:
                while older := [before for before in self._unpublished if before < round]:
                    self._publish(older[0], Superseded(round))  # retention may drop others with it
                self._publish(round, outcome)
            # Without a loss nothing says which is better, and a newer state is evaluated first.
            if states and isinstance(outcome, Evaluated) and not self._unpublished:
                await self._try_mean(states, outcome.held_out, work / "mean")
            async with self._writing:
                self.store.end_evaluation()
        await self._show()
        return True

    async def _link_newest(self, work: Path) -> tuple[int, LinkedStates]:
        """Link the newest unpublished checkpoint's files into `work`. Returns its round, and the states whose
        mean is tried after it.
        """
        async with self._writing:
            run, blobs = self.store.snapshot, self.store.blobs
            round = run.unpublished[-1]
            rounds = averaged_rounds(run, round)
            self.store.start_evaluation(round, rounds)
            await asyncio.to_thread(lay_out, run.checkpoints[round], blobs, work / CHECKPOINT)
            return round, await asyncio.to_thread(linked_states, run, rounds, blobs, work)

    async def _try_mean(self, states: LinkedStates, newest: HeldOut, folder: Path) -> None:
        """Publish the mean of `states` where it is better. newest: of their newest. folder: a new one."""
        await self.update_archive()  # the newest state is there while the mean is evaluated
        tried = await try_mean(states, newest, self.store.blobs, folder, self.evaluate)
        if isinstance(tried, EvaluatedMean):
            async with self._writing:
                outcome = await asyncio.to_thread(publish_mean, self.store, tried, self.clock())
            log.info("%s", mean_message(outcome))
        else:
            log.log(logging.INFO if isinstance(tried, MeanFailed) else logging.WARNING, mean_message(tried))

    async def _publish_quorum(self) -> bool:
        """Publish the held-out loss that evaluators agree on. Returns whether there was one."""
        if (found := newest_quorum(self.store.snapshot)) is None:
            return False
        round, quorum = found
        async with self._writing:
            run = self.store.snapshot
            if round not in run.evaluations:  # the checkpoint was dropped since
                return True
            signed = evaluations_json(run.evaluations[round].values())
            self._publish(round, Evaluated(quorum.held_out), {EVALUATIONS: signed})
        await self._show()
        return True

    def _publish(
        self,
        round: int,
        outcome: Evaluated | NotEvaluatedReason,
        more: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """more: files in addition to the checkpoint's card."""
        held_out = outcome.held_out if isinstance(outcome, Evaluated) else None
        log.info("checkpoint of round %d%s", round, _described(outcome))
        shown = {**card_files(self.store.snapshot, round, held_out), **more}
        self.store.publish(round, held_out, shown, self.clock())

    async def _show(self) -> None:
        """Log what is promoted, and show what was published. Raises DiskFull, StateError."""
        self._log_promotion(self.store.snapshot)
        await self.update_archive()
        await self._export_main()

    def _log_promotion(self, run: RunState) -> None:
        promotion = run.promotion()
        if promotion is not None and promotion.reason != self._promotion:
            log.info("main: %s", promotion_message(promotion.reason))
            self._promotion = promotion.reason

    async def _export_main(self) -> None:
        """Write the promoted checkpoint in the other forms that the spec asks for, where they are missing."""
        run = self.store.snapshot
        if (promotion := run.promotion()) is None:
            return
        round = promotion.main
        mean = run.averages[round].value if promotion.main_averaged else None
        held_out = run.held_out(round) if mean is None else mean.held_out
        folder = self._archive / folder_of("trained", round, averaged=mean is not None)
        if await self.exporter.export(folder, card_facts(run, round, held_out, mean)):
            await self.update_archive()


def _check_base(outcome: Evaluated | EvaluationFailure) -> None:
    """Raises SpecError or MachineError where the base model's evaluation shows that the run cannot work."""
    if not isinstance(outcome, Evaluated) and (error := base_error(outcome)) is not None:
        raise error


def _described(outcome: Evaluated | NotEvaluatedReason) -> str:
    if isinstance(outcome, Evaluated):
        return f": held-out loss {outcome.held_out.loss:.4f}"
    return f" is not evaluated: {not_evaluated_message(outcome)}"


def _held_out_set(folder: Path, limit: int) -> HeldOutSet | None:
    """None where the held-out text is damaged: rounds go on without evaluations."""
    try:
        return read_held_out_set(folder, limit)
    except (FileDamaged, FileNotFoundError, MalformedBlob) as error:
        log.warning("evaluators get no task, the held-out text in %s cannot be read: %s", folder, error)
        return None


def publisher_of(store: RunStore, clock: Callable[[], Millis], mirrors: Sequence[str] = ()) -> Publisher:
    """The publisher for `store`, with the archive in its folder. mirrors: as in `Publisher`."""
    charter, archive, held_out = store.charter, store.folder / ARCHIVE, store.folder / HELD_OUT
    spec = charter.spec.checkpoint

    def evaluating(tokens: int) -> Evaluate:
        return functools.partial(
            evaluate_checkpoint,
            base=store.base,
            held_out=held_out,
            tokens=tokens,
            attention=charter.spec.model.attention,
        )

    return Publisher(
        store=store,
        archive=ArchiveWriter(charter, archive, store.blobs),
        evaluate=evaluating(spec.held_out_tokens),
        evaluate_briefly=evaluating(min(1, spec.held_out_tokens)),
        exporter=Exporter(
            charter,
            store.base,
            store.folder,
            archive,
            store.blobs.folder,
            store.authority,
            lambda: store.snapshot.position.successors,
        ),
        clock=clock,
        held_out_set=_held_out_set(held_out, spec.held_out_tokens) if spec.evaluators else None,
        mirrors=mirrors,
    )
