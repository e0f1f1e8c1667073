"""Checkpoints: state[r] as files that transformers or peft load, with a signed manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors.numpy import save_file

from barnraise.edge.checkpoint_files import OUTER_STATE, join_groups
from barnraise.edge.files import disk_errors, write_atomic
from barnraise.edge.trainable import adapter_config
from barnraise.edge.transfer.blobstore import BlobStore
from barnraise.identity import Identity
from barnraise.log import Tip
from barnraise.manifest import MANIFEST, FileEntry, Manifest
from barnraise.signed import Signed, sign
from barnraise.spec import Charter, Lora
from barnraise.state import Array, TrainState
from coordinator.charter import CHAT_TEMPLATE

SHARD_BYTES = 500 * 10**6
"""Largest safetensors file of a full model: small enough to resume a download cheaply."""

_FROM_BASE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)


def folder_name(round: int) -> str:
    return f"round-{round:06d}"


def write_checkpoint(
    root: Path,
    charter: Charter,
    base: Path,
    state: TrainState,
    tip: Tip,
    tokens: int,
    authority: Identity,
    blobs: BlobStore,
) -> Signed[Manifest]:
    """Write `root`/round-…, and every file of it into `blobs` too.

    Raises DiskFull, and leaves nothing half-done.
    """
    final = root / folder_name(tip.round)
    work = root / f".{final.name}-{os.getpid()}"
    with disk_errors(work):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            _write_files(work, root.parent / CHAT_TEMPLATE, charter, base, state, tip, tokens)
            files = tuple(
                FileEntry(name=path.name, hash=blobs.adopt(path), size=path.stat().st_size)
                for path in sorted(work.iterdir())
            )
            manifest = Manifest(
                run=charter.spec.name,
                round=tip.round,
                state=tip.state,
                previous=tip.previous,
                spec=charter.spec.digest(),
                tokens=tokens,
                files=files,
            )
            signed = sign(authority, manifest)
            write_atomic(work / MANIFEST, signed.wire)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(work, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    blobs.put(signed.wire)
    return signed


def _write_files(
    folder: Path, template: Path, charter: Charter, base: Path, state: TrainState, tip: Tip, tokens: int
) -> None:
    for name in _FROM_BASE:
        target = charter.spec.train.target
        if (base / name).is_file() and not (isinstance(target, Lora) and name == "config.json"):
            shutil.copyfile(base / name, folder / name)
    shutil.copyfile(template, folder / CHAT_TEMPLATE)
    if isinstance(charter.spec.train.target, Lora):
        _save(state.params, folder / "adapter_model.safetensors")
        config = adapter_config(charter.spec.train.target, charter.spec.model.source)
        write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2).encode())
    else:
        _write_model(folder, state.params)
    if state.buffers:
        _save(join_groups(state.buffers), folder / OUTER_STATE)
    write_atomic(folder / "README.md", _card(charter, tip, tokens).encode())


def _write_model(folder: Path, params: dict[str, Array]) -> None:
    shards = list(_in_shards(params))
    if len(shards) == 1:
        _save(params, folder / "model.safetensors")
        return
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, folder / name)
        index.update(dict.fromkeys(shard, name))
    total = sum(array.nbytes for array in params.values())
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
    write_atomic(folder / "model.safetensors.index.json", text.encode())


def _in_shards(params: dict[str, Array]) -> Iterator[dict[str, Array]]:
    shard: dict[str, Array] = {}
    for name in sorted(params):
        if shard and sum(array.nbytes for array in shard.values()) + params[name].nbytes > SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = params[name]
    yield shard


def _save(tensors: dict[str, Array], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _card(charter: Charter, tip: Tip, tokens: int) -> str:
    spec = charter.spec
    adapter = isinstance(spec.train.target, Lora)
    load = 'model = AutoModelForCausalLM.from_pretrained("<this folder>")'
    if adapter:
        load = (
            f'base = AutoModelForCausalLM.from_pretrained("<{spec.model.source}>")\n'
            'model = PeftModel.from_pretrained(base, "<this folder>")'
        )
    imports = "from peft import PeftModel\n" if adapter else ""
    return f"""---
library_name: {"peft" if adapter else "transformers"}
base_model: {spec.model.source}
---
# {spec.name}, round {tip.round}

{spec.description or "A model that volunteers fine-tuned together with Barnraise."}

- Base model: `{spec.model.source}`{f" at `{spec.model.revision}`" if spec.model.revision else ""}
- Data: `{spec.data.source}` (licence: {spec.data.licence})
- Method: {spec.train.method}, {"LoRA adapter" if adapter else "all parameters"}
- Tokens trained on: {tokens:,}
- State: `{tip.state}`
- Run spec: `{spec.digest()}`

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}
{load}
tokenizer = AutoTokenizer.from_pretrained("<this folder>")
```

`{MANIFEST}` lists every file's SHA-256 and is signed by the run's key `{charter.authority}`.
"""
