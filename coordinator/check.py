"""`coordinator check`: validate a whole run without starting it, and tell what it will need."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from barnraise.codec import blob_size
from barnraise.edge.base_model import pin_revision, resolve
from barnraise.edge.trainable import layout, parameter_count
from barnraise.errors import UserError
from barnraise.footprint import MICRO_BATCH_CPU, MICRO_BATCH_GPU, memory_needed
from barnraise.ids import blob_hash
from barnraise.outer import outer_for
from barnraise.spec import Dense, Lora, RunSpec
from barnraise.state import Layout
from coordinator.dataset.build import Built, build

log = logging.getLogger("coordinator.check")

UPLINK_MBIT = 10
"""Uplink to reckon with, in Mbit/s: what many homes have."""
LARGEST_SHARE = 0.1
"""Of a round that sending may take before the report warns of it."""

_FP32 = 4
_COORDINATOR_RUNTIME = 500_000_000
"""Bytes beside states and blobs: measured 0.44 GB with the libraries loaded and a tiny model."""
_CLOSE_ENTRY = 1_000
"""Bytes of a close for each contribution that it lists: measured 923, and 336 once."""


@dataclass(frozen=True)
class Needs:
    """What a run asks of its machines, lines and disks. Bytes, but for what says otherwise."""

    base_params: int
    """Values in the base model."""
    trainable_params: int
    """Values that are trained."""
    peer_memory: int
    """Memory of a volunteer's machine that trains on its CPU."""
    gpu_memory: int
    """Memory of one that trains on a GPU, device and host together."""
    coordinator_memory: int
    blob: int
    """One contribution."""
    up: int
    """At most, per round and peer: every other peer and the coordinator fetch its blob from it."""
    down: int
    """Per round and peer: the others' blobs."""
    up_seconds: float
    """For `up` at UPLINK_MBIT."""
    checkpoint: int
    """The tensors of one checkpoint."""
    log_per_round: int
    """Contributions and close of one round."""
    disk: int
    """The coordinator's, in time: its checkpoints, and the log since the oldest of them."""


def needs(spec: RunSpec, base_params: int, tensors: Layout, peers: int) -> Needs:
    """Reckon with `peers` volunteers (at least 1) and the trainable tensors' layout. Pure arithmetic."""
    trainable = tensors.parameters
    state = _FP32 * trainable * (1 + len(outer_for(spec.outer, 0).buffer_names))
    blob = blob_size(spec.codec, tensors)
    log_per_round = peers * (blob + _CLOSE_ENTRY)
    up = peers * blob

    def memory(samples: int) -> int:
        tokens = samples * spec.data.sequence_length
        return memory_needed(base_params, trainable, spec.train.target, spec.train.method, tokens=tokens)

    return Needs(
        base_params=base_params,
        trainable_params=trainable,
        peer_memory=memory(MICRO_BATCH_CPU),
        gpu_memory=memory(MICRO_BATCH_GPU),
        # A fold holds the state before and after it, and the round's blobs.
        coordinator_memory=_COORDINATOR_RUNTIME + 2 * state + peers * blob,
        blob=blob,
        up=up,
        down=(peers - 1) * blob,
        up_seconds=up * 8 / (UPLINK_MBIT * 1e6),
        checkpoint=state,
        log_per_round=log_per_round,
        disk=spec.checkpoint.keep * (state + spec.checkpoint.every * log_per_round),
    )


def warnings(spec: RunSpec, found: Needs) -> list[str]:
    """What will not go well at UPLINK_MBIT, each with the setting to change."""
    can_lower = not isinstance(spec.codec, Dense) or spec.codec.bits > 2
    levers = ["codec.bits"] if can_lower else []
    if isinstance(spec.train.target, Lora):
        levers.append("train.target.rank")
    else:
        levers.append("what is trained: train an adapter")
    less = f"or lower {' or '.join(levers)}."
    told = []
    share = found.up_seconds / spec.round.seconds
    if share > LARGEST_SHARE:
        enough = math.ceil(found.up_seconds / LARGEST_SHARE)
        told.append(
            f"sending takes {share:.0%} of a round, above {LARGEST_SHARE:.0%}, so that too little is trained."
            f" Set round.seconds to {enough} or more, {less}"
        )
    if found.up_seconds > spec.round.grace:
        told.append(
            f"sending takes longer than round.grace ({spec.round.grace:g} s), so some contributions will be"
            f" late. Set round.grace to {math.ceil(found.up_seconds)} or more, {less}"
        )
    return told


