"""Program that writes a checkpoint, or the run's data, in another form.

python -m coordinator.checkpoints.export_program merged BASE CHECKPOINT OUTPUT_FOLDER
python -m coordinator.checkpoints.export_program gguf OUTPUT_FILE PRECISION NAME MODEL_FOLDER
    [ADAPTER_FOLDER ADAPTER_OUTPUT]
python -m coordinator.checkpoints.export_program data BASE BLOBS INDEX_HASH OUTPUT_FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from barnraise.contract.shards import DataIndex, parse_shard
from barnraise.core.errors import BarnraiseError
from barnraise.core.ids import BlobHash
from barnraise.models import gguf_export
from barnraise.models.causal_lm import quiet
from barnraise.models.merge import merge
from barnraise.models.tokenizer_files import load_tokenizer
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.child_process import NICENESS
from barnraise.runtime.files import disk_errors

DATA_BYTES = 256 * 10**6
"""A file of the run's data is closed above this: a manifest lists at most 1000 files."""


def main() -> int:
    """Returns the exit status."""
    os.nice(NICENESS)
    try:
        match sys.argv[1:]:
            case ["merged", base, checkpoint, output]:
                merge(Path(base), Path(checkpoint), Path(output))
            case ["gguf", output, ("f16" | "q8_0") as precision, name, model]:
                gguf_export.export(Path(model), Path(output), precision, gguf_export.GgufMetadata(name))
            case ["gguf", output, ("f16" | "q8_0") as precision, name, base, adapter, lora]:
                about = gguf_export.GgufMetadata(name)
                gguf_export.export(Path(base), Path(output), precision, about, Path(adapter))
                gguf_export.export_adapter(Path(adapter), Path(base), Path(lora), about)
            case ["data", base, blobs, index, output]:
                write_data(Path(base), BlobStore(Path(blobs)), BlobHash(index), Path(output))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except BarnraiseError as error:
        print(f"{error.problem}. {error.fix}", file=sys.stderr)
        return error.exit_code
    return 0


def write_data(base: Path, blobs: BlobStore, index_hash: BlobHash, folder: Path) -> None:
    """Write the packed samples that volunteers train on, as JSON lines in files of about DATA_BYTES.

    Raises HashMismatch, MalformedBlob where the store is damaged, DiskFull.
    """
    index = DataIndex.from_bytes(blobs.get(index_hash))
    with quiet():
        tokenizer = load_tokenizer(base)
    number, written = 0, 0
    with disk_errors(folder):
        for ref in index.shards:
            with (folder / f"train-{number:05d}.jsonl").open("a", encoding="utf-8") as file:
                for sample in parse_shard(blobs.get(ref.blob), index.sequence_length, index.vocab_size):
                    ids = sample.input_ids.tolist()
                    row = {"text": tokenizer.decode(ids), "input_ids": ids, "labels": sample.labels.tolist()}
                    written += file.write(json.dumps(row, ensure_ascii=False) + "\n")
            if written >= DATA_BYTES:
                number, written = number + 1, 0


if __name__ == "__main__":
    sys.exit(main())
