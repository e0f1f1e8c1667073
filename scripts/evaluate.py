"""Held-out loss and one answer of a checkpoint, with transformers and peft alone, as any downloader could.

    python scripts/evaluate.py BASE_FOLDER HELD_OUT_FOLDER --prompt "…" [--checkpoint FOLDER]

Prints one line of JSON: loss (nats per trained token), tokens, answer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from barnraise.evaluation.program import held_out_loss, load
from barnraise.models.causal_lm import quiet


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out loss and one answer of a checkpoint.")
    parser.add_argument("base", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with quiet():
        model = load(options.base, options.checkpoint)
    loss, tokens = held_out_loss(model, options.held_out)
    text = answer(model, options.checkpoint or options.base, options.prompt)
    print(json.dumps({"loss": loss, "tokens": tokens, "answer": text}))


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
