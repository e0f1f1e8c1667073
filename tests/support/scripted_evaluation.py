"""A publisher whose evaluations have given outcomes; tests/evaluation covers the real ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from barnraise.contract.manifest import HeldOut
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.evaluation.runner import Evaluated
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import files_in


def loss(value: float) -> Evaluated:
    return Evaluated(HeldOut(loss=value, tokens=100))


@dataclass
class ScriptedEvaluation:
    """Returns given outcomes and records what it saw."""

    outcomes: list[Evaluated | EvaluationFailure]
    seen: list[dict[str, bytes]] = field(default_factory=list)

    async def __call__(self, folder: Path) -> Evaluated | EvaluationFailure:
        self.seen.append(files_in(folder))
        return self.outcomes.pop(0)


def publisher(
    store: RunStore, *outcomes: Evaluated | EvaluationFailure
) -> tuple[Publisher, ScriptedEvaluation]:
    evaluation = ScriptedEvaluation(list(outcomes))
    return replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluation), evaluation
