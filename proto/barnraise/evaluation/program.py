"""The program that evaluates a checkpoint: by transformers and peft alone, as any downloader could.

    python -m barnraise.evaluation.program BASE_FOLDER HELD_OUT_FOLDER [--checkpoint FOLDER] [--tokens N]

Prints one line of JSON: `loss` (nats per held-out token) and `tokens`; or `needed_bytes` and `free_bytes`
where the model does not fit into memory; or `not_finite`.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

import torch

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.held_out_set import held_out_samples
from barnraise.contract.shards import IGNORED, DataIndex, Sample
from barnraise.evaluation.runner import LossReply, MemoryReply, NotFiniteReply
from barnraise.models import causal_lm
from barnraise.models.causal_lm import Attention, packed_inputs, quiet
from barnraise.models.lora_files import LoraFiles
from barnraise.models.trainable import parameter_count
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.child_process import NICENESS
from barnraise.runtime.memory import available_memory

FP32_BYTES = 4
LOGIT_COPIES = 3
"""Of one sample's logits, the largest activations: as computed, as fp32, and their log-softmax."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out loss of a checkpoint.")
    parser.add_argument("base", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokens", type=int, help="evaluate on the first samples, about this many tokens")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--attention", default="auto", help="attention kernel: auto, sdpa or eager")
    wanted = parser.parse_args()
    os.nice(NICENESS)
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    index = DataIndex.from_bytes((wanted.held_out / HELD_OUT_INDEX).read_bytes())
    needed = parameter_count(wanted.base) * FP32_BYTES
    needed += index.sequence_length * index.vocab_size * FP32_BYTES * LOGIT_COPIES
    if (free := available_memory()) < needed:
        print(MemoryReply(needed_bytes=needed, free_bytes=free).model_dump_json())
        return
    with quiet():
        model = load(wanted.base, wanted.checkpoint, wanted.attention)
    loss, tokens = held_out_loss(model, wanted.held_out, wanted.tokens)
    if not math.isfinite(loss):
        print(NotFiniteReply(not_finite=str(loss)).model_dump_json())
        return
    print(LossReply(loss=loss, tokens=tokens).model_dump_json())


def load(base: Path, checkpoint: Path | None, attention: Attention = "auto") -> Any:
    """The base model, with the checkpoint's adapter, or the checkpoint's full model.

    Raises ModelUnavailable.
    """
    if checkpoint is not None and not (checkpoint / "adapter_config.json").exists():
        return causal_lm.load(checkpoint, torch.float32, attention).eval()
    model = causal_lm.load(base, torch.float32, attention)
    if checkpoint is None:
        return model.eval()
    return LoraFiles.attach(model, checkpoint).eval()


def held_out_loss(model: Any, folder: Path, limit: int | None = None) -> tuple[float, int]:
    """Mean cross entropy in nats over the trained tokens of the held-out samples, and their number.

    limit: stop after the sample that reaches this many tokens.
    """
    index = DataIndex.from_bytes((folder / HELD_OUT_INDEX).read_bytes())
    total, tokens = 0.0, 0
    for sample in held_out_samples(index, BlobStore(folder).get, limit):
        total += summed_loss(model, sample)
        tokens += sample.trained_tokens
    return total / tokens, tokens


def summed_loss(model: Any, sample: Sample) -> float:
    """Cross entropy of a sample's trained tokens, in nats."""
    ids = torch.from_numpy(sample.input_ids).long()[None]
    positions = torch.from_numpy(sample.position_ids).long()[None]
    with torch.inference_mode():
        logits = model(**packed_inputs(model, ids, positions)).logits[0, :-1]
    labels = torch.from_numpy(sample.labels).long()[1:]
    return float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))


if __name__ == "__main__":
    main()
