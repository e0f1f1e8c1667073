"""Training and contribution store together: every move is listed, owed, pending or local."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.records import blob_name
from barnraise.contract.spec import CodecSpec
from barnraise.fold.codec import Decoder
from barnraise.runtime.blob_store import BlobStore
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.saved_state import SavedState
from tests.support import parts
from tests.support.tiny import make_tiny_model
from tests.support.training import (
    MARGIN,
    moves,
    rebase,
    run_spec,
    step,
    training_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


class Volunteer:
    """Training and work together, as `peer.volunteer.loop` uses them; records every move."""

    def __init__(self, folder: Path, data: Path, codec: CodecSpec) -> None:
        self.training = training_of(folder)
        state = self.training.state
        charter = parts.charter(run_spec(codec=codec), state)
        saves, blobs = SavedState(data / "work", parts.HASH_A), BlobStore(data / "blobs")
        self.work = ContributionStore(charter, parts.ADA, saves, blobs, self.training.lifecycle)
        self.work.save(self.training.tip, state, {})
        self.layout = state.layout
        self.moved = self.nothing()
        """All that local training ever moved the parameters by."""
        self.taken = self.nothing()
        """What closes listed of it, as other peers decode it."""

    def nothing(self) -> dict[str, np.ndarray]:
        return {name: np.zeros(shape) for name, shape in self.layout}

    def step(self, seed: int) -> None:
        before = self.training.trainer.params()
        step(self.training, seed)
        for name, array in self.training.trainer.params().items():
            self.moved[name] += array.astype(np.float64) - before[name]

    def contribute(self, limit: int | None = None) -> None:
        update = self.training.take(limit)
        self.work.keep(self.work.encode(self.training.tip, self.layout, update, parts.admission(parts.ADA)))

    def next_round(self, in_close: bool) -> None:
        pending, link = self.work.pending, None
        if pending is not None and in_close:
            link = parts.link([pending], previous=parts.HASH_A)
            decoder = Decoder(self.work.blobs.get(blob_name(pending.value)), self._codec, self.layout)
            for name in self.taken:
                self.taken[name] += decoder.tensor(name)
        self.work.settle(self.layout, link)
        rebase(self.training, self.work.hand_over())

    def check(self) -> None:
        """Each move is in a close, owed, pending, or in the local parameters only."""
        training = self.training
        local = self.nothing()
        if training.has_work:
            start = training._taken_at or training.state.params
            local = {name: start[name] - array for name, array in training.trainer.params().items()}
        out = self.nothing()
        if self.work.pending is not None:
            blob = self.work.blobs.get(blob_name(self.work.pending.value))
            out = {name: Decoder(blob, self._codec, self.layout).tensor(name) for name in out}
        for name, moved in self.moved.items():
            owed = self.work.residual.get(name, np.zeros(moved.shape, np.float32))
            accounted = self.taken[name] + owed + out[name] + local[name]
            np.testing.assert_allclose(accounted, -moved, rtol=0, atol=20 * MARGIN, err_msg=name)

    @property
    def _codec(self) -> CodecSpec:
        return self.work.charter.spec.codec


CODECS = pytest.mark.parametrize(
    "codec", [parts.CODECS[0], parts.CODECS[1], parts.CODECS[5]], ids=parts.codec_name
)


@CODECS
def test_with_overlap_every_move_is_sent_or_owed_or_local(
    folder: Path, tmp_path: Path, codec: CodecSpec
) -> None:
    volunteer, draw = Volunteer(folder, tmp_path, codec), random.Random(3)
    for round in range(8):
        for number in range(draw.randint(0, 2)):
            volunteer.step(100 * round + number)
        if volunteer.training.tokens and draw.random() < 0.8:  # else the volunteer has no turn
            volunteer.contribute()
            volunteer.check()
            for number in range(draw.randint(0, 2)):
                volunteer.step(100 * round + 50 + number)
        volunteer.check()
        volunteer.next_round(in_close=draw.random() < 0.7)
        volunteer.check()
    assert moves({name: array.astype(np.float32) for name, array in volunteer.taken.items()})
    volunteer.step(999)
    volunteer.work.put_aside(volunteer.training.rest())
    volunteer.check()


@CODECS
def test_work_that_exceeds_a_contribution_goes_out_with_the_next_ones(
    folder: Path, tmp_path: Path, codec: CodecSpec
) -> None:
    volunteer, draw = Volunteer(folder, tmp_path, codec), random.Random(4)
    training, sent = volunteer.training, []
    for number in range(6):
        volunteer.step(number)
    trained, samples, limit = training.tokens, training.samples, training.tokens // 4
    for round in range(4):
        volunteer.contribute(limit=limit)
        assert volunteer.work.pending is not None
        sent.append(volunteer.work.pending.value)
        volunteer.check()
        if round == 1:
            before = training.tokens, training.samples
            volunteer.step(50)
            trained, samples = trained + training.tokens - before[0], samples + training.samples - before[1]
        volunteer.next_round(in_close=draw.random() < 0.7)
        volunteer.check()
    assert training.tokens > 0
    assert sum(commit.tokens for commit in sent) + training.tokens == trained
    assert sum(commit.samples for commit in sent) + training.samples == samples
    assert all(commit.tokens <= limit for commit in sent)
    volunteer.work.put_aside(training.rest())
    volunteer.check()
