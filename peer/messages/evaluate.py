"""Messages about what `peer evaluate` does."""

from __future__ import annotations

from peer.download.events import DownloadEvent
from peer.evaluate import (
    CoordinatorAnswered,
    EvaluationEvent,
    EvaluationFailed,
    EvaluationStarts,
    LossMeasured,
    NothingToEvaluate,
)
from peer.messages.download import download_message


def evaluation_message(event: EvaluationEvent | DownloadEvent) -> str:
    match event:
        case NothingToEvaluate():
            return "every checkpoint has its held-out loss"
        case EvaluationStarts(round):
            return f"evaluating round {round}"
        case LossMeasured(round, loss):
            return f"round {round} has a held-out loss of {loss:.4f} here"
        case CoordinatorAnswered(text):
            return text
        case EvaluationFailed(problem, retry_seconds):
            return f"{problem}; trying again in {retry_seconds:.0f} s"
        case _:
            return download_message(event)