def report(spec: RunSpec, cache: Path, peers: int) -> str:
    """All that `prepare` does for a run, but nothing is kept; then its needs as text.

    Raises SpecError, ModelUnavailable, DiskFull, and DatasetError for data that cannot be trained on
    or that never trains the end of an answer; UserError for no peers.
    """
    if peers < 1:
        raise UserError(f"{peers} peers cannot train", fix="Reckon with at least 1.")
    revision = pin_revision(spec.model.source, spec.model.revision, cache)
    base = resolve(spec.model.source, revision, cache, progress=log.info)
    tensors = layout(base.path, spec.train.target)
    built = build(spec, base.path, blob_hash, log.info)
    return render(spec, needs(spec, parameter_count(base.path), tensors, peers), built, peers)


def render(spec: RunSpec, found: Needs, built: Built, peers: int) -> str:
    """The report as plain text."""
    target = spec.train.target
    share = found.trainable_params / found.base_params
    what = f"LoRA of rank {target.rank}" if isinstance(target, Lora) else "all parameters"
    data, checkpoint = built.index, spec.checkpoint
    sections: list[tuple[str, list[tuple[str, str]]]] = [
        (
            f"{spec.name}: the model",
            [
                ("base model", f"{spec.model.source}, {found.base_params:,} parameters"),
                ("trained", f"{found.trainable_params:,} parameters ({share:.1%}): {what}"),
            ],
        ),
        (
            "the data",
            [
                ("records", f"{built.records:,}, of which {built.held_out_records:,} held out"),
                ("samples", f"{data.samples:,} of {data.sequence_length} tokens"),
                ("tokens", f"{data.tokens:,}, trained on {data.trained_tokens:,}"),
            ],
        ),
        (
            f"what {_count(peers, 'volunteer')} need, by estimate",
            [
                (
                    "memory of a volunteer",
                    f"{_size(found.peer_memory)} to train on a CPU, {_size(found.gpu_memory)} on a GPU",
                ),
                ("memory of the coordinator", _size(found.coordinator_memory)),
                ("a contribution", _size(found.blob)),
                ("sent per round and volunteer", f"at most {_size(found.up)}"),
                ("received per round and volunteer", _size(found.down)),
                (
                    "time to send",
                    f"{found.up_seconds:.1f} s at {UPLINK_MBIT} Mbit/s,"
                    f" {found.up_seconds / spec.round.seconds:.1%} of a round of {spec.round.seconds:g} s",
                ),
            ],
        ),
        (
            "disk of the coordinator",
            [
                ("a checkpoint", _size(found.checkpoint)),
                ("the log of a round", _size(found.log_per_round)),
                (
                    "in all",
                    f"{_size(found.disk)}: {_count(checkpoint.keep, 'checkpoint')}, one in"
                    f" {_count(checkpoint.every, 'round')}, and the log since the oldest",
                ),
            ],
        ),
    ]
    width = max(len(label) for _, rows in sections for label, _ in rows)
    parts = [
        "\n".join([title, *(f"  {label:<{width}}  {value}" for label, value in rows)])
        for title, rows in sections
    ]
    parts.append(f"the first sample: what stands between ⟦ and ⟧ is trained on\n{_indented(built.preview)}")
    parts.append(_verdict(warnings(spec, found)))
    return "\n\n".join(parts)


def _verdict(told: Sequence[str]) -> str:
    if not told:
        return "All is well: start it with `coordinator serve`."
    return "\n".join(["It can run, but:", *(f"  - {line}" for line in told)])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(count: int) -> str:
    """Bytes in the unit that fits, by thousands."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}"
