"""The model and the text of `scripts/bench convergence`: a small LLaMA and Python's own text, no downloads.

The text is the Python distribution's, under its PSF licence. The model first learns the language reference
(prose), which gives all arms a common start, and is fine-tuned on the standard library's sources (code).
Tokens are bytes.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from barnraise.contract.shards import Sample
from barnraise.contract.spec import Full, InnerSpec, TrainSpec
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from scripts.benchmarks.arms.arms import Batches
from scripts.benchmarks.arms.samples import deal, in_samples, spread
from scripts.benchmarks.arms.training import CPU, bare_spec

LENGTH = 64
"""Tokens of a sample."""
BATCH = 8
"""Samples of one inner step of one peer."""
HELD_OUT = 384
"""Samples that no arm trains on."""
WARM_UP_STEPS = 400
"""Steps of four batches that train the common start from random parameters."""

Bytes = npt.NDArray[np.uint8]

# Large or generated folders, which would be most of the text.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "pydoc_data", "encodings", "site-packages"}
_LEFT_OUT |= {"dist-packages", "ensurepip", "__pycache__"}


@dataclass(frozen=True)
class Corpus:
    """The text as bytes."""

    prose: Bytes
    """Python's language reference, as `help()` shows it."""
    train: tuple[Bytes, ...]
    """Sources of the standard library, one array a file."""
    held_out: Bytes
    """Other files of it."""

    @property
    def digest(self) -> str:
        """A name of the text, which differs between versions of Python."""
        parts = [self.prose, *self.train, self.held_out]
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:12]


def read_text() -> Corpus:
    """The text of the running Python. Every tenth file, by the hash of its name, is held out."""
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path.relative_to(root)
        for path in root.rglob("*.py")
        if not _LEFT_OUT & set(path.relative_to(root).parts)
    ]
    files.sort(key=lambda path: hashlib.sha256(path.as_posix().encode()).hexdigest())
    sources = [np.frombuffer((root / path).read_bytes(), np.uint8) for path in files]
    tenth = len(sources) // 10
    prose = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    return Corpus(np.frombuffer(prose, np.uint8), tuple(sources[tenth:]), np.concatenate(sources[:tenth]))


def samples_of(text: Bytes) -> list[Sample]:
    """`text` in samples of LENGTH bytes; all bytes but the first of each are trained on."""
    return in_samples(text, LENGTH)


def held_out_samples(text: Corpus) -> list[Sample]:
    """HELD_OUT samples, spread over the held-out files: the same for every arm and seed."""
    return spread(samples_of(text.held_out), HELD_OUT)


def peers_batches(text: Corpus, peers: int, steps: int, seed: int) -> Batches:
    """[peer][step]: batches. Whole files are dealt to the peers, so that each has text of its own."""

    def samples(files: Sequence[int]) -> list[Sample]:
        return samples_of(np.concatenate([text.train[i] for i in files]))

    return deal(len(text.train), samples, peers=peers, steps=steps, batch=BATCH, seed=seed)


def common_start(text: Corpus, cache: Path) -> Path:
    """The folder of the model that all arms start from; created once in `cache`."""
    folder = cache / f"start-{text.digest}-{WARM_UP_STEPS}"
    if (folder / "model.safetensors").exists():
        return folder
    blank = cache / "blank"
    torch.manual_seed(0)
    LlamaForCausalLM(_config()).save_pretrained(blank)
    inner = InnerSpec(lr=2e-3, warmup_steps=40, clip_norm=1.0)
    run = bare_spec(TrainSpec(target=Full(), inner=inner))
    trainer = Trainer(blank, run, CPU, micro_batch=4 * BATCH)
    trainer.load(initial_state(blank, Full(), 0))
    prose, random = samples_of(text.prose), np.random.default_rng(0)
    for _ in range(WARM_UP_STEPS):
        trainer.step([prose[i] for i in random.integers(len(prose), size=4 * BATCH)])
    model = LlamaForCausalLM(_config())
    tensors = {name: torch.from_numpy(array) for name, array in trainer.params().items()}
    model.load_state_dict(tensors, strict=False)  # the output layer is the embedding, tied
    model.save_pretrained(folder)
    return folder


def _config() -> LlamaConfig:
    """0.39M parameters."""
    return LlamaConfig(
        vocab_size=256,
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
