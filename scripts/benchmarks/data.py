"""`scripts/bench data`: the dataset builder against `tokenizers` alone.

The builder reads files, renders, encodes, packs and stores shards. Alone, `encode_batch_fast` encodes the
same texts, which are in memory. Each measurement is a process of its own, and the two alternate.

    python -m scripts.benchmarks.data KIND alone|build MEGABYTES FOLDER    one measurement, as JSON
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
from barnraise.models.base_model import resolve
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.blob_store import BlobStore
from coordinator.dataset.build import build
from coordinator.dataset.model_ids import open_tokenizer
from coordinator.dataset.rendering.encode import batches
from coordinator.dataset.rendering.render import Rendered, Renderer
from coordinator.dataset.sources.read import read
from scripts.demo import CACHE, MODEL
from scripts.stage import ROOT, DemoFailed

SEED = 0
LENGTH = 512
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
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            file = Path(folder) / FILES[kind]
            write_corpus(file, kind, megabytes)
            pairs = [(_child(kind, "alone", file), _child(kind, "build", file)) for _ in range(repeats)]
            rows.append(_row(kind, [alone for alone, _ in pairs], [built for _, built in pairs]))
            file.unlink()
    columns = (
        "data", "MB", "alone, MB per CPU s", "built, MB per CPU s", "÷", "alone, MB/s", "built, MB/s", "÷",
        "built: peak RSS, MB",
    )  # fmt: skip
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(kind: str, alone: list[Measured], built: list[Measured]) -> list[str]:
    megabytes = alone[0].megabytes
    cells = [kind, f"{megabytes:.0f}"]
    for name in ("processor", "wall"):
        first, second = (megabytes / median(getattr(one, name) for one in found) for found in (alone, built))
        cells += [f"{first:.2f}", f"{second:.2f}", f"{second / first:.2f}"]
    return [*cells, f"{max(one.peak for one in built):.0f}"]


def _child(kind: str, what: str, file: Path) -> Measured:
    command = [sys.executable, "-m", "scripts.benchmarks.data", what, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(f"{what} of {kind} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
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
    """From the file to the shards on disk."""
    base = resolve(MODEL, None, CACHE).path
    open_tokenizer(base)  # imports
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        began, used = time.monotonic(), time.process_time()
        build(_spec(file), base, BlobStore(Path(folder)).put, lambda step: None)
        processor, wall = time.process_time() - used, time.monotonic() - began
    return Measured(0.0, processor, wall, _peak())


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    keep_freed_memory()  # as the coordinator does
    what, file = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(vars({"alone": encode_alone, "build": build_shards}[what](file))))


if __name__ == "__main__":
    main()
