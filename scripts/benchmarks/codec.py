"""The measuring programs of `scripts/bench codec` and `memory`: each runs in a process of its own.

`python -m scripts.benchmarks.codec WHAT KIND REPEATS PARAMETERS` prints one JSON object.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from barnraise.contract.spec import CodecSpec, DataSpec, Dense, Raw, RunSpec, Sparse
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import MachineError
from barnraise.core.ids import BlobHash, Round
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder, chunks, encode_in_place
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from barnraise.runtime.allocator import keep_freed_memory
from barnraise.runtime.blob_store import BlobStore
from peer.volunteer.saved_state import SavedState

SEED = 0
PARTS = ("copy", "encode", "check", "norm", "decode", "fold")
SPREAD = np.float32(1e-5)
"""Standard deviation of the values: about what fine-tuning changes a weight by in a round."""
KINDS: dict[str, CodecSpec] = (
    {"raw": Raw()}
    | {f"{bits}-bit": Dense.model_validate({"bits": bits}) for bits in (16, 8, 4, 2, 1)}
    | {
        f"1/{share}-{bits}-bit": Sparse.model_validate({"density": 1 / share, "bits": bits})
        for share in (8, 16, 64)
        for bits in (4, 2)
    }
)
"""Dense ones by their bits, sparse ones by density and bits."""


def smollm2_layout() -> Layout:
    """SmolLM2-135M's tensors: 134,515,008 values, 30 layers of width 576, embeddings tied."""
    layer = {
        "input_layernorm": (576,),
        "mlp.down_proj": (576, 1536),
        "mlp.gate_proj": (1536, 576),
        "mlp.up_proj": (1536, 576),
        "post_attention_layernorm": (576,),
        "self_attn.k_proj": (192, 576),
        "self_attn.o_proj": (576, 576),
        "self_attn.q_proj": (576, 576),
        "self_attn.v_proj": (192, 576),
    }
    shapes = {f"model.layers.{i}.{name}": shape for i in range(30) for name, shape in layer.items()}
    return Layout(tuple(sorted((shapes | {"embed": (49_152, 576), "norm": (576,)}).items())))


def llama_layout() -> Layout:
    """Llama-3.2-1B's tensors: 1,235,814,400 values, 16 layers of width 2048, embeddings tied."""
    layer = {
        "input_layernorm": (2048,),
        "mlp.down_proj": (2048, 8192),
        "mlp.gate_proj": (8192, 2048),
        "mlp.up_proj": (8192, 2048),
        "post_attention_layernorm": (2048,),
        "self_attn.k_proj": (512, 2048),
        "self_attn.o_proj": (2048, 2048),
        "self_attn.q_proj": (2048, 2048),
        "self_attn.v_proj": (512, 2048),
    }
    shapes = {f"model.layers.{i}.{name}": shape for i in range(16) for name, shape in layer.items()}
    return Layout(tuple(sorted((shapes | {"embed": (128_256, 2048), "norm": (2048,)}).items())))


LAYOUTS = {"135M": smollm2_layout, "1B": llama_layout}


def drawn(layout: Layout, seed: int) -> dict[str, Array]:
    arrays = {name: np.empty(shape, np.float32) for name, shape in layout}
    draw(arrays, seed)
    return arrays


def draw(arrays: dict[str, Array], seed: int) -> None:
    random = np.random.default_rng(seed)
    for array in arrays.values():
        random.standard_normal(out=array, dtype=np.float32)
        array *= SPREAD


def zeros(layout: Layout) -> dict[str, Array]:
    """Zeros in memory that is written, so that its pages exist."""
    return {name: np.full(shape, 0, np.float32) for name, shape in layout}


class Memory:
    """The peak of this process's memory above its level at the start, sampled every 3 ms.

    Only anonymous memory counts: the system can drop a mapped file at any time.
    """

    def __init__(self) -> None:
        self._before = self._highest = anonymous_bytes()
        self._stop = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while not self._stop.wait(0.003):
            self._highest = max(self._highest, anonymous_bytes())

    def restart(self) -> None:
        """Start a new peak, above the same level."""
        self._highest = anonymous_bytes()

    def peak(self) -> int:
        return max(self._highest, anonymous_bytes()) - self._before

    def stop(self) -> None:
        self._stop.set()


