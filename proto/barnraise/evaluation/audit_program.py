"""The program that audits the contributions of a round: forward passes alone, at low priority.

    python -m barnraise.evaluation.audit_program JOB_FILE

Prints one line of JSON: an `AuditReply`, or a `MemoryReply` where the model does not fit into memory.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from barnraise.contract.audit_figures import MILLION, MOST, NANO, STEP_SHARE, Finding
from barnraise.contract.shards import Sample, parse_shard
from barnraise.contract.spec import AdamW, RunSpec
from barnraise.contract.state import Array, Layout
from barnraise.evaluation.alignment import ALIGNMENT_VALUES, alignments
from barnraise.evaluation.audit_job import AuditJob, AuditReply, Measured, Tried
from barnraise.evaluation.program import FP32_BYTES, summed_loss
from barnraise.evaluation.runner import MemoryReply
from barnraise.evaluation.similarity import KEPT, Candidate, Sketch, findings, positions
from barnraise.fold.codec import Decoder
from barnraise.models.causal_lm import load, quiet
from barnraise.models.trainable import attach, parameter_count, trainable_parameters
from barnraise.runtime.child_process import NICENESS
from barnraise.runtime.files import write_atomic
from barnraise.runtime.memory import available_memory

COPIES = 2
"""Of the model in fp32: the contributions' sum and one of them, then the model and the state of the round."""

Tensors = dict[str, Array]
Sketches = npt.NDArray[np.float32]


def main() -> None:
    os.nice(NICENESS)
    job = AuditJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    torch.set_num_threads(job.threads)
    needed = COPIES * parameter_count(Path(job.base)) * FP32_BYTES
    if (free := available_memory()) < needed:
        print(MemoryReply(needed_bytes=needed, free_bytes=free).model_dump_json())
        return
    print(audit(job).model_dump_json())


def audit(job: AuditJob) -> AuditReply:
    """Compare all contributions, and try those that are audited."""
    layout = Layout.of(load_file(job.state))
    directions = Directions(job, layout)
    found = directions.findings()
    wanted = [place for place, each in enumerate(job.contributions) if each.audited]
    passes = Passes()
    tried = dict(zip(wanted, _tried(job, layout, directions.norms, wanted, passes), strict=True))
    results = [
        Measured(
            key=each.key,
            blob=each.blob,
            finding=found[place],
            change=tried.get(place, (0, 0))[0],
            error=tried.get(place, (0, 0))[1],
            norm=directions.norms[place],
            alignment=directions.alignments[place],
            taken=each.taken,
            audited=each.audited,
        )
        for place, each in enumerate(job.contributions)
    ]
    return AuditReply(
        results=tuple(results),
        forward_passes=job.forward_passes,
        seconds=time.process_time(),
        pass_seconds=passes.seconds,
    )


class Directions:
    """Norms, alignments and sketches of a round's contributions. Holds one decoded contribution."""

    def __init__(self, job: AuditJob, layout: Layout) -> None:
        self._job, self._layout = job, layout
        sizes = {name: math.prod(shape) for name, shape in layout}
        self._places = positions(sizes, job.seed)
        more = positions(sizes, job.seed, ALIGNMENT_VALUES)
        self.norms: list[float] = []
        self._sketches: list[Sketch] = []
        directions: list[Sketch] = []
        for each in job.contributions:
            update = decoded(each, job.spec, layout)
            self.norms.append(math.sqrt(_dot(update, update)))
            self._sketches.append(sketch_of(update, self._places))
            directions.append(sketch_of(update, more))
        self.alignments = alignments(directions, [each.trusted for each in job.contributions])

    def findings(self) -> list[Finding]:
        """What each contribution is; the sketches of this round are kept for the next ones."""
        file, round = Path(self._job.sketches), self._job.round
        earlier, rounds = _sketches(file, self._length, round)
        candidates = [
            Candidate(sketch, norm, each.seen, each.trusted)
            for sketch, norm, each in zip(self._sketches, self.norms, self._job.contributions, strict=True)
        ]
        found = findings(candidates, list(earlier))
        own = np.full(len(self._sketches), round)
        kept = {
            "sketches": np.concatenate([earlier, np.stack(self._sketches)])[-KEPT:],
            "rounds": np.concatenate([rounds, own])[-KEPT:],
        }
        write_atomic(file, save(kept))
        return found

    @property
    def _length(self) -> int:
        return sum(map(len, self._places.values()))


