"""`evaluations.json`: who evaluated a checkpoint and found what, so that anybody can check who agreed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ValidationError

from barnraise.contract.records import MAX_EVALUATION_BYTES, Evaluation
from barnraise.core.errors import MalformedRecord
from barnraise.core.signed import Signed, open_text

EVALUATIONS = "evaluations.json"
"""File of a checkpoint whose held-out loss vouched volunteers agreed on; its manifest lists it."""


class _Entry(BaseModel):
    signed: str


class _File(BaseModel):
    evaluations: tuple[_Entry, ...]


def evaluations_json(evaluations: Iterable[Signed[Evaluation]]) -> bytes:
    """The same bytes for the same evaluations: also of those who found something else."""
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
    """Only what is signed is believed; whether its signers are vouched for, the charter says.

    Raises MalformedRecord, BadSignature.
    """
    try:
        texts = [entry.signed for entry in _File.model_validate_json(data).evaluations]
    except ValidationError:
        raise MalformedRecord(
            f"{EVALUATIONS} is no list of evaluations", fix="Fetch the checkpoint again."
        ) from None
    return [open_text(Evaluation, text, signer=None, limit=MAX_EVALUATION_BYTES) for text in texts]
