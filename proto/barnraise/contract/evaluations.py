"""`evaluations.json`: the signed evaluations of a checkpoint, from which its quorum can be verified."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ValidationError

from barnraise.contract.records import MAX_EVALUATION_BYTES, Evaluation
from barnraise.core.errors import MalformedRecord
from barnraise.core.signed import Signed, open_text

EVALUATIONS = "evaluations.json"
"""File of a checkpoint whose held-out loss comes from a quorum; its manifest lists it."""


class _Entry(BaseModel):
    signed: str


class _File(BaseModel):
    evaluations: tuple[_Entry, ...]


def evaluations_json(evaluations: Iterable[Signed[Evaluation]]) -> bytes:
    """Canonical bytes of all evaluations of a checkpoint, outliers included."""
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.signer)
    view = {
        "about": "What vouched volunteers found. `signed` is base64: key, Ed25519 signature, and the"
        " JSON that is signed, with the line 'barnraise/Evaluation/1' before it.",
        "evaluations": [
            {**evaluation.value.model_dump(mode="json"), "signed": evaluation.text} for evaluation in ordered
        ],
    }
    return (json.dumps(view, indent=1) + "\n").encode()


def read_evaluations(data: bytes) -> Sequence[Signed[Evaluation]]:
    """The signed evaluations in the file; unsigned fields are ignored. The charter names the evaluators.

    Raises MalformedRecord, BadSignature.
    """
    try:
        texts = [entry.signed for entry in _File.model_validate_json(data).evaluations]
    except ValidationError:
        raise MalformedRecord(
            f"{EVALUATIONS} is not a list of evaluations", fix="Fetch the checkpoint again."
        ) from None
    return [open_text(Evaluation, text, signer=None, limit=MAX_EVALUATION_BYTES) for text in texts]
