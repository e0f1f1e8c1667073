"""One round's audit of a tiny model: harm, copies, replays and empty contributions, by real blobs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from barnraise.contract.audit_figures import MOST, STEP_SHARE
from barnraise.contract.spec import AdamW, RunSpec
from barnraise.contract.state import Array
from barnraise.core.ids import blob_hash
from barnraise.evaluation.audit_job import AuditJob, AuditReply, SecretSample, Tried
from barnraise.evaluation.audit_program import audit, summary, tried_step
from barnraise.fold.codec import encode_in_place
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore
from peer.training.trainer import Trainer
from tests.support import parts
from tests.support.devices import CPU
from tests.support.tiny import make_tiny_model, packed, tiny_samples
from tests.support.training import TARGET, run_spec


@dataclass(frozen=True)
class Round:
    """Honest contributions that were trained on the samples of the audit, and where its files are."""

    folder: Path
    base: Path
    spec: RunSpec
    honest: tuple[dict[str, Array], ...]

    def job(self, *updates: dict[str, Array], round: int = 1, audited: bool = True) -> AuditJob:
        state = initial_state(self.base, TARGET, 0)
        save_file(state.params, self.folder / "state.safetensors")
        samples, blobs = tiny_samples(8, seed=1), BlobStore(self.folder / "data")
        index = packed(blobs, samples)
        path = str(blobs.path(index.shards[0].blob))
        tried = []
        for place, update in enumerate(updates):
            copied = {name: array.copy() for name, array in update.items()}
            blob = bytes(encode_in_place(self.spec.codec, copied, state.layout))
            file = self.folder / blob_hash(blob)
            file.write_bytes(blob)
            tried.append(
                Tried(
                    key=f"{place:064x}",
                    blob=blob_hash(blob),
                    path=str(file),
                    audited=audited,
                    trusted=True,
                    seen=place,
                    taken=10**6,
                )
            )
        return AuditJob(
            base=str(self.base), spec=self.spec, round=round, state=str(self.folder / "state.safetensors"),
            sequence_length=index.sequence_length, vocab_size=index.vocab_size, contributions=tuple(tried),
            samples=tuple(SecretSample(path=path, row=row) for row in range(8)),
            sketches=str(self.folder / "sketches"), seed=5, threads=1,
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Round:
    base = make_tiny_model(tmp_path_factory.mktemp("model"))
    spec, honest = run_spec(), []
    state, samples = initial_state(base, TARGET, 0), tiny_samples(8, seed=1)
    for start in (0, 2, 4):
        trainer = Trainer(base, spec, CPU, micro_batch=4)
        trainer.load(state)
        for _ in range(3):
            trainer.step(samples[start : start + 4])
        honest.append(trainer.take_update(state).tensors)
    return Round(tmp_path_factory.mktemp("round"), base, spec, tuple(honest))


@pytest.fixture
def round(trained: Round, tmp_path: Path) -> Round:
    return Round(tmp_path, trained.base, trained.spec, trained.honest)


def flipped(update: dict[str, Array], factor: float = -1.0) -> dict[str, Array]:
    return {name: np.float32(factor) * array for name, array in update.items()}


def test_harm_shows_in_the_loss_and_in_the_direction(round: Round) -> None:
    first, *others = round.honest
    good = audit(round.job(first, *others)).results
    for each in good:
        assert each.change < -each.error, "honest work lowers the loss"
        assert each.alignment > 0
    bad = audit(round.job(flipped(first), *others)).results
    assert bad[0].change > 2 * bad[0].error
    assert bad[0].alignment < 0
    assert bad[0].norm == pytest.approx(good[0].norm, rel=1e-3)
    assert {each.finding for each in (*good, *bad)} == {"tried"}


def test_what_is_not_audited_is_compared_without_a_forward_pass(round: Round) -> None:
    found = audit(round.job(*round.honest, audited=False))
    assert (found.forward_passes, found.other_passes) == (0, 0)
    assert all((each.change, each.error, each.audited) == (0, 0, False) for each in found.results)
    assert all(each.norm > 0 for each in found.results)


def test_copies_replays_and_zeros_are_found(round: Round) -> None:
    one, two, three = round.honest
    zeros = {name: np.zeros_like(array) for name, array in one.items()}
    first = audit(round.job(one, two, three, flipped(two, 2.0), zeros)).results
    assert [each.finding for each in first] == ["tried", "tried", "tried", "copy", "empty"]
    again = audit(round.job(one, two, three)).results
    assert [each.finding for each in again] == ["tried"] * 3, "the same round again is no replay"
    later = audit(round.job(one, round=2)).results
    assert [each.finding for each in later] == ["replay"]
    (round.folder / "sketches").write_bytes(b"cut by a power cut")
    assert [each.finding for each in audit(round.job(one, round=3)).results] == ["tried"], "they begin again"


def test_the_program_prints_a_reply(round: Round) -> None:
    file = round.folder / "job.json"
    file.write_text(round.job(*round.honest).model_dump_json())
    module = "barnraise.evaluation.audit_program"
    done = subprocess.run(
        [sys.executable, "-m", module, str(file)], capture_output=True, text=True, check=True
    )
    reply = AuditReply.model_validate(json.loads(done.stdout.splitlines()[-1]), strict=False)
    assert reply.forward_passes == 4 * 8
    assert 0 < reply.pass_seconds < reply.seconds
    assert reply.other_passes > 0, "starting the program counts"


def test_a_loss_that_is_not_finite_is_the_most_harm() -> None:
    assert summary(np.array([0.1, np.nan])) == (MOST, 0)
    assert summary(np.array([0.25, 0.75])) == (500_000_000, 250_000_000)
    assert summary(np.array([1e9, 1e9]))[0] == MOST


def test_adamw_s_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    spec = parts.run_spec(outer=AdamW())
    small, large = (tried_step(spec, norm, parts.LAYOUT, 0.5) * norm for norm in (1e-3, 1e3))
    assert small == pytest.approx(large)
    assert math.isfinite(tried_step(spec, 0.0, parts.LAYOUT, 1.0)), "an empty contribution has no norm"
    steps = [tried_step(parts.run_spec(), 1e3, parts.LAYOUT, taken) for taken in (1.0, 0.25, 0.01)]
    assert steps == [STEP_SHARE, STEP_SHARE, 0.01], "no more than the fold takes"