def anonymous_bytes() -> int:
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text() if status.exists() else "")
    if found is None:
        raise MachineError("this system does not report a process's memory", fix="Measure on Linux.")
    return int(found[1]) * 1024


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of this thread, system time included: other programs do not count."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def measure_codec(kind: str, repeats: int, layout: Layout) -> dict[str, float]:
    """Median CPU seconds of PARTS for one contribution; peak bytes."""
    codec = KINDS[kind]
    spec = RunSpec(name="bench", data=DataSpec(source="none"), codec=codec)
    update, state = zeros(layout), TrainState(zeros(layout))
    seconds: dict[str, list[float]] = {what: [] for what in PARTS}
    peaks = {"encode_peak": 0, "fold_peak": 0}
    blob = bytearray()

    def copy() -> None:
        for name, array in update.items():
            np.copyto(state.params[name], array)

    for _ in range(repeats):
        draw(update, SEED)
        seconds["copy"].append(timed(copy))
        blob = bytearray()
        memory = Memory()
        began = time.thread_time()
        blob = encode_in_place(codec, update, layout)
        seconds["encode"].append(time.thread_time() - began)
        peaks["encode_peak"] = max(peaks["encode_peak"], memory.peak())
        memory.stop()
        began = time.thread_time()
        decoder = Decoder(blob, codec, layout)
        seconds["check"].append(time.thread_time() - began)

        def decode(decoder: Decoder = decoder) -> None:
            for name, array in update.items():
                for start, stop in chunks(codec, array.size):
                    decoder.values(name, start, stop)

        def folded(decoder: Decoder = decoder) -> None:
            fold(state, [Contribution.unlimited(decoder, 1)], spec)

        seconds["norm"].append(timed(decoder.norm))
        seconds["decode"].append(timed(decode))
        zeros(layout)  # a virtual machine gets pages from its host at first use, which is not the fold's time
        memory = Memory()
        seconds["fold"].append(timed(folded))
        peaks["fold_peak"] = max(peaks["fold_peak"], memory.peak())
        memory.stop()
    medians = {what: statistics.median(taken) for what, taken in seconds.items()}
    return medians | peaks | {"blob": len(blob), "state": 4 * layout.parameters}


def measure_memory(kind: str, _repeats: int, layout: Layout) -> dict[str, float]:
    """Peak bytes beyond local parameters and inner optimizer, phase by phase of a full run's round.

    As in a volunteer, state and residual are held throughout. `save` is the writing of both.
    """
    codec = KINDS[kind]
    spec = RunSpec(name="bench", data=DataSpec(source="none"), codec=codec)
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        blobs = BlobStore(Path(folder) / "blobs")
        # Before the rest: the memory that the allocator keeps of it is reused and not counted.
        names = [blobs.put(encode_in_place(codec, drawn(layout, seed), layout)) for seed in range(3, 6)]
        local = drawn(layout, SEED)
        moments = [drawn(layout, SEED + 1), drawn(layout, SEED + 2)]
        inner = {f"{i}/{name}": array for i, arrays in enumerate(moments) for name, array in arrays.items()}
        memory = Memory()

        state, residual = TrainState(zeros(layout)), zeros(layout)
        update = {name: state.params[name] - local[name] for name in local}
        names.append(blobs.put(encode_with_feedback(codec, update, residual, layout)))
        residual = update
        del update
        peaks["contribute"] = memory.peak()

        for count in (2, 4):
            memory.restart()
            parts = [
                Contribution.unlimited(Decoder(blobs.view(name), codec, layout), 1) for name in names[-count:]
            ]
            fold(state, parts, spec).hash()
            del parts
            peaks[f"fold {count}"] = memory.peak()

        memory.restart()
        tip = Tip(Position(Round(0), BlobHash("0" * 64)), state.hash())
        SavedState(Path(folder) / "store", "bench").save_state(tip, state, residual, inner, "")
        peaks["save"] = memory.peak()
    return peaks | {"state": 4 * layout.parameters}


def main() -> None:
    keep_freed_memory()  # as both programs do
    what, kind, repeats, parameters = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    measure = {"codec": measure_codec, "memory": measure_memory}[what]
    print(json.dumps(measure(kind, repeats, LAYOUTS[parameters]())))


if __name__ == "__main__":
    main()
