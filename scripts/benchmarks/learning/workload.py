"""SmolLM2-135M and the samples of `scripts/bench learning`.

Matrix products run in bf16 where that is asked for: half the time on processors that have it, and what
volunteers with them do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from barnraise.contract.shards import Sample
from barnraise.models.base_model import resolve
from coordinator.dataset.model_ids import open_tokenizer
from scripts.benchmarks.arms.plan import TUNING_SEED
from scripts.benchmarks.arms.samples import deal, in_samples, spread
from scripts.benchmarks.arms.training import CPU, Workload
from scripts.benchmarks.learning.texts import TRAINED, is_held_out, novel
from scripts.demo import CACHE, MODEL

LENGTH = 128
"""Tokens of a sample."""
BATCH = 2
"""Samples of one inner step of one machine."""
STEPS = 48
"""Inner steps of every machine in every arm, unless speeds differ or another number is asked for."""
HELD_OUT = 64
"""Held-out samples of the text."""
WATCHED = 24
"""Held-out samples that are evaluated during training."""
FORGOTTEN = 32
"""Samples of the novel."""
NOVEL = "novel"


@dataclass(frozen=True)
class Setting:
    """What a process needs to make the workload of one seed."""

    text: str
    """A key of TRAINED."""
    peers: int
    base: Path
    bf16: bool
    steps: int

    @property
    def name(self) -> str:
        """In the results file."""
        precision = "bf16" if self.bf16 else "fp32"
        samples = f"{self.steps} x {BATCH} x {LENGTH} from end of text"
        return f"{self.text} {self.peers} peers, {samples}, {precision},"


def setting(text: str, peers: int, bf16: bool, steps: int = STEPS) -> Setting:
    """Fetches the base model if it is not there. Raises ModelUnavailable."""
    return Setting(text, peers, resolve(MODEL, None, CACHE).path, bf16, steps)


def workload(chosen: Setting, seed: int) -> Workload:
    """The workload of one seed. Raises TextUnavailable."""
    documents = TRAINED[chosen.text](CACHE / "bench" / "texts")
    trained = [text for text in documents if not is_held_out(text)]
    held_out = _samples(chosen.base, tuple(text for text in documents if is_held_out(text)))
    general = _samples(chosen.base, tuple(novel(CACHE / "bench" / "texts")))
    judged = spread(held_out, HELD_OUT)

    def samples(numbers: Sequence[int]) -> list[Sample]:
        return _samples(chosen.base, tuple(trained[i] for i in numbers))

    return Workload(
        start=chosen.base,
        batches=deal(len(trained), samples, peers=chosen.peers, steps=chosen.steps, batch=BATCH, seed=seed),
        held_out=judged,
        seed=seed,
        others={NOVEL: spread(general, FORGOTTEN)},
        device=replace(CPU, autocast=chosen.bf16),
        watched=() if seed == TUNING_SEED else spread(judged, WATCHED),
    )


def _samples(base: Path, documents: tuple[str, ...]) -> list[Sample]:
    """Documents one after the other, each with the end-of-text token, in samples of LENGTH tokens.

    Every sample begins with that token, too, as documents did when the model was pretrained. A sample that
    begins with another one may lose the attention sink in training (Xiao et al. 2024, "Efficient Streaming
    Language Models with Attention Sinks"): the loss of all its tokens rises, and falls again some steps
    later.
    """
    tokenizer, _ = open_tokenizer(base)
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(list(documents), add_special_tokens=False)
    end = tokenizer.eos_token_id
    tokens = np.array([token for one in encoded for token in [*one.ids, end]], np.int32)
    return in_samples(tokens, LENGTH, first=end)
