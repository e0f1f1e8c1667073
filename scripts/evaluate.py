"""Held-out loss and one answer of a checkpoint, by transformers and peft alone: what any downloader could do.

    python scripts/evaluate.py BASE_FOLDER HELD_OUT_FOLDER --prompt "…" [--checkpoint FOLDER]

Prints one line of JSON: loss (nats per trained token), tokens, answer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from barnraise.edge.causal_lm import quiet
from barnraise.edge.transfer.blobstore import BlobStore
from barnraise.shards import IGNORED, DataIndex, Sample, parse_shard


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out loss and one answer of a checkpoint.")
    parser.add_argument("base", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--threads", type=int)
    wanted = parser.parse_args()
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    with quiet():
        model = load(wanted.base, wanted.checkpoint)
    loss, tokens = held_out_loss(model, wanted.held_out)
    said = answer(model, wanted.checkpoint or wanted.base, wanted.prompt)
    print(json.dumps({"loss": loss, "tokens": tokens, "answer": said}))


def load(base: Path, checkpoint: Path | None) -> Any:
    """The base model, with the checkpoint's adapter, or the checkpoint's full model."""
    if checkpoint is not None and not (checkpoint / "adapter_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return (model if checkpoint is None else PeftModel.from_pretrained(model, checkpoint)).eval()


def held_out_loss(model: Any, folder: Path) -> tuple[float, int]:
    """Mean cross entropy over the trained tokens of the samples that no volunteer saw."""
    index = DataIndex.from_bytes((folder / "index.json").read_bytes())
    blobs = BlobStore(folder)
    total, tokens = 0.0, 0
    for ref in index.shards:
        for sample in parse_shard(blobs.get(ref.blob), index.sequence_length, index.vocab_size):
            total += summed_loss(model, sample)
            tokens += int((sample.labels[1:] != IGNORED).sum())
    return total / tokens, tokens


def summed_loss(model: Any, sample: Sample) -> float:
    ids = torch.from_numpy(sample.input_ids).long()[None]
    positions = torch.from_numpy(sample.position_ids).long()[None]
    with torch.inference_mode():
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, :-1]
    labels = torch.from_numpy(sample.labels).long()[1:]
    return float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))


def answer(model: Any, tokenizer_folder: Path, prompt: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    messages = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=60, do_sample=False)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


if __name__ == "__main__":
    main()