def sketch_of(update: Tensors, places: Mapping[str, npt.NDArray[np.int64]]) -> Sketch:
    """The values at some places of each tensor."""
    return np.concatenate([update[name].reshape(-1)[chosen] for name, chosen in places.items()])


def _sketches(file: Path, length: int, round: int) -> tuple[Sketches, npt.NDArray[np.int64]]:
    """Those of rounds before `round`, and their rounds: a round that is audited again is none of them."""
    with suppress(OSError, SafetensorError):  # there is none yet, or it is damaged: then they begin again
        found = load_file(file)
        sketches, rounds = found["sketches"], found["rounds"]
        if sketches.shape[1] == length:
            return sketches[rounds < round], rounds[rounds < round]
    return np.zeros((0, length), np.float32), np.zeros(0, np.int64)


def decoded(each: Tried, spec: RunSpec, layout: Layout) -> Tensors:
    """A contribution's values."""
    decoder = _decoder(each, spec, layout)
    return {name: decoder.tensor(name) for name, _ in layout}


def _decoder(each: Tried, spec: RunSpec, layout: Layout) -> Decoder:
    return Decoder(Path(each.path).read_bytes(), spec.codec, layout)


def _dot(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    return math.fsum(float(np.vdot(one[name].astype(np.float64), other[name])) for name in one)


class Passes:
    """Forward passes, and the computing time that they take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def losses(self, model: Any, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
        """Nats a token of each sample."""
        began = time.process_time()
        found = [summed_loss(model, sample) / sample.trained_tokens for sample in samples]
        self.seconds += time.process_time() - began
        return np.array(found)


def _tried(
    job: AuditJob, layout: Layout, norms: Sequence[float], wanted: Sequence[int], passes: Passes
) -> Iterator[tuple[int, int]]:
    """Change of the loss and its standard error by each wanted contribution, in nanonats a token."""
    if not wanted:
        return
    with quiet():
        model = attach(load(Path(job.base), torch.float32, job.spec.model.attention), job.spec.train.target)
    model.eval()
    params = dict(trainable_parameters(model))
    samples, state = list(_samples(job)), load_file(job.state)
    _set(params, state.items())
    before = passes.losses(model, samples)
    for place in wanted:
        decoder = _decoder(job.contributions[place], job.spec, layout)
        taken = job.contributions[place].taken / MILLION
        share = np.float32(tried_step(job.spec, norms[place], layout, taken))
        _set(params, ((name, state[name] - share * decoder.tensor(name)) for name, _ in layout))
        yield summary(passes.losses(model, samples) - before)


def tried_step(spec: RunSpec, norm: float, layout: Layout, taken: float) -> float:
    """What an update is multiplied by for its trial: STEP_SHARE of a step of the outer optimizer, and no more
    than the fold takes. AdamW's steps have a size of their own.

    taken: the share of the update that is not clipped.
    """
    if not isinstance(spec.outer, AdamW):
        return spec.outer.lr * min(STEP_SHARE, taken)
    return STEP_SHARE * spec.outer.lr * math.sqrt(layout.parameters) / (norm or 1)


def summary(differences: npt.NDArray[np.float64]) -> tuple[int, int]:
    """Mean and standard error in nanonats; MOST and 0 where a loss is not finite."""
    if not np.isfinite(differences).all():
        return MOST, 0
    change = min(MOST, max(-MOST, round(NANO * float(np.mean(differences)))))
    if len(differences) < 2:
        return change, MOST
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return change, min(MOST, round(NANO * error))


def _set(params: Mapping[str, torch.nn.Parameter], values: Iterable[tuple[str, Array]]) -> None:
    with torch.no_grad():
        for name, array in values:
            params[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _samples(job: AuditJob) -> Iterator[Sample]:
    shards = {}
    for each in job.samples:
        if each.path not in shards:
            data = Path(each.path).read_bytes()
            shards[each.path] = parse_shard(data, job.sequence_length, job.vocab_size)
        sample = shards[each.path].sample(each.row)
        if sample.trained_tokens:
            yield sample


if __name__ == "__main__":
    main()
