"""SmolLM2-135M and the samples of `scripts/bench learning`.

Matrix products run in bf16 where that is asked for: half the time on processors that have it, and what
volunteers with them do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from barnraise.contract.shards import Sample
from barnraise.models.base_model import resolve
from coordinator.dataset.model_ids import open_tokenizer
from scripts.benchmarks.arms.plan import TUNING_SEED
from scripts.benchmarks.arms.training import CPU, Workload
from scripts.benchmarks.learning.texts import TRAINED, is_held_out, novel
from scripts.demo import CACHE, MODEL

LENGTH = 128
"""Tokens of a sample."""
BATCH = 2
"""Samples of one inner step of one machine."""
STEPS = 48
"""Inner steps of every machine in every arm, unless speeds differ."""
HELD_OUT = 64
"""Held-out samples of the text."""
WATCHED = 24
"""Held-out samples that are evaluated during training."""
FORGOTTEN = 32
"""Samples of the novel."""
NOVEL = "novel"

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Setting:
    """What a process needs to make the workload of one seed."""

    text: str
    """A key of TRAINED."""
    peers: int
    base: Path
    bf16: bool

    @property
    def name(self) -> str:
        """In the results file."""
        precision = "bf16" if self.bf16 else "fp32"
        return f"{self.text} {self.peers} peers, {STEPS} x {BATCH} x {LENGTH}, {precision},"


def setting(text: str, peers: int, bf16: bool) -> Setting:
    """Fetches the base model if it is not there. Raises ModelUnavailable."""
    return Setting(text, peers, resolve(MODEL, None, CACHE).path, bf16)


def workload(chosen: Setting, seed: int) -> Workload:
    """The workload of one seed. Raises TextUnavailable."""
    documents = TRAINED[chosen.text](CACHE / "bench" / "texts")
    held_out = _samples(chosen.base, tuple(text for text in documents if is_held_out(text)))
    general = _samples(chosen.base, tuple(novel(CACHE / "bench" / "texts")))
    spread = _spread(held_out, HELD_OUT)
    return Workload(
        start=chosen.base,
        batches=_batches(chosen, [text for text in documents if not is_held_out(text)], seed),
        held_out=spread,
        seed=seed,
        others={NOVEL: _spread(general, FORGOTTEN)},
        device=replace(CPU, autocast=chosen.bf16),
        watched=() if seed == TUNING_SEED else _spread(spread, WATCHED),
    )


def _batches(chosen: Setting, documents: Sequence[str], seed: int) -> list[list[list[Sample]]]:
    """[peer][step]: batches. Whole documents are dealt to the peers, so that each has text of its own."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(documents))
    batches = []
    for peer in range(chosen.peers):
        own = _samples(chosen.base, tuple(documents[i] for i in order[peer :: chosen.peers]))
        picked = random.choice(len(own), STEPS * BATCH, replace=False)
        batches.append([[own[i] for i in picked[at : at + BATCH]] for at in range(0, len(picked), BATCH)])
    return batches


@cache
def _samples(base: Path, documents: tuple[str, ...]) -> list[Sample]:
    """Documents one after the other, each with the end-of-text token, in samples of LENGTH tokens."""
    tokenizer, _ = open_tokenizer(base)
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(list(documents), add_special_tokens=False)
    end = [tokenizer.eos_token_id]
    tokens = np.array([token for one in encoded for token in [*one.ids, *end]], np.int32)
    positions = np.arange(LENGTH, dtype=np.int32)
    rows = tokens[: len(tokens) // LENGTH * LENGTH].reshape(-1, LENGTH)
    return [Sample(row, np.where(positions > 0, row, -100).astype(np.int32), positions) for row in rows]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    return list(samples[:: len(samples) // count][:count])
