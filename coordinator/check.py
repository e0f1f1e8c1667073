"""`coordinator check`: validate a whole run without starting it, and tell what it will need."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from barnraise.codec import typical_blob
from barnraise.edge.base_model import pin_revision, resolve
from barnraise.edge.trainable import layout, parameter_count
from barnraise.errors import UserError
from barnraise.footprint import MICRO_BATCH_CPU, MICRO_BATCH_GPU, memory_needed
from barnraise.ids import blob_hash
from barnraise.outer import outer_for
from barnraise.spec import Lora, RunSpec
from barnraise.state import Layout
from coordinator.advice import advise, contributions, exchange_seconds, objections, told
from coordinator.dataset.build import Built, build
from coordinator.forms import check_forms

log = logging.getLogger("coordinator.check")

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
    """One contribution; of a sparse one about."""
    up: int
    """Per round and peer, about: its own blob once and those of others passed on."""
    down: int
    """Per round and peer, at most: the others' blobs."""
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
    blob, count = typical_blob(spec.codec, tensors), contributions(spec, peers)
    log_per_round = count * (blob + _CLOSE_ENTRY)

    def memory(samples: int) -> int:
        tokens = samples * spec.data.sequence_length
        return memory_needed(base_params, trainable, spec.train.target, spec.train.method, tokens=tokens)

    return Needs(
        base_params=base_params,
        trainable_params=trainable,
        peer_memory=memory(MICRO_BATCH_CPU),
        gpu_memory=memory(MICRO_BATCH_GPU),
        # A fold holds the state before and after it, and the round's blobs.
        coordinator_memory=_COORDINATOR_RUNTIME + 2 * state + count * blob,
        blob=blob,
        up=count * blob,
        down=min(peers - 1, count) * blob,
        checkpoint=state,
        log_per_round=log_per_round,
        disk=spec.checkpoint.keep * (state + spec.checkpoint.every * log_per_round),
    )


def report(spec: RunSpec, cache: Path, peers: int, uplink_mbit: float) -> str:
    """All that `prepare` does for a run, but nothing is kept; then its needs as text.

    Raises SpecError, ModelUnavailable, DiskFull, and DatasetError for data that cannot be trained on
    or that never trains the end of an answer; UserError for no peers.
    """
    if peers < 1:
        raise UserError(f"{peers} peers cannot train", fix="Reckon with at least 1.")
    revision = pin_revision(spec.model.source, spec.model.revision, cache)
    base = resolve(spec.model.source, revision, cache, progress=log.info)
    check_forms(spec, base.path)
    tensors = layout(base.path, spec.train.target)
    built = build(spec, base.path, blob_hash, log.info)
    found = needs(spec, parameter_count(base.path), tensors, peers)
    return render(spec, found, built, tensors, peers, uplink_mbit)


def render(spec: RunSpec, found: Needs, built: Built, tensors: Layout, peers: int, uplink_mbit: float) -> str:
    """The report as plain text."""
    advice = advise(spec, tensors, peers, uplink_mbit)
    exchange = exchange_seconds(found.blob, contributions(spec, peers), uplink_mbit)
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
                ("sent per round and volunteer", f"about {_size(found.up)}"),
                ("received per round and volunteer", f"at most {_size(found.down)}"),
                (
                    "time to exchange",
                    f"{exchange:.1f} s at {uplink_mbit:g} Mbit/s up,"
                    f" {exchange / spec.round.seconds:.1%} of a round of {spec.round.seconds:g} s",
                ),
            ],
        ),
        (
            f"recommended at {uplink_mbit:g} Mbit/s up",
            [
                ("codec", f"{told(advice.codec)}, because {advice.because}"),
                ("round.seconds", f"{advice.seconds} or more: five minutes, and ten times the exchange"),
                ("round.grace", f"{advice.grace} or more: one and a half times the exchange"),
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
    parts.append(_verdict(objections(spec, tensors, peers, uplink_mbit)))
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
