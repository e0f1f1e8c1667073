"""`scripts/bench data`: the dataset builder against `tokenizers` alone.

The builder reads files, renders, encodes, packs and stores shards. Alone, `encode_batch_fast` encodes the
same texts, which are in memory, in the same batches, with special tokens and without truncation. Each
measurement is a process of its own, which opens the tokenizer before it begins. The two alternate, and the
ratio is the median of the pairs' ratios: other work on the machine slows both of a pair.

Speed is measured on a sample of at most `SAMPLE` MB. Of more text, one build measures the memory.

    python -m scripts.benchmarks.data alone|build FILE    one measurement, as JSON
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from barnraise.contract.spec import DataSpec, ModelSpec, RunSpec
from barnraise.core.ids import BlobHash
from barnraise.models.base_model import resolve
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.blob_store import BlobStore
from coordinator.dataset.build import build_with
from coordinator.dataset.model_ids import open_tokenizer
from coordinator.dataset.rendering.encode import batches
from coordinator.dataset.rendering.render import Rendered, Renderer
from coordinator.dataset.sources.read import read
from coordinator.reasons.dataset import BuildStep, RecordsTokenized
from scripts.demo import CACHE, MODEL
from scripts.stage import ROOT, DemoFailed

SEED = 0
LENGTH = 512
SAMPLE = 50
"""Megabytes of each kind on which speed is measured."""
ROW_CHARACTERS = 1_500
"""Characters of a row, on average."""
FILES = {"JSONL, text": "rows.jsonl", "plain text": "text.txt", "JSONL, chats": "chats.jsonl"}
"""The kinds of data, and the file of each."""


@dataclass(frozen=True)
class Measured:
    """What one process took."""

    megabytes: float
    """UTF-8 bytes of the texts in 10^6, as `alone` counts them; 0 where they are not counted."""
    processor: float
    """CPU seconds of all its threads."""
    wall: float
    peak: float
    """Resident memory at its highest, in 10^6 bytes."""


def measure_data(megabytes: int, repeats: int, kinds: list[str]) -> str:
    """A table with a row for each kind of data. Raises DemoFailed."""
    rows = [_measure_kind(kind, megabytes, repeats) for kind in kinds]
    columns = (
        "data", "MB", "alone, MB per CPU s", "built, MB per CPU s", "÷", "alone, MB/s", "built, MB/s", "÷",
        "built: peak RSS, MB",
    )  # fmt: skip
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measure_kind(kind: str, megabytes: int, repeats: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILES[kind]
        write_corpus(file, kind, min(megabytes, SAMPLE))
        pairs = [(_child(kind, "alone", file), _child(kind, "build", file)) for _ in range(repeats)]
        peak = max(built.peak for _, built in pairs)
        if megabytes > SAMPLE:
            write_corpus(file, kind, megabytes)
            peak = _child(kind, "build", file).peak
    size = pairs[0][0].megabytes
    cells = [kind, str(megabytes)]
    for name in ("processor", "wall"):
        took = [(getattr(alone, name), getattr(built, name)) for alone, built in pairs]
        cells += [f"{size / median(seconds):.2f}" for seconds in zip(*took, strict=True)]
        cells.append(f"{median(alone / built for alone, built in took):.2f}")
    return [*cells, f"{peak:.0f}"]


def _child(kind: str, what: str, file: Path) -> Measured:
    """One measurement; what it writes to its standard error is shown."""
    command = [sys.executable, "-m", "scripts.benchmarks.data", what, str(file)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise DemoFailed(f"{what} of {kind} ended with status {done.returncode}; its error is above")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def write_corpus(file: Path, kind: str, megabytes: int) -> None:
    """Write `megabytes` of paragraphs, drawn at random from the source of Python's standard library."""
    draw, paragraphs = random.Random(SEED), library_paragraphs()
    written = 0
    with file.open("w", encoding="utf-8") as out:
        while written < megabytes * 10**6:
            written += out.write(_LINES[kind](draw, paragraphs))


def library_paragraphs() -> list[str]:
    """What stands between blank lines in the modules of the running Python's standard library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("**/*.py"))
    texts = (file.read_text(encoding="utf-8", errors="ignore") for file in files if "test" not in str(file))
    return [part for text in texts for part in text.split("\n\n") if part.strip()]


def _some(draw: random.Random, paragraphs: list[str], characters: int) -> str:
    parts: list[str] = []
    while sum(map(len, parts)) < characters:
        parts.append(draw.choice(paragraphs))
    return "\n\n".join(parts)


def _text_row(draw: random.Random, paragraphs: list[str]) -> str:
    text = _some(draw, paragraphs, int(draw.expovariate(1 / ROW_CHARACTERS)))
    return json.dumps({"text": text or draw.choice(paragraphs)}, ensure_ascii=False) + "\n"


def _plain(draw: random.Random, paragraphs: list[str]) -> str:
    return draw.choice(paragraphs) + "\n\n"


def _chat_row(draw: random.Random, paragraphs: list[str]) -> str:
    messages = []
    for _ in range(draw.choice((1, 1, 2))):
        messages += [
            {"role": "user", "content": draw.choice(paragraphs)},
            {"role": "assistant", "content": _some(draw, paragraphs, ROW_CHARACTERS // 2)},
        ]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


_LINES: dict[str, Callable[[random.Random, list[str]], str]] = {
    "JSONL, text": _text_row,
    "plain text": _plain,
    "JSONL, chats": _chat_row,
}


def _spec(file: Path) -> RunSpec:
    data = DataSpec(source=str(file), sequence_length=LENGTH)
    return RunSpec(name="bench", seed=SEED, model=ModelSpec(source=MODEL), data=data)


def encode_alone(file: Path) -> Measured:
    """Only the calls of `encode_batch_fast` are measured; one batch of texts is in memory at a time."""
    tokenizer, ids = open_tokenizer(resolve(MODEL, None, CACHE).path)
    renderer = Renderer(tokenizer, ids.ends)
    backend = tokenizer.backend_tokenizer
    size, processor, wall = 0, 0.0, 0.0
    for texts in _texts(file, renderer):
        size += sum(len(text.encode()) for text in texts)
        began, used = time.monotonic(), time.process_time()
        backend.encode_batch_fast(texts)
        processor += time.process_time() - used
        wall += time.monotonic() - began
    return Measured(size / 1e6, processor, wall, _peak())


def _texts(file: Path, renderer: Renderer) -> Iterator[list[str]]:
    for batch in batches(read(_spec(file).data)):
        found = [renderer.text_of(record) for record in batch]
        yield [text.text for text in found if isinstance(text, Rendered)]


def build_shards(file: Path) -> Measured:
    """From the file to shards on disk. Each is removed once it is written, so that they take no space."""
    tokenizer, ids = open_tokenizer(resolve(MODEL, None, CACHE).path)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        store = BlobStore(Path(folder))

        def put(data: bytes) -> BlobHash:
            found = store.put(data)
            store.remove(found)
            return found

        began, used = time.monotonic(), time.process_time()
        build_with(tokenizer, ids, _spec(file), put, _show)
        processor, wall = time.process_time() - used, time.monotonic() - began
    return Measured(0.0, processor, wall, _peak())


def _show(step: BuildStep) -> None:
    """Rewrite one line of the standard error with what was read so far."""
    if isinstance(step, RecordsTokenized):
        print(f"{step.records:,} records, peak RSS {_peak():.0f} MB", end="\r", file=sys.stderr, flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    keep_freed_memory()  # as the coordinator does
    what, file = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(vars({"alone": encode_alone, "build": build_shards}[what](file))))


if __name__ == "__main__":
    main()
