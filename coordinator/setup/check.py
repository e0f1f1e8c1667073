"""`coordinator check`: validate a whole run without starting it, and tell what it will need."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import assert_never

from barnraise.contract.spec import Lora, RunSpec
from barnraise.contract.state import Layout
from barnraise.core.errors import UserError
from barnraise.core.ids import blob_hash
from barnraise.core.units import format_bytes
from barnraise.fold.codec import typical_blob
from barnraise.fold.outer import outer_for
from barnraise.models.base_model import pin_revision, resolve
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, MICRO_BATCH_GPU, memory_needed
from barnraise.models.trainable import layout, parameter_count
from coordinator.dataset.build import BuiltDataset, build
from coordinator.setup.check_forms import check_forms
from coordinator.setup.licences import NotRedistributable, Redistributable, check_licence
from coordinator.setup.recommend import (
    codec_setting,
    contributions,
    exchange_seconds,
    find_warnings,
    recommend,
)

log = logging.getLogger("coordinator.setup.check")

_FP32 = 4
_COORDINATOR_RUNTIME = 500_000_000
"""Bytes beside states and blobs: measured 0.44 GB with the libraries loaded and a tiny model."""
_CLOSE_ENTRY = 1_000
"""Bytes of a close for each contribution that it lists: measured 923, and 336 once."""
_KEPT_BESIDE = 3
"""Checkpoints that stay beside the newest: the promoted one, the best, and where a replay starts."""
_MERGED = 2.0
"""Bytes of a parameter in bf16."""
_GGUF = {"f16": 2.0, "q8_0": 34 / 32}
"""Bytes of a parameter: Q8_0 adds a scale of 2 bytes to 32 values of one."""


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
    forms: int
    """One promoted checkpoint merged and as GGUF, as far as that is asked for."""
    log_per_round: int
    """Contributions and close of one round."""
    log: int
    """Contributions that are kept in time, at most."""
    disk: int
    """The coordinator's, in time: its checkpoints in all forms, and the log."""


def needs(spec: RunSpec, base_params: int, tensors: Layout, peers: int) -> Needs:
    """Reckon with `peers` volunteers (at least 1) and the trainable tensors' layout. Pure arithmetic."""
    trainable = tensors.parameters
    state = _FP32 * trainable * (1 + len(outer_for(spec.outer, 0).buffer_names))
    blob, count = typical_blob(spec.codec, tensors), contributions(spec, peers)
    log_per_round = count * (blob + _CLOSE_ENTRY)
    # What follows the newest checkpoint stays whatever the limit: a restart folds it.
    log_kept = max(int(spec.checkpoint.log_gigabytes * 1e9), spec.checkpoint.every * log_per_round)
    forms = _forms(spec, base_params)

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
        forms=forms,
        log_per_round=log_per_round,
        log=log_kept,
        disk=(spec.checkpoint.keep + _KEPT_BESIDE) * (state + forms) + log_kept,
    )


def _forms(spec: RunSpec, base_params: int) -> int:
    merged = spec.checkpoint.merged and isinstance(spec.train.target, Lora)
    gguf = spec.checkpoint.gguf
    return int(base_params * ((_MERGED if merged else 0) + (_GGUF[gguf] if gguf else 0)))


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


def render(
    spec: RunSpec, found: Needs, built: BuiltDataset, tensors: Layout, peers: int, uplink_mbit: float
) -> str:
    """The report as plain text."""
    advice = recommend(spec, tensors, peers, uplink_mbit)
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
                    f"{format_bytes(found.peer_memory)} to train on a CPU,"
                    f" {format_bytes(found.gpu_memory)} on a GPU",
                ),
                ("memory of the coordinator", format_bytes(found.coordinator_memory)),
                ("a contribution", format_bytes(found.blob)),
                ("sent per round and volunteer", f"about {format_bytes(found.up)}"),
                ("received per round and volunteer", f"at most {format_bytes(found.down)}"),
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
                ("codec", f"{codec_setting(advice.codec)}, because {advice.because}"),
                ("round.seconds", f"{advice.seconds} or more: five minutes, and ten times the exchange"),
                ("round.grace", f"{advice.grace} or more: one and a half times the exchange"),
            ],
        ),
        (
            "disk of the coordinator",
            [
                ("a checkpoint, one in " + _count(checkpoint.every, "round"), format_bytes(found.checkpoint)),
                *([("its other forms, once promoted", format_bytes(found.forms))] if found.forms else []),
                (
                    "the log of a round",
                    f"{format_bytes(found.log_per_round)}; the last"
                    f" {_count(found.log // found.log_per_round, 'round')} can be replayed",
                ),
                (
                    "in all, at most",
                    f"{format_bytes(found.disk)}: {checkpoint.keep + _KEPT_BESIDE} checkpoints and"
                    f" {format_bytes(found.log)} of the log",
                ),
            ],
        ),
    ]
    sections.append(("what anybody may have", _public(spec, built)))
    width = max(len(label) for _, rows in sections for label, _ in rows)
    parts = [
        "\n".join([title, *(f"  {label:<{width}}  {value}" for label, value in rows)])
        for title, rows in sections
    ]
    parts.append(f"the first sample: what stands between ⟦ and ⟧ is trained on\n{_indented(built.preview)}")
    parts.append(_verdict(find_warnings(spec, tensors, peers, uplink_mbit)))
    return "\n\n".join(parts)


def _public(spec: RunSpec, built: BuiltDataset) -> list[tuple[str, str]]:
    """What the run's own server will show, and why."""
    asked = spec.checkpoint
    forms = ["as trained"]
    if asked.merged and isinstance(spec.train.target, Lora):
        forms.append("merged into the base model")
    if asked.gguf:
        forms.append(f"as GGUF ({asked.gguf})")
    main = f"the newest whose held-out loss is within {asked.promote_within:.1%} of the best"
    if not asked.held_out_tokens:
        main = "the newest: checkpoint.held_out_tokens is 0"
    elif not built.held_out.shards:
        main = "the newest: no text is held out"
    return [
        ("checkpoints", ", ".join(forms)),
        ("the checkpoint called main", main),
        ("the base model", _passed_on(check_licence(spec.model.licence, "model.licence"))),
        ("the data", _passed_on(check_licence(spec.data.licence, "data.licence"))),
    ]


def _passed_on(judged: Redistributable | NotRedistributable) -> str:
    match judged:
        case Redistributable(licence):
            return f"yes, by {licence}"
        case NotRedistributable(reason):
            return f"no: {reason}"
        case _:
            assert_never(judged)


def _verdict(told: Sequence[str]) -> str:
    if not told:
        return "All is well: start it with `coordinator serve`."
    return "\n".join(["It can run, but:", *(f"  - {line}" for line in told)])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
