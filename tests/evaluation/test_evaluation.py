"""The held-out loss of a tiny model by the real program, and the reasons why there is none."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from barnraise.contract.manifest import HeldOut
from barnraise.contract.shards import Sample
from barnraise.evaluation import program as evaluate_held_out
from barnraise.evaluation.failures import (
    EvaluationDisabled,
    EvaluationFailure,
    LossNotFinite,
    NoHeldOutText,
    NotEnoughMemory,
    UnreadableReply,
)
from barnraise.evaluation.runner import Evaluated, evaluate_checkpoint, read_reply
from barnraise.models.causal_lm import quiet
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.child_failures import ChildDied
from tests.support.tiny import make_tiny_model, packed, tiny_samples

LENGTH = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def held_out(folder: Path, *shards: list[Sample]) -> Path:
    """A folder of held-out samples, as a coordinator keeps it."""
    folder.mkdir()
    (folder / "index.json").write_bytes(packed(BlobStore(folder), *shards).to_bytes())
    return folder


def expected(model: Path, samples: list[Sample]) -> float:
    """The mean over all trained tokens, computed by torch document by document."""
    with quiet():
        net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for sample in samples:
        starts = [*np.flatnonzero(sample.position_ids == 0), LENGTH]
        for begin, end in pairwise(starts):
            ids = torch.from_numpy(sample.input_ids[begin:end]).long()
            with torch.inference_mode():
                odds = net(input_ids=ids[None]).logits[0].log_softmax(-1)
            for place in range(1, end - begin):
                if sample.labels[begin + place] >= 0:
                    total -= float(odds[place - 1, ids[place]])
                    count += 1
    return total / count


def found(checkpoint: Path, base: Path, held: Path, tokens: int = 10**6) -> Evaluated | EvaluationFailure:
    return asyncio.run(evaluate_checkpoint(checkpoint, base=base, held_out=held, tokens=tokens))


def test_the_loss_is_the_mean_over_the_held_out_tokens(model: Path, tmp_path: Path) -> None:
    samples = tiny_samples(5, LENGTH)
    outcome = found(model, model, held_out(tmp_path / "held", samples[:3], samples[3:]))
    assert isinstance(outcome, Evaluated)
    assert outcome.held_out.loss == pytest.approx(expected(model, samples), rel=1e-5)
    assert outcome.held_out.tokens == sum(int((s.labels >= 0).sum()) for s in samples)


def test_it_stops_at_about_the_requested_tokens(model: Path, tmp_path: Path) -> None:
    samples = tiny_samples(5, LENGTH)
    first = int((samples[0].labels >= 0).sum())
    outcome = found(model, model, held_out(tmp_path / "held", samples), tokens=first)
    assert isinstance(outcome, Evaluated)
    assert outcome.held_out.tokens == first
    assert outcome.held_out.loss == pytest.approx(expected(model, samples[:1]), rel=1e-5)


def test_without_a_request_or_held_out_text_there_is_a_reason(model: Path, tmp_path: Path) -> None:
    held = held_out(tmp_path / "held")
    assert found(model, model, held, tokens=0) == EvaluationDisabled()
    assert found(model, model, held) == NoHeldOutText()


def test_a_checkpoint_that_cannot_be_loaded_is_a_reason(model: Path, tmp_path: Path) -> None:
    held = held_out(tmp_path / "held", tiny_samples(1, LENGTH))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((model / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"junk")
    outcome = found(broken, model, held)
    assert isinstance(outcome, ChildDied)
    assert (outcome.module, outcome.status) == ("barnraise.evaluation.program", 1)
    assert outcome.last_line, "the program's last line is missing"


def test_a_checkpoint_that_diverged_is_a_reason(model: Path, tmp_path: Path) -> None:
    held = held_out(tmp_path / "held", tiny_samples(1, LENGTH))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((model / "config.json").read_bytes())
    weights = load_file(model / "model.safetensors")
    nought = {name: np.full_like(array, np.nan) for name, array in weights.items()}
    save_file(nought, broken / "model.safetensors", metadata={"format": "pt"})
    assert found(broken, model, held) == LossNotFinite("nan")


def test_too_little_memory_is_a_reason(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = held_out(tmp_path / "held", tiny_samples(1, LENGTH))
    monkeypatch.setattr("sys.argv", ["evaluate", str(model), str(held)])
    monkeypatch.setattr(os, "nice", lambda by: 0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    evaluate_held_out.main()
    outcome = read_reply(capsys.readouterr().out)
    assert isinstance(outcome, NotEnoughMemory)
    assert outcome.needed > outcome.free == 1000


@pytest.mark.parametrize(
    "said", ["", "Killed", "[]", '{"loss": 1.0}', '{"loss": NaN, "tokens": 5}', '{"loss": -1, "tokens": 5}',
             '{"loss": "low", "tokens": 5}', '{"loss": 1.0, "tokens": 5, "more": 1}', "{}"],
)  # fmt: skip
def test_an_unreadable_reply_is_a_reason(said: str) -> None:
    assert read_reply(said) == UnreadableReply(said)


def test_a_reply_with_a_loss_is_read() -> None:
    assert read_reply('{"loss": 1.5, "tokens": 5}') == Evaluated(HeldOut(loss=1.5, tokens=5))
